"""The MLflow model registry on a database of this site."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOSPC
from fcntl import LOCK_EX, flock
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from insitu.crashpoints import crashpoint
from insitu.errors import BackendUnavailable, RegistryFailed, StorageFull
from insitu.ports import RUN_KEY, ModelVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

ARCHIVED = "insitu.archived"


@dataclass(frozen=True)
class MlflowModels:
    """`ModelRegistry` over an MLflow tracking store.

    MLflow chooses version numbers itself, so a version is found by the run key in its tags, which
    MLflow writes in the same transaction as the version.
    """

    uri: str
    artifacts: Path
    archives_rejected: bool = False

    @cached_property
    def _database(self) -> Path | None:
        """The database, where it is a file."""
        path = unquote(urlparse(self.uri).path)
        return Path(path[1:] if path.startswith("//") else path) if self.uri.startswith("sqlite:") else None

    @property
    def _is_untouched(self) -> bool:
        """Whether nothing was ever registered: a question alone makes no database."""
        return self._database is not None and not self._database.exists()

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient

        make = partial(MlflowClient, tracking_uri=self.uri, registry_uri=self.uri)
        if self._database is None:
            return make()
        self._database.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(self._database.parent):  # MLflow makes its tables without looking who else does
            client = make()
            client.search_registered_models(max_results=1)
        return client

    @property
    def place(self) -> str:
        """The database's address."""
        return self.uri

    def record(self, model: str, run_key: str, job_id: str, tags: Mapping[str, str]) -> None:
        """Record the run once; *job_id* means nothing here."""
        with _translated(model):
            self._client.set_terminated(self._run(model, run_key, tags))

    def find(self, model: str, run_key: str) -> ModelVersion | None:
        """Return the version that the run *run_key* registered."""
        return next((v for v in self._versions(model) if v.tags.get(RUN_KEY) == run_key), None)

    def register(self, model: str, run_key: str, folder: Path, tags: Mapping[str, str]) -> ModelVersion:
        """Register *folder* once per run key: look first, then create run, files and version."""
        if (found := self.find(model, run_key)) is not None:
            return found
        with _translated(model):
            run_id = self._run(model, run_key, tags)
            crashpoint("register:run-created")
            self._client.log_artifacts(run_id, str(folder), "model")
            crashpoint("register:files-logged")
            self._ensure_model(model)
            source = f"{self._client.get_run(run_id).info.artifact_uri}/model"
            all_tags = {**tags, RUN_KEY: run_key}
            version = self._client.create_model_version(model, source, run_id=run_id, tags=all_tags)
            self._client.set_terminated(run_id)
            return _version(version)

    def versions(self, model: str) -> Sequence[ModelVersion]:
        """Return every version that is not archived, oldest first."""
        return sorted((v for v in self._versions(model) if ARCHIVED not in v.tags), key=lambda v: int(v.version))

    def _versions(self, model: str) -> list[ModelVersion]:
        if self._is_untouched:
            return []
        with _translated(model):
            found = self._client.search_model_versions(f"name = '{model}'", max_results=10_000)
        return list(map(_version, found))

    def alias(self, model: str, alias: str) -> ModelVersion | None:
        """Return the version that *alias* names."""
        if self._is_untouched:
            return None
        from mlflow.exceptions import MlflowException

        try:
            with _translated(model):
                return _version(self._client.get_model_version_by_alias(model, alias))
        except RegistryFailed as exc:
            cause = exc.__cause__
            if isinstance(cause, MlflowException) and cause.error_code in _ABSENT:
                return None
            raise

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point *alias* at *version*."""
        with _translated(model):
            self._client.set_registered_model_alias(model, alias, version)

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Add or overwrite tags of a version."""
        with _translated(model):
            for key, value in tags.items():
                self._client.set_model_version_tag(model, version, key, value)

    def aliases(self, model: str) -> Mapping[str, str]:
        """Return the version that each alias names."""
        from mlflow.exceptions import MlflowException

        if self._is_untouched:
            return {}
        with _translated(model):
            try:
                found = self._client.get_registered_model(model).aliases
            except MlflowException as exc:
                if exc.error_code in _ABSENT:
                    return {}
                raise
        return {alias: str(version) for alias, version in found.items()}

    def remove(self, model: str, version: str) -> None:
        """Remove the files of a version, then the version; its run with the metrics stays. One that is gone is fine."""
        there = next((one for one in self._versions(model) if one.version == version), None)
        if there is None:
            return
        folder = Path(unquote(urlparse(there.uri).path))
        if folder.is_relative_to(self.artifacts.resolve()):  # what others have registered lies elsewhere
            shutil.rmtree(folder, ignore_errors=True)
        crashpoint("models:files-removed")
        with _translated(model):
            self._client.delete_model_version(model, version)

    def archive(self, model: str, version: str) -> None:
        """Mark a version as archived."""
        self.tag(model, version, {ARCHIVED: "true"})

    def folder(self, version: ModelVersion) -> Path:
        """Return the version's files, where MLflow keeps them."""
        folder = Path(unquote(urlparse(version.uri).path))
        if not (folder / "MLmodel").is_file():
            raise RegistryFailed(
                f"the files of {version.name} version {version.version} are gone",
                found=f"no MLmodel in {folder}",
                next_action="restore the folder from a backup, or move the alias to another version",
            )
        return folder

    def _run(self, model: str, run_key: str, tags: Mapping[str, str]) -> str:
        """Return the MLflow run of this run key, created at need."""
        experiment = self._client.get_experiment_by_name(model)
        experiment_id = (
            experiment.experiment_id
            if experiment
            else self._client.create_experiment(model, artifact_location=(self.artifacts / model).as_uri())
        )
        runs = self._client.search_runs([experiment_id], f"tags.`{RUN_KEY}` = '{run_key}'")
        run = (
            runs[0]
            if runs
            else self._client.create_run(experiment_id, run_name=run_key[:12], tags={**tags, RUN_KEY: run_key})
        )
        for key, value in tags.items():
            name = key.removeprefix("metric.")
            if name != key and name not in run.data.metrics:
                self._client.log_metric(run.info.run_id, name, float(value))
        return str(run.info.run_id)

    def _ensure_model(self, model: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(model)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def _version(version: Any) -> ModelVersion:
    return ModelVersion(version.name, str(version.version), version.source, dict(version.tags))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    # The folder itself is locked: who may only read can do that, too.
    lock = os.open(folder, os.O_RDONLY)
    try:
        flock(lock, LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def _translated(model: str) -> Iterator[None]:
    """Turn MLflow's and the database's errors about *model* into ours, keeping the cause."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    try:
        yield
    except (MlflowException, OperationalError, OSError) as exc:
        if "disk is full" in str(exc) or os.strerror(ENOSPC) in str(exc):
            raise StorageFull(
                f"no space left where the model registry keeps {model}",
                next_action="free some space, then start the run again: it goes on where it stopped",
            ) from exc
        if isinstance(exc, OSError):
            raise
        if isinstance(exc, OperationalError):
            raise BackendUnavailable(f"the model registry's database gives no answer about {model}") from exc
        if exc.error_code == "TEMPORARILY_UNAVAILABLE":
            raise BackendUnavailable(f"the model registry gives no answer about {model}") from exc
        raise RegistryFailed(f"the model registry refused a request about {model}", found=exc.error_code) from exc
