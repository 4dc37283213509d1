"""What insitu asks of the world, as role-named Protocols; `wiring` picks who answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from insitu.batch import Blob
from insitu.errors import InsituError
from insitu.settings import DeployTarget

RUN_KEY = "insitu.run_key"
"""The tag by which jobs, experiments and registered versions tell of their run."""


class BlobStore(Protocol):
    """One container of blobs; names are relative POSIX paths.

    Every method raises `BackendUnavailable` when the store gives no answer, and `StoreRefused` when
    the container is gone or may not be used.
    """

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Yield the blobs under *prefix*, in name order."""
        ...

    def names(self, prefix: str = "") -> Iterator[str]:
        """Yield the names under *prefix*, in name order; cheaper than `list`, which knows versions."""
        ...

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Yield what names under *prefix* have up to their next slash, in name order: one level, however much below."""
        ...

    def stat(self, name: str) -> Blob:
        """Return the blob's current version; raise `BlobNotFound`."""
        ...

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        """Return *length* bytes from *offset* (all by default), at most to the end.

        Raises:
            BlobNotFound: There is no such blob.
            BlobChanged: *etag* is given and is not the blob's; no byte of another version is returned.
        """
        ...

    def create(self, name: str, data: bytes) -> Blob:
        """Write a new blob in one piece; raise `BlobExists`, `StorageFull`."""
        ...

    def replace(self, name: str, data: bytes, *, etag: str) -> Blob:
        """Overwrite the version *etag*; raise `BlobNotFound`, `BlobChanged`, `StorageFull`."""
        ...

    def delete(self, name: str, *, etag: str) -> None:
        """Remove the version *etag*; raise `BlobNotFound`, `BlobChanged`."""
        ...


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, found and wanted, and what to do."""

    name: str
    ok: bool
    found: str
    wanted: str
    next_action: str = ""


@runtime_checkable
class Diagnosable(Protocol):
    """What can tell whether it is usable: any adapter that offers `checks`."""

    def checks(self) -> Sequence[Check]:
        """Look at everything that a run needs of it; never raises, changes nothing, and takes seconds."""
        ...


@dataclass(frozen=True)
class Need:
    """What a job wants of its compute: amounts, and the containers that it reads there."""

    cores: int
    memory_bytes: int
    disk_bytes: int
    containers: tuple[str, ...] = ()


class Compute(Protocol):
    """The machine that trains."""

    def wake(self) -> None:
        """Start the machine if it is stopped and the site allows that; return when it runs, or its time is up."""
        ...

    def readiness(self, need: Need) -> Sequence[Check]:
        """Compare the machine with *need*; never raises for a machine that lacks something, and changes nothing."""
        ...


JobState = Literal["running", "completed", "failed", "canceled"]
JobPhase = Literal["queued", "preparing", "running"]


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands: how far one came that is under way, and the error of one that failed."""

    state: JobState
    error: InsituError | None = None
    phase: JobPhase = "running"


class TrainingJobs(Protocol):
    """Runs edge jobs next to the data."""

    @property
    def backend(self) -> str:
        """What people call this way of running jobs, e.g. `process`."""
        ...

    @property
    def poll_s(self) -> tuple[float, float]:
        """How many seconds to wait between two looks at a job: at first, and at most."""
        ...

    @property
    def limits_s(self) -> Mapping[JobPhase, float]:
        """How many seconds a job may be in a phase before it is canceled; a phase without a limit has none."""
        ...

    def submit(self, key: str, spec: Mapping[str, Any]) -> str:
        """Start the edge job *key*, or find the one that this key started; return its id.

        *spec* is what `insitu.edge.job` reads; raise `StorageFull`, `BackendUnavailable`.
        """
        ...

    def status(self, job_id: str) -> JobStatus:
        """Return where the job stands."""
        ...

    def log(self, job_id: str, offset: int) -> bytes:
        """Return the job's log from *offset* on."""
        ...

    def cancel(self, job_id: str) -> None:
        """End the job and every process that it started; return when they are gone. An ended job stays as it ended."""
        ...

    def output(self, job_id: str) -> Path:
        """Return the folder of what the job left (see `insitu.edge.job`)."""
        ...


@dataclass(frozen=True)
class ModelVersion:
    """One registered version of a model."""

    name: str
    version: str
    uri: str
    tags: Mapping[str, str] = field(default_factory=dict)


