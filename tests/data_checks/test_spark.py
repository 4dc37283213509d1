"""The same suite on a real Spark cluster: equal results, equal errors, and a worker that is lost."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pytest
import spark_cluster
from example_blobs import store_of, suite_of
from loopback import free_port
from spark_cluster import Standalone

from data_checks.child import Job, validate_apart
from data_checks.cluster import Cluster
from data_checks.engine import validate
from data_checks.report import Progress
from data_checks.suite import Suite, load_suite
from insitu.adapters.azure.blobs import AzureBlobs
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.errors import BackendUnavailable, DataError, InsituError
from insitu.settings import AzureBlobStore, ValidationSettings

pytestmark = pytest.mark.skipif(bool(spark_cluster.missing()), reason=spark_cluster.missing())

NUMBERS = pa.table({"n": range(1000), "s": [f"text {n}" for n in range(1000)]})
ACROSS = suite_of(
    ("expect_column_values_to_be_unique", {"column": "n"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["n", "s"]}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": "^text"}),
)
ROW_GROUP_ROWS = 15_000


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    with spark_cluster.standalone(tmp_path_factory.mktemp("spark")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster(standalone: Standalone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A session of this process, which takes both cores of the cluster."""
    settings = ValidationSettings(engine="spark", spark=standalone.address)
    with Cluster(settings, tmp_path_factory.mktemp("session")) as session:
        yield session


@pytest.fixture
def checked(tmp_path: Path, suite: Suite) -> Suite:
    """The suite of the flights, and what has to be known across months that overlap in it."""
    more = suite_of(
        ("expect_compound_columns_to_be_unique", {"column_list": ["carrier", "flight", "dest"]}),
        ("expect_column_values_to_be_unique", {"column": "arr_delay"}),
        ("expect_column_quantile_values_to_be_between", {"column": "air_time", "quantile_ranges": {
            "quantiles": [0.1, 0.9], "value_ranges": [[10, 60], [300, 400]]}}),
        ("expect_column_most_common_value_to_be_in_set", {"column": "dest", "value_set": ["ORD", "ATL"]}),
    )  # fmt: skip
    return Suite("flights", (*suite.expectations, *more.expectations))


class Traced(FolderBlobs):
    """Notes in which folder the process works that reads: each executor has its own."""

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        Path(self.root.parent, f"read-in{str(Path.cwd()).replace('/', '-')}").touch()
        return super().read(name, etag=etag, offset=offset, length=length)


class Broken(FolderBlobs):
    """Breaks everywhere but in this process."""

    here = os.getpid()

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        if os.getpid() != self.here:
            raise ValueError("could not read QZPLANTED")
        return super().read(name, etag=etag, offset=offset, length=length)


@pytest.fixture(autouse=True, scope="module")
def _test_stores_go_to_executors() -> None:
    from pyspark import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_a_cluster_finds_what_one_machine_finds(
    tmp_path: Path, months: list[pa.Table], checked: Suite, cluster: Cluster
) -> None:
    _, batch = store_of(tmp_path / "blobs", months, row_group_size=ROW_GROUP_ROWS)
    store = Traced(tmp_path / "blobs")
    here = validate(checked, store, batch)
    readers = set(tmp_path.glob("read-in*"))
    seen: list[Progress] = []
    there = validate(checked, store, batch, cluster=cluster, on_progress=seen.append)
    assert there.full == here.full
    assert there == here
    assert here.failed == 2
    assert seen[-1].fraction == 1
    assert any(0 < progress.fraction < 1 for progress in seen)
    assert cluster.cores == len(set(tmp_path.glob("read-in*")) - readers) == 2


def test_a_worker_lost_in_mid_run_changes_nothing(
    tmp_path: Path, months: list[pa.Table], checked: Suite, cluster: Cluster, standalone: Standalone
) -> None:
    _, batch = store_of(tmp_path / "blobs", months, row_group_size=ROW_GROUP_ROWS)
    killed_at: list[float] = []

    def kill(progress: Progress) -> None:
        if 0 < progress.fraction < 1 and not killed_at:
            killed_at.append(progress.fraction)
            standalone.kill_worker()

    store = FolderBlobs(tmp_path / "blobs")
    try:
        there = validate(checked, store, batch, cluster=cluster, on_progress=kill)
    finally:
        standalone.start_worker()
    assert killed_at
    assert there == validate(checked, store, batch)


def test_a_blob_that_cannot_be_read_is_the_same_error(tmp_path: Path, cluster: Cluster) -> None:
    store_of(tmp_path / "blobs", [NUMBERS, NUMBERS])
    path = tmp_path / "blobs" / "part-01" / "rows.parquet"
    data = bytearray(path.read_bytes())
    data[100:2000] = os.urandom(1900)
    path.write_bytes(data)
    store = FolderBlobs(tmp_path / "blobs")
    batch = Batch.of("data", store.list())
    with pytest.raises(DataError) as here:
        validate(ACROSS, store, batch)
    with pytest.raises(DataError) as there:
        validate(ACROSS, store, batch, cluster=cluster)
    assert there.value.to_json() == here.value.to_json()
    assert "part-01/rows.parquet" in here.value.what


