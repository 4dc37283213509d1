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
from dataclasses import replace
from pathlib import Path

import pytest

from insitu.adapters.local.models import MlflowModels
from insitu.errors import RegistryFailed
from insitu.ports import ModelRegistry

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


ADAPTERS: dict[str, Callable[[Path, Path], ModelRegistry]] = {"local": local}


@pytest.fixture(params=ADAPTERS.values(), ids=list(ADAPTERS))
def models(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path) -> ModelRegistry:
    made: ModelRegistry = request.param(tmp_path, empty_database)
    return made


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


def test_a_model_is_registered_once_per_run_key(models: ModelRegistry, trained: Path) -> None:
    first = models.register("flights", "key-1", trained, TAGS)
    again = models.register("flights", "key-1", trained, {"other": "tags"})
    assert (first.name, first.version) == (again.name, again.version) == ("flights", "1")
    assert [version.version for version in models.versions("flights")] == ["1"]
    assert again.tags["batch"] == "abc"
    found = models.find("flights", "key-1")
    assert found is not None
    assert found.version == "1"
    assert models.find("flights", "key-2") is None
    assert models.find("other", "key-1") is None


def test_versions_come_in_order_of_their_number(models: ModelRegistry, trained: Path) -> None:
    for number in range(1, 12):
        models.register("flights", f"key-{number}", trained, {})
    assert [version.version for version in models.versions("flights")] == [str(n) for n in range(1, 12)]


def test_the_files_of_a_version_are_a_copy_even_under_a_path_with_spaces(models: ModelRegistry, trained: Path) -> None:
    version = models.register("flights", "key-1", trained, {})
    shutil.rmtree(trained)
    folder = models.folder(version)
    assert (folder / "data/weights.bin").read_bytes() == bytes(1000)
    assert models.folder(models.versions("flights")[0]) == folder


def test_files_that_are_gone_name_the_version(models: ModelRegistry, trained: Path) -> None:
    version = models.register("flights", "key-1", trained, {})
    shutil.rmtree(models.folder(version))
    with pytest.raises(RegistryFailed, match="flights version 1"):
        models.folder(version)
    with pytest.raises(RegistryFailed, match="flights version 9"):
        models.folder(replace(version, version="9", uri=version.uri + "-nowhere"))


def test_an_alias_moves(models: ModelRegistry, trained: Path) -> None:
    for key in ("key-1", "key-2"):
        models.register("flights", key, trained, {})
    assert models.alias("flights", "champion") is None
    for version in ("1", "2", "1"):
        models.set_alias("flights", "champion", version)
        named = models.alias("flights", "champion")
        assert named is not None
        assert named.version == version


def test_an_alias_of_a_version_that_is_not_there_is_refused(models: ModelRegistry, trained: Path) -> None:
    models.register("flights", "key-1", trained, {})
    with pytest.raises(RegistryFailed, match="flights"):
        models.set_alias("flights", "champion", "9")
    with pytest.raises(RegistryFailed, match="unknown"):
        models.set_alias("unknown", "champion", "1")


def test_tags_are_added_and_overwritten(models: ModelRegistry, trained: Path) -> None:
    models.register("flights", "key-1", trained, {"state": "new", "batch": "abc"})
    models.tag("flights", "1", {"state": "published", "digest": "sha256:1"})
    tags = models.versions("flights")[0].tags
    assert [tags[key] for key in ("state", "batch", "digest")] == ["published", "abc", "sha256:1"]
    with pytest.raises(RegistryFailed, match="flights"):
        models.tag("flights", "9", {"state": "x"})


REGISTER = """
import json, sys
from pathlib import Path
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
