"""What every `ModelRegistry` promises: one version per run key, whatever ends the process in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier

import pytest

from insitu.adapters.local.models import MlflowModels
from insitu.doctor import unregistered
from insitu.errors import RegistryFailed
from insitu.ports import ModelRegistry, ModelVersion

TAGS = {"batch": "abc", "metric.roc_auc": "0.71"}


def place_of(root: Path) -> tuple[str, Path]:
    return f"sqlite:///{root}/my models/mlflow.db", root / "my models/artifacts"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, which take it seconds to make; made once and copied."""
    root = tmp_path_factory.mktemp("empty")
    uri, artifacts = place_of(root)
    assert MlflowModels(uri, artifacts)._client.search_registered_models() == []  # makes the database
    source = root / "my models/mlflow.db"
    with sqlite3.connect(source) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return source


def local(root: Path, empty: Path) -> ModelRegistry:
    (root / "my models").mkdir(parents=True, exist_ok=True)
    shutil.copy(empty, root / "my models/mlflow.db")
    return MlflowModels(*place_of(root))


@dataclass(frozen=True)
class Place:
    """A registry, the name of a model that it does not know, and how the files of its versions are lost for good."""

    models: ModelRegistry
    model: str
    lose: Callable[[ModelVersion], object]


_numbers = count(1)


