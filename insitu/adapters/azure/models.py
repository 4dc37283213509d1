"""The model registry of an Azure Machine Learning workspace.

Numbers and aliases are settled in the site's state, where two writers cannot both win; the workspace shows
them. So whatever answer is lost, and whenever a process is killed, a run key has one version.

    versions/MODEL/N.json     which run has number N, and the parcel of its files
    aliases/MODEL/ALIAS.json  the version that the alias names
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from insitu import parcels
from insitu.adapters.azure.tracking import Experiments
from insitu.adapters.azure.workspace import Workspace, open_workspace
from insitu.crashpoints import crashpoint
from insitu.errors import BlobExists, BlobNotFound, InsituError, RegistryFailed, StateDamaged
from insitu.journal import read_json, write_json
from insitu.ports import RUN_KEY, BlobStore, Check, ModelVersion
from insitu.settings import AzureMlModels as ModelsSettings
from insitu.settings import AzureMlTraining, SiteSettings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import Model

_ALIAS = "insitu.alias."
_ASSET = "mlflow_model"


class AzureMlModels:
    """`ModelRegistry` of a workspace; files of versions are kept on site, too."""

    def __init__(self, settings: SiteSettings, state: BlobStore, work: Path) -> None:
        assert settings.azure
        assert isinstance(settings.models, ModelsSettings)
        self.workspace: Workspace = open_workspace(settings.azure)
        self.state, self.work = state, work
        self.archives_rejected = settings.models.archive_rejected
        self._experiments = Experiments(self.workspace, isinstance(settings.training, AzureMlTraining))

    @property
    def place(self) -> str:
        """The workspace's address."""
        return self.workspace.address

    def checks(self) -> Sequence[Check]:
        """Return whether the workspace answers; where it runs the jobs, they have asked that. Never raises."""
        answers = [] if self._experiments.jobs_are_runs else self.workspace.checks(None)
        if not all(check.ok for check in answers):
            return answers
        records = self._experiments.check()
        return [*answers, records] if records else answers

    def record(self, model: str, run_key: str, job_id: str, tags: Mapping[str, str]) -> None:
        """Record the run: in the job's own run where the workspace runs the jobs, else in one of its own."""
        self._experiments.record(model, run_key, job_id, tags)

    def find(self, model: str, run_key: str) -> ModelVersion | None:
        """Return the version that the run *run_key* registered, archived or not."""
        return next((v for v in self._all(model) if v.tags.get(RUN_KEY) == run_key), None)

    def register(self, model: str, run_key: str, folder: Path, tags: Mapping[str, str]) -> ModelVersion:
        """Register *folder* once per run key: its number is settled on site, then it is looked for and created."""
        known = {version.version: version for version in self._all(model)}
        for version in known.values():
            if version.tags.get(RUN_KEY) == run_key:
                return version
        parcel = parcels.send(self.state, folder)
        number = Numbers(self.state, model).of(run_key, parcel, taken=known)
        crashpoint("register:run-created")
        made = self._create(model, number, folder, parcel, {**tags, RUN_KEY: run_key})
        crashpoint("register:files-logged")
        return made

    def versions(self, model: str) -> Sequence[ModelVersion]:
        """Return every version that is not archived, oldest first."""
        return list(self._listed(model, "ACTIVE_ONLY"))

    def alias(self, model: str, alias: str) -> ModelVersion | None:
        """Return the version that *alias* names; raise `RegistryFailed` when the workspace has lost it."""
        with suppress(BlobNotFound):
            number = read_json(self.state, _alias_name(model, alias))["version"]
            return _version(self._require(model, number))
        return None

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point *alias* at *version*; a tag in the workspace shows it to people."""
        self._require(model, version)
        write_json(self.state, _alias_name(model, alias), {"version": version})
        crashpoint("alias:set")
        for other in self._all(model):
            if f"{_ALIAS}{alias}" in other.tags and other.version != version:
                self._retag(model, other.version, {}, without=f"{_ALIAS}{alias}")
        self.tag(model, version, {f"{_ALIAS}{alias}": "true"})

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Add or overwrite tags of a version."""
        self._retag(model, version, tags)

    def aliases(self, model: str) -> Mapping[str, str]:
        """Return the version that each alias names."""
        folder = f"aliases/{model}/"
        names = list(self.state.names(folder))
        return {
            name.removeprefix(folder).removesuffix(".json"): str(read_json(self.state, name)["version"])
            for name in names
        }

    def remove(self, model: str, version: str) -> None:
        """Archive the version: a workspace keeps all of them; what is kept on site of its files is taken away."""
        if self._get(model, version):
            self.archive(model, version)
        with suppress(BlobNotFound):
            number = read_json(self.state, _number_name(model, version))
            write_json(self.state, _number_name(model, version), number | {"files": {}, "removed": True})
        crashpoint("models:files-removed")
        rmtree(self.work / model / version, ignore_errors=True)

    def archive(self, model: str, version: str) -> None:
        """Take a version out of what people choose from."""
        self._require(model, version)
        self._ask(lambda client: client.models.archive(name=model, version=version))

    def folder(self, version: ModelVersion) -> Path:
        """Return the version's files: those kept on site, else those of the workspace if they are the same."""
        folder = self.work / version.name / version.version
        try:
            number = read_json(self.state, _number_name(version.name, version.version))
            parcel = number["files"]
        except BlobNotFound:
            raise _gone(version, "the site's state does not know this version") from None
        if number.get("removed"):
            raise _gone(version, "they were taken away by `insitu prune`")
        if folder.is_dir() and parcels.describe(folder) == parcel:
            return folder
        try:
            parcels.receive(self.state, parcel, folder)
        except (BlobNotFound, StateDamaged):
            self._download(version, parcel, folder)
        return folder

    def _create(
        self, model: str, number: str, folder: Path, parcel: parcels.Parcel, tags: Mapping[str, str]
    ) -> ModelVersion:
        """Create the version, unless it is there; when the answer is lost, look again."""
        if found := self._ours(model, number, tags):
            return found
        with TemporaryDirectory(prefix="insitu-") as temporary:
            copy = Path(temporary) / "model"  # the listed files and nothing else
            parcels.receive(self.state, parcel, copy)
            try:
                put = partial(_put, model=model, number=number, folder=copy, tags=tags)
                return _version(self.workspace.create(put, refused=RegistryFailed))
            except InsituError:
                if found := self._ours(model, number, tags):
                    return found
                raise

    def _ours(self, model: str, number: str, tags: Mapping[str, str]) -> ModelVersion | None:
        found = self._get(model, number)
        if found and (found.tags or {}).get(RUN_KEY) != tags[RUN_KEY]:
            raise RegistryFailed(
                f"{model} version {number} in {self.workspace.name} is of another run",
                next_action="start the run again: it takes the next number; let insitu alone register this model",
            )
        return _version(found) if found else None

    def _retag(self, model: str, version: str, tags: Mapping[str, str], without: str = "") -> None:
        found = self._require(model, version)
        before = dict(found.tags or {})
        found.tags = {key: value for key, value in (before | dict(tags)).items() if key != without}
        if found.tags != before:
            self._ask(lambda client: client.models.create_or_update(found))

    def _download(self, version: ModelVersion, parcel: parcels.Parcel, folder: Path) -> None:
        with TemporaryDirectory(prefix="insitu-") as temporary:
            try:
                self._ask(lambda client: client.models.download(version.name, version.version, temporary))
            except RegistryFailed as error:
                raise _gone(version, f"nothing in the site's state, and {error.found} in the workspace") from None
            found = next((path.parent for path in sorted(Path(temporary).rglob("MLmodel"))), Path(temporary))
            if parcels.describe(found) != parcel:
                raise _gone(version, "other files in the workspace than were registered")
            parcels.send(self.state, found)
        parcels.receive(self.state, parcel, folder)

    def _require(self, model: str, version: str) -> Model:
        found = self._get(model, version)
        if found is None:
            raise RegistryFailed(
                f"there is no {model} version {version} in {self.workspace.name}",
                next_action="see the versions in the workspace, or `insitu history`",
            )
        return found

    def _get(self, model: str, version: str) -> Model | None:
        return self.workspace.find(lambda client: client.models.get(model, version=version), refused=RegistryFailed)

    def _all(self, model: str) -> Sequence[ModelVersion]:
        return list(self._listed(model, "ALL"))

    def _listed(self, model: str, view: str) -> Iterator[ModelVersion]:
        from azure.ai.ml.constants import ListViewType

        listed = self.workspace.find(
            lambda client: list(client.models.list(name=model, list_view_type=ListViewType[view])),
            refused=RegistryFailed,
        )
        found = map(_version, listed or ())
        yield from sorted((one for one in found if one.version.isdecimal()), key=lambda one: int(one.version))

    def _ask(self, call: Any) -> Any:
        return self.workspace.ask(call, refused=RegistryFailed)


