"""The one place that picks adapters: from settings to a site that works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import cache
from pathlib import Path
from typing import Any

from insitu.errors import RunUnderWay, naming_write_errors
from insitu.ports import BlobStore, Compute, ImageRegistry, ModelRegistry, ScoringHost, TrainingJobs
from insitu.settings import SiteSettings
from insitu.settings.schema import AzureBlobStore, AzureStateStore, FolderStore

CHAMPION = "champion"
"""The alias of the published version."""


@dataclass(frozen=True)
class Site:
    """A place with data and compute, ready to use."""

    project: Path
    settings: SiteSettings
    state: BlobStore
    compute: Compute
    jobs: TrainingJobs
    models: ModelRegistry
    scoring: ScoringHost

    @property
    def name(self) -> str:
        """The site's name, which is that of its settings file."""
        return self.settings.name

    def data(self, container: str) -> BlobStore:
        """Return the blobs of one container."""
        return open_blobs(self.data_spec(container))

    def data_spec(self, container: str) -> dict[str, Any]:
        """Return how an edge job opens the container, as JSON values; of a secret only where it is."""
        data = self.settings.data
        if isinstance(data, FolderStore):
            return {"kind": data.kind, "root": str(data.root / container)}
        return {"kind": data.kind, "container": container, "store": data.model_dump(mode="json")}

    @property
    def state_spec(self) -> dict[str, Any]:
        """Return how another process opens the site's state, as `data_spec` does for data."""
        state = self.settings.state
        if isinstance(state, FolderStore):
            return {"kind": state.kind, "root": str(state.root)}
        store = state.model_dump(mode="json", exclude={"container"})
        return {"kind": state.kind, "container": state.container, "store": store}

    def data_place(self, container: str) -> str:
        """Return where people find the container: its folder or its address."""
        data = self.settings.data
        return str(data.root / container) if isinstance(data, FolderStore) else f"{data.account_url}/{container}"

    def layout(self, model: str) -> ImageRegistry:
        """Return where images of *model* are assembled."""
        from insitu.adapters.local.images import LayoutImages

        return LayoutImages(self.settings.images.root / model)

    def registry(self, model: str) -> ImageRegistry:
        """Return where images of *model* are published."""
        if self.settings.registry is None:
            return self.layout(model)
        from insitu.images.client import RegistryImages

        return RegistryImages(self.settings.registry, model)

    @contextmanager
    def only_run(self, model: str) -> Iterator[None]:
        """Keep other runs of *model* on this machine out; the lock falls when the process ends, however it ends.

        Raises:
            RunUnderWay: Another process runs this model now.
        """
        state = self.settings.state
        path = (
            state.root / f".lock-{model}"
            if isinstance(state, FolderStore)
            else self.settings.compute.work / f".lock-{self.name}-{model}"
        )
        with ExitStack() as held:
            with naming_write_errors(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
                lock = held.enter_context(open(path, "a"))
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError as exc:
                raise RunUnderWay(
                    f"another run of {model} is under way at this site",
                    next_action="wait for it, then start again: a batch that is done is not done twice",
                ) from exc
            yield


def open_site(project: Path, settings: SiteSettings) -> Site:
    """Return the site that *settings* describe; nothing is contacted yet."""
    from insitu.adapters.local.compute import LocalCompute
    from insitu.adapters.local.jobs import ProcessJobs
    from insitu.adapters.local.models import MlflowModels
    from insitu.adapters.local.scoring import ProcessScoringHost

    work = settings.compute.work
    mega = 1_000_000
    return Site(
        project=project,
        settings=settings,
        state=_state(settings.state),
        compute=LocalCompute(work, settings.compute.reserve_memory_mb * mega, settings.compute.reserve_disk_mb * mega),
        jobs=ProcessJobs(work / "jobs"),
        models=MlflowModels(settings.models.uri, settings.models.artifacts),
        scoring=ProcessScoringHost(work / "scoring"),
    )


def open_blobs(spec: Mapping[str, Any]) -> BlobStore:
    """Return the container that `Site.data_spec` described; used by edge jobs too."""
    if spec["kind"] == "folder":
        return _open_folder(Path(spec["root"]))
    return _open_azure(AzureBlobStore.model_validate(spec["store"]), spec["container"])


def _state(settings: FolderStore | AzureStateStore) -> BlobStore:
    if isinstance(settings, FolderStore):
        return _open_folder(settings.root)
    return _open_azure(settings, settings.container)


@cache
def _open_folder(root: Path) -> BlobStore:
    """Return the one store of this folder in this process: it remembers the ETags that it has computed."""
    from insitu.adapters.local.blobs import FolderBlobs

    return FolderBlobs(root)


def _open_azure(settings: AzureBlobStore, container: str) -> BlobStore:
    from insitu.adapters.azure.blobs import AzureBlobs

    return AzureBlobs(settings, container)
