"""The one place that picks adapters: from settings to a site that works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu.ports import (
    BlobStore,
    Check,
    Compute,
    ImageDaemon,
    ImageRegistry,
    ModelRegistry,
    ScoringHost,
    Target,
    TrainingJobs,
    WebApp,
)
from insitu.provisioning import Part
from insitu.settings import (
    AzureMlModels,
    AzureMlTraining,
    BundleTarget,
    DeployTarget,
    DockerTraining,
    EndpointTarget,
    FolderStore,
    ImagesSettings,
    KubernetesTarget,
    NotifySettings,
    ServicesSettings,
    SiteSettings,
    VmCompute,
    load_model,
)
from insitu.stores import open_blobs, open_state
from insitu.waivers import Waivers
from insitu.withdrawals import Withdrawals

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
        from insitu.adapters.local.images import layouts_with
        from insitu.images.bases import KEPT, repository_with

        root, of_base = self.settings.images.root, partial(repository_with, self.settings.images.base)

        def beside(digest: str) -> Sequence[str]:
            return [*of_base(self.settings.registry, root / KEPT, digest), *layouts_with(root, model, digest)]

        if self.settings.registry_login == "azure":
            from insitu.adapters.azure.acr import acr_images

            assert self.settings.azure
            return acr_images(self.settings.azure, self.settings.registry, model, beside)
        from insitu.images.client import RegistryImages

        return RegistryImages(self.settings.registry, model, beside=beside)

    @property
    def daemon(self) -> ImageDaemon | None:
        """What images have to go through; None where nothing is."""
        if self.settings.images.builder != "docker":
            return None
        from insitu.adapters.docker.builder import DockerBuilder

        return DockerBuilder(self.settings.images)

    @property
    def keys(self) -> Keys:
        """What signs decisions, and whose signatures count; looked up when they are used."""
        from insitu.adapters.signing_keys import own_key, trusted_keys
        from insitu.signing import Keys

        signing = self.settings.signing
        return Keys(own=lambda: own_key(signing), trusted=lambda: trusted_keys(signing))

    def withdrawals(self, model: str) -> Withdrawals:
        """Return the rollbacks of *model* here."""
        return Withdrawals(self.state, self.keys, self.name, model)

    def waivers(self, model: str) -> Waivers:
        """Return what people let leave in *model* although the scan does not."""
        gate = self.settings.gate
        return Waivers(self.state, self.keys, self.name, model, gate.allow_waivers, tuple(gate.approvers))

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

    def target(self, model: str, wanted: DeployTarget) -> Target:
        """Return a place that runs images of *model*, as model.toml describes it; nothing is contacted yet."""
        if isinstance(wanted, BundleTarget):
            from insitu.adapters.local.drop import BundleDrop

            return BundleDrop(model, wanted)
        if isinstance(wanted, KubernetesTarget):
            from insitu.adapters.local.kubernetes import KubernetesTarget as Cluster

            return Cluster(model, wanted, self.registry(model).name)
        if isinstance(wanted, EndpointTarget):
            from insitu.adapters.azure.endpoint import EndpointTarget as OnlineEndpoint
            from insitu.adapters.azure.workspace import open_workspace

            assert self.settings.azure
            return OnlineEndpoint(model, wanted, self.registry(model).name, open_workspace(self.settings.azure))
        from insitu.adapters.docker.target import DockerTarget as DockerHostTarget

        anonymous = self.settings.registry and self.settings.registry_login == "none"
        pull_from = self.registry(model).name if anonymous else None
        return DockerHostTarget(model, wanted, pull_from, self.layout(model), self.settings.images.root / model)


def open_site(project: Path, settings: SiteSettings) -> Site:
    """Return the site that *settings* describe; nothing is contacted yet."""
    from insitu.network import use_network

    use_network(settings.network)
    state = open_state(settings.state)
    return Site(
        project=project,
        settings=settings,
        state=state,
        compute=_compute(settings),
        jobs=_jobs(settings, state),
        models=_models(settings, state),
        scoring=_scoring(settings),
    )


def _scoring(settings: SiteSettings) -> ScoringHost:
    from insitu.adapters.local.scoring import ProcessScoringHost

    images, process = settings.images, ProcessScoringHost(settings.compute.work / "scoring")
    if images.smoke == "process" or (images.smoke == "auto" and _has_no_daemon(images)):
        return process
    from insitu.adapters.docker.host import DockerHost
    from insitu.adapters.docker.scoring import DockerOrProcess, DockerScoringHost

    container = DockerScoringHost(DockerHost(images.docker_host, named="docker_host of [images]"))
    return container if images.smoke == "docker" or images.builder == "docker" else DockerOrProcess(container, process)


def _has_no_daemon(images: ImagesSettings) -> bool:
    """Tell whether nobody asks for a Docker daemon and this machine has none, or no SDK: then it is not imported."""
    there = Path(images.docker_host.removeprefix("unix://")).exists() and find_spec("docker") is not None
    return images.builder != "docker" and not there


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
    return ProcessJobs(folder, frozenset(withheld), settings.training.network == "none")


def _models(settings: SiteSettings, state: BlobStore) -> ModelRegistry:
    if isinstance(settings.models, AzureMlModels):
        from insitu.adapters.azure.models import AzureMlModels as WorkspaceModels

        return WorkspaceModels(settings, state, settings.compute.work / "models")
    from insitu.adapters.local.models import MlflowModels

    return MlflowModels(settings.models.uri, settings.models.artifacts)


def open_images(place: str, settings: SiteSettings | None = None) -> ImageRegistry:
    """Return the images at `oci:FOLDER` or `HOST/REPOSITORY`; raise `UsageError` for anything else.

    Args:
        place: See `insitu.images.references`.
        settings: Those of a site, whose login is used for its own registry.
    """
    from insitu.images.references import parse_place

    named = parse_place(place)
    if named.folder:
        from insitu.adapters.local.images import LayoutImages

        return LayoutImages(Path(named.folder))
    if settings and settings.registry == named.host and settings.registry_login == "azure":
        from insitu.adapters.azure.acr import acr_images

        assert settings.azure
        return acr_images(settings.azure, named.host, named.repository)
    from insitu.images.anonymous import Anonymous
    from insitu.images.client import RegistryImages

    return RegistryImages(named.host, named.repository, login=Anonymous(named.host))


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


def notice_addresses(notify: NotifySettings) -> Mapping[str, str]:
    """Return the address of each channel that is told how runs end: secrets; raise `SettingsError`."""
    from insitu.adapters.notice_addresses import addresses

    return addresses(notify)