@pytest.fixture(params=["local", "azure-ml"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        models = local(tmp_path, request.getfixturevalue("empty_database"))
        return Place(models, "flights", lambda version: shutil.rmtree(models.folder(version)))
    from twin_places import lose_files, twin_models

    estate = request.getfixturevalue("estate")
    registry = twin_models(estate, tmp_path)
    return Place(registry, f"flights-{next(_numbers)}", lambda version: lose_files(estate, registry, version))


@pytest.fixture
def models(place: Place) -> ModelRegistry:
    return place.models


@pytest.fixture
def model(place: Place) -> str:
    return place.model


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A model folder as an edge job leaves it."""
    folder = tmp_path / "job 1/model"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "data/weights.bin").write_bytes(bytes(1000))
    return folder


def test_an_unknown_model_has_no_versions_no_alias_and_no_runs(models: ModelRegistry) -> None:
    assert list(models.versions("unknown")) == []
    assert models.alias("unknown", "champion") is None
    assert models.find("unknown", "k") is None


def test_a_model_is_registered_once_per_run_key(models: ModelRegistry, model: str, trained: Path) -> None:
    first = models.register(model, "key-1", trained, TAGS)
    again = models.register(model, "key-1", trained, {"other": "tags"})
    assert (first.name, first.version) == (again.name, again.version) == (model, "1")
    assert [version.version for version in models.versions(model)] == ["1"]
    assert again.tags["batch"] == "abc"
    found = models.find(model, "key-1")
    assert found is not None
    assert found.version == "1"
    assert models.find(model, "key-2") is None
    assert models.find("other", "key-1") is None


def test_versions_come_in_order_of_their_number(models: ModelRegistry, model: str, trained: Path) -> None:
    for number in range(1, 12):
        models.register(model, f"key-{number}", trained, {})
    assert [version.version for version in models.versions(model)] == [str(n) for n in range(1, 12)]


def test_the_files_of_a_version_are_a_copy_even_under_a_path_with_spaces(
    models: ModelRegistry, model: str, trained: Path
) -> None:
    version = models.register(model, "key-1", trained, {})
    shutil.rmtree(trained)
    folder = models.folder(version)
    assert (folder / "data/weights.bin").read_bytes() == bytes(1000)
    assert models.folder(models.versions(model)[0]) == folder


def test_files_that_are_gone_name_the_version(place: Place, trained: Path) -> None:
    models, model = place.models, place.model
    version = models.register(model, "key-1", trained, {})
    place.lose(version)
    with pytest.raises(RegistryFailed, match=f"{model} version 1"):
        models.folder(version)
    with pytest.raises(RegistryFailed, match=f"{model} version 9"):
        models.folder(replace(version, version="9", uri=version.uri + "-nowhere"))


def test_an_alias_moves(models: ModelRegistry, model: str, trained: Path) -> None:
    for key in ("key-1", "key-2"):
        models.register(model, key, trained, {})
    assert models.alias(model, "champion") is None
    for version in ("1", "2", "1"):
        models.set_alias(model, "champion", version)
        named = models.alias(model, "champion")
        assert named is not None
        assert named.version == version


def test_an_alias_of_a_version_that_is_not_there_is_refused(models: ModelRegistry, model: str, trained: Path) -> None:
    models.register(model, "key-1", trained, {})
    with pytest.raises(RegistryFailed, match=model):
        models.set_alias(model, "champion", "9")
    with pytest.raises(RegistryFailed, match="unknown"):
        models.set_alias("unknown", "champion", "1")


def test_tags_are_added_and_overwritten(models: ModelRegistry, model: str, trained: Path) -> None:
    models.register(model, "key-1", trained, {"state": "new", "batch": "abc"})
    models.tag(model, "1", {"state": "published", "digest": "sha256:1"})
    tags = models.versions(model)[0].tags
    assert [tags[key] for key in ("state", "batch", "digest")] == ["published", "abc", "sha256:1"]
    with pytest.raises(RegistryFailed, match=model):
        models.tag(model, "9", {"state": "x"})


def test_a_registry_has_an_address_without_a_secret(models: ModelRegistry) -> None:
    assert "://" in models.place
    assert "sig=" not in models.place


def test_a_run_is_recorded_as_often_as_one_likes_before_it_is_registered(
    models: ModelRegistry, model: str, trained: Path
) -> None:
    for _ in range(2):
        models.record(model, "key-1", "job-1", TAGS)
    assert list(models.versions(model)) == []
    assert models.register(model, "key-1", trained, TAGS).version == "1"
    models.record(model, "key-1", "job-1", TAGS)
    assert [version.version for version in models.versions(model)] == ["1"]


def test_an_archived_version_is_found_by_its_run_is_not_lost_and_keeps_its_number(
    models: ModelRegistry, model: str, trained: Path
) -> None:
    models.register(model, "key-1", trained, {})
    models.archive(model, "1")
    assert list(models.versions(model)) == []
    found = models.find(model, "key-1")
    assert found is not None
    assert found.version == "1"
    published = {"run_key": "key-1", "publication": {"champion": True}, "model_version": {"version": "1"}}
    assert unregistered(models, model, [published], models.versions(model)) == []
    assert unregistered(models, model, [{**published, "run_key": "key-0"}], models.versions(model)) == ["1"]
    assert models.register(model, "key-1", trained, {}).version == "1"
    assert models.register(model, "key-2", trained, {}).version == "2"
    assert [version.version for version in models.versions(model)] == ["2"]


def test_all_aliases_are_told(models: ModelRegistry, model: str, trained: Path) -> None:
    assert models.aliases("unknown") == {}
    for key in ("key-1", "key-2"):
        models.register(model, key, trained, {})
    models.set_alias(model, "champion", "2")
    models.set_alias(model, "shadow", "1")
    assert models.aliases(model) == {"champion": "2", "shadow": "1"}


def test_a_version_that_is_removed_is_gone_with_its_files_and_its_number_is_not_given_again(
    models: ModelRegistry, model: str, trained: Path
) -> None:
    first, last = (models.register(model, key, trained, {}) for key in ("key-1", "key-2"))
    folder = models.folder(last)
    for _ in range(2):
        models.remove(model, last.version)
    models.remove(model, "9")
    assert [version.version for version in models.versions(model)] == [first.version]
    assert not folder.exists()
    with pytest.raises(RegistryFailed, match=f"{model} version 2"):
        models.folder(last)
    assert (models.folder(first) / "data/weights.bin").is_file()
    assert models.register(model, "key-3", trained, {}).version == "3"


REGISTER = """
import json, sys
from pathlib import Path
from threading import Barrier
from insitu.adapters.local.models import MlflowModels

uri, artifacts, folder, tags = sys.argv[1:]
version = MlflowModels(uri, Path(artifacts)).register("flights", "key-1", Path(folder), json.loads(tags))
print(version.version)
"""


@pytest.mark.parametrize("point", ["register:run-created", "register:files-logged"])
def test_a_kill_while_registering_leaves_one_version_after_the_next_start(
    tmp_path: Path, empty_database: Path, trained: Path, point: str
) -> None:
    models = local(tmp_path, empty_database)
    uri, artifacts = place_of(tmp_path)
    killed = subprocess.run(
        [sys.executable, "-c", REGISTER, uri, artifacts, trained, json.dumps(TAGS)],
        env={**os.environ, "INSITU_CRASH_AT": point},
        capture_output=True,
        timeout=90,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert list(models.versions("flights")) == []
    version = models.register("flights", "key-1", trained, TAGS)
    assert [v.version for v in models.versions("flights")] == [version.version] == ["1"]
    assert (models.folder(version) / "data/weights.bin").is_file()
    with sqlite3.connect(tmp_path / "my models/mlflow.db") as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        assert database.execute("SELECT status FROM runs").fetchone() == ("FINISHED",)
        assert database.execute("SELECT key, value FROM metrics").fetchall() == [("roc_auc", 0.71)]


def test_the_first_runs_of_several_models_make_one_database(tmp_path: Path) -> None:
    def record(model: str, all_here: Barrier) -> None:
        models = MlflowModels(*place_of(tmp_path))
        all_here.wait(60)
        models.record(model, "a" * 64, "job", TAGS)
        os._exit(0)

    import mlflow.store.model_registry.sqlalchemy_store  # noqa: F401 - so that they begin at one time

    forked = get_context("fork")
    all_here = forked.Barrier(3)
    first = [forked.Process(target=record, args=(f"model-{number}", all_here)) for number in range(3)]
    for process in first:
        process.start()
    for process in first:
        process.join()
    assert [process.exitcode for process in first] == [0, 0, 0]