class ModelRegistry(Protocol):
    """Where runs are recorded, and model versions kept, tagged and named."""

    @property
    def place(self) -> str:
        """What people call the registry, without any secret: its address."""
        ...

    @property
    def archives_rejected(self) -> bool:
        """Whether models that the gate rejects are registered, too, as archived versions."""
        ...

    def record(self, model: str, run_key: str, job_id: str, tags: Mapping[str, str]) -> None:
        """Record the run *run_key* in the experiment *model*, once: its tags, and those named metric.NAME as metrics.

        *job_id* is what `TrainingJobs.submit` returned: where the registry runs jobs itself, that is the run.
        """
        ...

    def find(self, model: str, run_key: str) -> ModelVersion | None:
        """Return the version that the run *run_key* registered."""
        ...

    def register(self, model: str, run_key: str, folder: Path, tags: Mapping[str, str]) -> ModelVersion:
        """Register *folder* (MLflow format), once per run key; return the one version there is."""
        ...

    def versions(self, model: str) -> Sequence[ModelVersion]:
        """Return every version, oldest first; empty when the model is unknown."""
        ...

    def alias(self, model: str, alias: str) -> ModelVersion | None:
        """Return the version that *alias* names."""
        ...

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point *alias* at *version*."""
        ...

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Add or overwrite tags of a version."""
        ...

    def aliases(self, model: str) -> Mapping[str, str]:
        """Return the version that each alias names, those of other programs, too."""
        ...

    def remove(self, model: str, version: str) -> None:
        """Take a version with its files away, for good; where the registry keeps every version, it is archived.

        Its number is never given again. One that is gone is fine.
        """
        ...

    def archive(self, model: str, version: str) -> None:
        """Take a version out of what people choose from; `versions` leaves it out from now on."""
        ...

    def folder(self, version: ModelVersion) -> Path:
        """Return a local folder with the version's files; raise `RegistryFailed` when they are gone."""
        ...


@dataclass(frozen=True)
class Descriptor:
    """A pointer to bytes in a registry (OCI content descriptor)."""

    media_type: str
    digest: str
    size_bytes: int


class ImageRegistry(Protocol):
    """One repository of an image registry. Content is addressed by digest (`sha256:…`)."""

    @property
    def name(self) -> str:
        """What people call the repository, e.g. `127.0.0.1:5000/flights` or `oci:/srv/images/flights`."""
        ...

    def has_blob(self, digest: str) -> bool:
        """Tell whether the repository holds the blob."""
        ...

    def put_blob(self, descriptor: Descriptor, path: Path, on_bytes: Callable[[int], None] = ...) -> None:
        """Store the file *path* under its digest; raise `PublishFailed` when the bytes differ.

        *on_bytes* is told how many bytes of it are there or on their way; less than before when it starts anew.
        """
        ...

    def mount_blob(self, descriptor: Descriptor) -> bool:
        """Take the blob over from another repository of the same registry; tell whether it is here now, however.

        Of use before `put_blob`, in the place of `has_blob`: what is not here costs one request in all.
        """
        ...

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        """Store a manifest by digest."""
        ...

    def tag(self, tag: str, descriptor: Descriptor, content: bytes) -> None:
        """Point *tag* at the manifest."""
        ...

    def lock(self, tag: str) -> None:
        """Keep everybody from moving *tag*, where the registry can do that; raise `PublishFailed`."""
        ...

    def resolve(self, reference: str) -> tuple[Descriptor, bytes] | None:
        """Return the manifest that a tag or digest names, verified against its digest."""
        ...

    def local_blob(self, digest: str) -> Path | None:
        """Return the file that is the blob, for reading only; None when it would have to be fetched."""
        ...

    def fetch_blob(self, descriptor: Descriptor, path: Path) -> None:
        """Write the blob to *path*, verified against its digest; raise `PublishFailed`."""
        ...

    def referrers(self, digest: str) -> Sequence[Descriptor]:
        """Return the manifests that refer to *digest* (OCI `subject`), in digest order."""
        ...

    def attach(self, subject: str, *manifests: tuple[Descriptor, bytes]) -> None:
        """Store manifests that refer to *subject*, so that `referrers` has them; raise `PublishFailed`."""
        ...

    def tags(self) -> Sequence[str]:
        """Return the tags in name order, without those that are lists of referrers."""
        ...

    def untag(self, tag: str) -> None:
        """Let *tag* name nothing, locked or not; the manifest stays. A tag that is not there is fine."""
        ...

    def delete(self, digest: str) -> None:
        """Remove a manifest and the tags that name it; one that is not there is fine.

        Blobs that no other manifest needs go, too: at once in a layout, when the registry sees to it elsewhere.
        What refers to the manifest stays.
        """
        ...

    def reference(self, tag: str) -> str:
        """Return how other tools name the image (`host:port/name:tag`, `oci:folder:tag`)."""
        ...