@dataclass(frozen=True)
class Numbers:
    """The version numbers of a model, each of which one run has."""

    state: BlobStore
    model: str

    def of(self, run_key: str, parcel: parcels.Parcel, taken: Mapping[str, ModelVersion]) -> str:
        """Return the run's number: the one that it has, or the next; *taken* are those of the workspace."""
        prefix = f"versions/{self.model}/"
        claimed = [name.removeprefix(prefix).removesuffix(".json") for name in self.state.names(prefix)]
        for number in claimed:  # a process may have been killed before the workspace had it
            if number not in taken and self._run_of(number) == run_key:
                return number
        free = max(map(int, (*claimed, *taken)), default=0) + 1
        while not self._claim(str(free), run_key, parcel):
            free += 1
        return str(free)

    def _claim(self, number: str, run_key: str, parcel: parcels.Parcel) -> bool:
        try:
            self.state.create(
                _number_name(self.model, number), json.dumps({"run_key": run_key, "files": parcel}).encode()
            )
        except BlobExists:
            return self._run_of(number) == run_key
        return True

    def _run_of(self, number: str) -> str:
        return str(read_json(self.state, _number_name(self.model, number))["run_key"])


def _put(client: MLClient, model: str, number: str, folder: Path, tags: Mapping[str, str]) -> Model:
    from azure.ai.ml.entities import Model

    # The library names blobs for folder and content, and never writes over one: a try has a folder of its own.
    tried = folder.with_name(f"{folder.name}-{uuid4().hex[:8]}")
    copytree(folder, tried)
    wanted = Model(name=model, version=number, path=str(tried), type=_ASSET, tags=dict(tags))
    made: Model = client.models.create_or_update(wanted)
    return made


def _version(found: Model) -> ModelVersion:
    return ModelVersion(str(found.name), str(found.version), str(found.path), dict(found.tags or {}))


def _number_name(model: str, number: str) -> str:
    return f"versions/{model}/{number}.json"


def _alias_name(model: str, alias: str) -> str:
    return f"aliases/{model}/{alias}.json"


def _gone(version: ModelVersion, found: str) -> RegistryFailed:
    return RegistryFailed(
        f"the files of {version.name} version {version.version} are gone",
        found=found,
        next_action="restore the site's state from a backup, or move the alias to another version",
    )