def test_what_an_executor_raises_is_told_by_its_class(
    tmp_path: Path, cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    _, batch = store_of(tmp_path / "blobs", [NUMBERS])
    with pytest.raises(InsituError, match=r"blob part-00/rows\.parquet broke") as broken:
        validate(ACROSS, Broken(tmp_path / "blobs"), batch, cluster=cluster)
    assert (type(broken.value), broken.value.found) == (InsituError, "ValueError")
    assert "QZPLANTED" not in str(broken.value) + "".join(capfd.readouterr())


def test_what_spark_raises_is_told_by_its_class(cluster: Cluster) -> None:
    def broken(_: int) -> NoReturn:
        raise ValueError("QZPLANTED")

    with pytest.raises(InsituError, match="gave up") as error:
        cluster.run(broken, 1)
    assert error.value.found == "PythonException"
    assert "QZPLANTED" not in str(error.value)


def test_long_answers_arrive_whole_and_in_order(cluster: Cluster) -> None:
    def answers(number: int) -> list[bytes]:
        return [bytes([number]) * (number * (16 << 20) + 1), b""]

    found = cluster.run(answers, 4, 2)
    assert [(number, len(answer)) for number, answer in found] == [
        (number, size) for number in range(4) for size in (number * (16 << 20) + 1, 0)
    ]
    assert all(set(answer) <= {number} for number, answer in found)


def test_executors_read_blobs_of_a_hub(
    cluster: Cluster, hub_settings: AzureBlobStore, new_container: Callable[[], str], tmp_path: Path
) -> None:
    files, _ = store_of(tmp_path / "blobs", [NUMBERS, NUMBERS])
    store = AzureBlobs(hub_settings, new_container())
    for name in files.names():
        store.create(name, files.read(name))
    batch = Batch.of("data", store.list())
    assert validate(ACROSS, store, batch, cluster=cluster) == validate(ACROSS, store, batch)


# --- what is not there ---


def session(tmp_path: Path, address: str) -> Cluster:
    return Cluster(ValidationSettings(engine="spark", spark=address), tmp_path)


@pytest.mark.parametrize("scheme", ["spark", "sc"])
def test_nobody_there_is_said_at_once(tmp_path: Path, scheme: str) -> None:
    address = f"{scheme}://127.0.0.1:{free_port()}"
    with pytest.raises(BackendUnavailable, match="nobody listens") as error:
        assert not session(tmp_path, address).cores
    assert address in error.value.what
    assert error.value.next_action


def test_missing_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(InsituError, match="Java is not installed"):
        assert not session(tmp_path, "local[1]").cores


# --- in a process of its own ---


def job(tmp_path: Path, address: str, wait_s: int = 60) -> Job:
    _, batch = store_of(tmp_path / "blobs", [NUMBERS, NUMBERS])
    file = tmp_path / "suite.json"
    file.write_text(json.dumps({"name": "numbers", "expectations": ACROSS.expectations}))
    settings = ValidationSettings(engine="spark", spark=address, wait_s=wait_s)
    return Job(file, {"kind": "folder", "root": str(tmp_path / "blobs")}, batch, validation=settings)


def test_spark_connect_finds_the_same(tmp_path: Path) -> None:
    with spark_cluster.connect_server(tmp_path / "server") as address:
        asked = job(tmp_path, address)
        there = validate_apart(asked, tmp_path / "work")
    assert there == validate(load_suite(asked.suite), FolderBlobs(tmp_path / "blobs"), asked.batch)
    assert there.failed == 2
    assert not (tmp_path / "work").exists()


def test_a_cluster_whose_cores_are_taken_is_not_waited_for_forever(
    tmp_path: Path, standalone: Standalone, cluster: Cluster
) -> None:
    assert cluster.cores  # this session has them
    with pytest.raises(BackendUnavailable, match=r"no session within 5 s|nothing has run for 5 s"):
        validate_apart(job(tmp_path, standalone.address, 5), tmp_path / "work")


@pytest.mark.parametrize("scheme", ["spark", "sc"])
def test_somebody_who_says_nothing_is_not_waited_for_forever(tmp_path: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(BackendUnavailable, match=r"no session within 4 s|nothing has run for 4 s"):
            validate_apart(job(tmp_path, address, 4), tmp_path / "work")


def test_missing_pyspark_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "pyspark.py").write_text("raise ModuleNotFoundError('none', name='pyspark')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shadow"))
    with pytest.raises(InsituError, match="pyspark is not installed") as error:
        validate_apart(job(tmp_path, "local[1]"), tmp_path / "work")
    assert "make spark" in (error.value.next_action or "")
