"""The one place that picks adapters: from settings to a site that works."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu.errors import RunUnderWay
from insitu.leases import LEASE_S, Held, Lease, of_model, take
from insitu.ports import BlobStore, Check, Compute, ImageRegistry, ModelRegistry, ScoringHost, TrainingJobs, WebApp
from insitu.provisioning import Part
from insitu.settings import (
    AzureBlobStore,
    AzureMlModels,
    AzureMlTraining,
    AzureStateStore,
    DockerTraining,
    FolderStore,
    ServicesSettings,
    SiteSettings,
    VmCompute,
    load_model,
)

if TYPE_CHECKING:
    from insitu.signing import Keys

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
        from insitu.adapters.staging import state_spec

        return state_spec(self.settings.state)

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
        if self.settings.registry_login == "azure":
            from insitu.adapters.azure.acr import acr_images

            assert self.settings.azure
            return acr_images(self.settings.azure, self.settings.registry, model)
        from insitu.images.client import RegistryImages

        return RegistryImages(self.settings.registry, model)

    @property
    def keys(self) -> Keys:
        """What signs decisions, and whose signatures count; looked up when they are used."""
        from insitu.adapters.signing_keys import own_key, trusted_keys
        from insitu.signing import Keys

        signing = self.settings.signing
        return Keys(own=lambda: own_key(signing), trusted=lambda: trusted_keys(signing))

    def has_job(self, run_key: str) -> bool:
        """Tell whether an edge job of this run is under way, which another process may have submitted."""
        return self._job(run_key) is not None

    def end_job(self, run_key: str) -> None:
        """End the edge job of this run, if one is under way."""
        if job_id := self._job(run_key):
            self.jobs.cancel(job_id)

    def _job(self, run_key: str) -> str | None:
        if self.settings.training.kind == "process":  # such a job ends with the process that started it
            return None
        from insitu.adapters.attempts import Attempts

        attempt = Attempts(self.state, run_key).newest()
        return attempt.job_id if attempt and self.jobs.status(attempt.job_id).state == "running" else None

    def sign_in_checks(self) -> Sequence[Check]:
        """Sign in to the public cloud, where the site has a side there; never raises."""
        if self.settings.azure is None:
            return []
        from insitu.adapters.azure.identity import azure_identity

        return [azure_identity(self.settings.azure).check("azure identity")]

    def age_checks(self) -> Sequence[Check]:
        """Tell what works today and should be seen to, of the public side; never raises."""
        if self.settings.azure is None:
            return []
        from insitu.adapters.azure.identity import azure_identity

        return azure_identity(self.settings.azure).age_checks("azure certificate")

    @contextmanager
    def only_run(
        self,
        model: str,
        run_key: str,
        *,
        flow_run: str | None = None,
        lease_s: float = LEASE_S,
        on_lost: Callable[[], None] = lambda: None,
    ) -> Iterator[Lease]:
        """Keep other runs of *model* out, here and on every machine that has this state; see `insitu.leases`.

        Raises:
            RunUnderWay: Another process runs this model now; the error's `winner` says who, and which run.
        """
        lease = take(self.state, of_model(model), run_key, lease_s=lease_s, flow_run=flow_run)
        if isinstance(lease, Held):
            busy = RunUnderWay(
                f"another run of {model} is under way at this site",
                found=str(lease),
                next_action="wait for it, then start again: a batch that is done is not done twice",
            )
            busy.winner = lease.told()
            raise busy
        with lease.kept_alive(on_lost):
            yield lease


def open_site(project: Path, settings: SiteSettings) -> Site:
    """Return the site that *settings* describe; nothing is contacted yet."""
    from insitu.adapters.local.scoring import ProcessScoringHost
    from insitu.network import use_network

    use_network(settings.network)
    state = _state(settings.state)
    return Site(
        project=project,
        settings=settings,
        state=state,
        compute=_compute(settings),
        jobs=_jobs(settings, state),
        models=_models(settings, state),
        scoring=ProcessScoringHost(settings.compute.work / "scoring"),
    )


def _compute(settings: SiteSettings) -> Compute:
    compute, mega = settings.compute, 1_000_000
    if isinstance(compute, VmCompute):
        from insitu.adapters.azure.compute import StackHubCompute

        return StackHubCompute(settings)
    from insitu.adapters.local.compute import LocalCompute

    return LocalCompute(compute.work, compute.reserve_memory_mb * mega, compute.reserve_disk_mb * mega)


def _jobs(settings: SiteSettings, state: BlobStore) -> TrainingJobs:
    folder = settings.compute.work / "jobs"
    if isinstance(settings.training, AzureMlTraining):
        from insitu.adapters.azure.jobs import AzureMlJobs

        return AzureMlJobs(settings, state, folder)
    if isinstance(settings.training, DockerTraining):
        from insitu.adapters.docker.jobs import DockerJobs

        return DockerJobs(settings, state, folder)
    from insitu.adapters.local.jobs import ProcessJobs

    ours = settings.services
    secrets = (settings.signing.key, ours.database, ours.login, ours.encryption_key)
    withheld = {secret.env for secret in secrets if secret and secret.env} | {"PREFECT_API_AUTH_STRING"}
    return ProcessJobs(folder, frozenset(withheld))


def _models(settings: SiteSettings, state: BlobStore) -> ModelRegistry:
    if isinstance(settings.models, AzureMlModels):
        from insitu.adapters.azure.models import AzureMlModels as WorkspaceModels

        return WorkspaceModels(settings, state, settings.compute.work / "models")
    from insitu.adapters.local.models import MlflowModels

    return MlflowModels(settings.models.uri, settings.models.artifacts)


def open_web_app(settings: SiteSettings) -> WebApp:
    """Return the web app of the site's relay; nothing is contacted yet."""
    from insitu.adapters.azure.app_service import AppService
    from insitu.network import use_network

    assert settings.relay
    use_network(settings.network)
    return AppService(settings.relay, settings.hub)


def open_parts(project: Path, settings: SiteSettings, environ: Mapping[str, str]) -> Iterator[Part]:
    """Yield what the site stands on, in the order that it is made in; some of it is looked at for that.

    Raises:
        SettingsError: A model's settings have problems.
        AccessRefused: Signing in is refused.
        BackendUnavailable: A service gives no answer.
    """
    from insitu.network import use_network

    use_network(settings.network)
    names = sorted(file.parent.name for file in project.glob("models/*/model.toml"))
    wanted = [load_model(project, name, environ).train.requirements for name in names]
    if settings.hub or settings.azure:
        from insitu.adapters.azure.provisioning import azure_parts

        yield from azure_parts(settings, sorted({one for model in wanted for one in model}))
    if isinstance(settings.training, DockerTraining):
        from insitu.adapters.docker.image import image_parts

        yield from image_parts(settings, wanted)


def service_login(services: ServicesSettings) -> str:
    """Return `USER:PASSWORD` of the site's Prefect API, made when there is none; raise `SettingsError`."""
    from insitu.adapters.service_secrets import login

    return login(services)


def service_keys(services: ServicesSettings) -> tuple[str, str | None]:
    """Return the key of Prefect's blocks, and the address of its database, if one is set; raise `SettingsError`."""
    from insitu.adapters.service_secrets import database, encryption_key

    return encryption_key(services), database(services)


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