class ImageDaemon(Protocol):
    """A daemon that the images of a site have to go through before they are tried and published."""

    def take(self, model: str, digest: str) -> None:
        """Have it take an image of the site's layout of *model*, unchanged.

        Raises:
            ImageFailed: It makes another image of it.
            NotReady: It refuses the image.
            AccessRefused, BackendUnavailable: It cannot be asked.
        """
        ...

    def check(self) -> Check:
        """Tell whether it answers; never raises."""
        ...


class Scorer(Protocol):
    """A running scoring server."""

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of one HTTP request; raise `ImageFailed` when nobody answers."""
        ...

    def peak_memory_bytes(self) -> int | None:
        """Return the most memory that the server took so far; None where nobody can tell."""
        ...


@dataclass(frozen=True)
class Isolation:
    """How a scoring server is kept in while its image is tried.

    Attributes:
        host: What runs it: `process` or `docker`.
        network: `none`, or `shared` with the machine where that cannot be kept from it.
        memory_limit_by: What ends it when it takes too much: `cgroup`, `rlimit` (its private memory alone) or `docker`.
    """

    host: str
    network: Literal["none", "shared"]
    memory_limit_by: Literal["cgroup", "rlimit", "docker"]


SCORING_MEMORY_BYTES = 4_000_000_000
"""What a scoring server may take where nobody says how much."""


class ScoringHost(Protocol):
    """Runs an image and lets it be asked."""

    @property
    def isolation(self) -> Isolation:
        """How its servers are kept in."""
        ...

    def run(
        self, images: ImageRegistry, digest: str, memory_bytes: int = SCORING_MEMORY_BYTES
    ) -> AbstractContextManager[Scorer]:
        """Start the image, which may take *memory_bytes*, and wait until it is ready.

        Raises:
            OutOfMemory: It took more; also while it is asked.
            ImageFailed: It does not start; the reason is told.
        """
        ...


@dataclass(frozen=True)
class Release:
    """A published image, and how to tell that a server answers as the model does.

    Attributes:
        digest: Of the image: what a target runs.
        images: Where the image is to be had.
        answers: Asks a server with rows of the data, and raises `ImageFailed` when it answers otherwise.
        sample: A request that holds nothing of the data, for servers that are elsewhere.
    """

    model: str
    version: str
    digest: str
    images: ImageRegistry
    answers: Callable[[Scorer], None] = field(repr=False, compare=False)
    sample: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


class Target(Protocol):
    """A place that runs a model's image."""

    @property
    def settings(self) -> DeployTarget:
        """What model.toml says of it: its name, unique among the model's, and how it runs images."""
        ...

    @property
    def address(self) -> str:
        """Where people find what it runs."""
        ...

    def serves(self) -> str | None:
        """Return the digest of the image that it runs; None when it runs none; raise `BackendUnavailable`."""
        ...

    def put(self, release: Release) -> None:
        """Run the image in the place of what is there, once it has answered; else what is there stays.

        It can be repeated, wherever it was interrupted.

        Raises:
            DeployFailed: The target refuses the image, or the image does not answer there.
            BackendUnavailable: No answer.
        """
        ...


class WebApp(Protocol):
    """The web app at the site that is the relay."""

    @property
    def name(self) -> str:
        """What people call it: its address."""
        ...

    def health(self) -> Mapping[str, Any] | None:
        """Return what the relay says of itself; None when the app is not the relay, or nobody answers."""
        ...

    def readiness(self) -> Mapping[str, Any]:
        """Return what the relay says to a caller who has the key; raise `DeployFailed`, `BackendUnavailable`."""
        ...

    def publish(self, content: bytes) -> None:
        """Put a zip in the place of what is there; raise `DeployFailed`, `BackendUnavailable`: it may be done then."""
        ...
