"""A Spark cluster that runs our functions, over its own protocol or over Spark Connect.

    driver: Cluster.run(do, count) ──> range(count).mapInArrow ──> executors: do(0), do(1), ... ──> bytes ──> driver

The session ships our own packages, so that both sides run the same code; what these import must be
installed where the executors are. Texts of foreign exceptions may quote rows, so they go to standard
error, which stays on site, and errors name their class alone. pyspark is imported when it is used: it is
no part of the main lock.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import threading
import time
import traceback
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

import data_checks
import insitu
from insitu.errors import BackendUnavailable, InsituError
from insitu.settings import ValidationSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

R = TypeVar("R")
Do = Callable[[int], Iterable[bytes]]

_SAME = ("polars", "pyarrow")
"""What must be of one version on both sides: it computes the statistics."""
_MANY = 1 << 20
_LOOK_S = 0.5
_SLICE_BYTES = 32 << 20
_ROW = pa.schema([("number", pa.int64()), ("piece", pa.binary()), ("last", pa.bool_())])
_COLUMNS = "number long, piece binary, last boolean"
_BRIEF_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Java passes on bytes and ends soon: a thorough compilation of it costs more than it saves."""
_INSTALL = "run `make spark`, or install requirements-spark.lock beside requirements.lock"


class Cluster:
    """A session on the cluster that *settings* name; it begins with its first use and ends with the context."""

    def __init__(self, settings: ValidationSettings, work: Path) -> None:
        """Name the cluster, and a private folder for the session's files; nothing is contacted yet."""
        assert settings.spark is not None  # the settings require it
        self._address, self._wait_s, self._work = settings.spark, settings.wait_s, work / "spark"
        self._remote = self._address.startswith("sc://")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if session := self.__dict__.pop("_session", None):
            with suppress(Exception):  # it is over either way
                _within(self._wait_s, session.stop)
        shutil.rmtree(self._work, ignore_errors=True)

    @cached_property
    def cores(self) -> int:
        """How many tasks run at the same time.

        Raises:
            BackendUnavailable: The cluster gives no answer, or no executor, within `wait_s`.
            InsituError: Something is missing here or on the executors.
        """
        self._require_same(self._collected(_versions, 1, patient=False))
        everywhere = self._collected(_versions, None)  # in as many parts as the cluster has cores
        self._require_same(everywhere)
        return len(everywhere)

    def run(self, do: Do, count: int, tasks: int | None = None) -> list[tuple[int, bytes]]:
        """Return what *do*, which is pickled, yields for each number below *count*, with the number, in order.

        Args:
            tasks: In how many tasks, of neighbouring numbers; by default each number is one.

        Raises:
            BackendUnavailable: The cluster gives no answer, or runs nothing of this for `wait_s`.
            InsituError: Spark gave up.
        """
        return self._collected(do, count, tasks)

    @cached_property
    def _session(self) -> SparkSession:
        self._require_answer()
        try:
            return _within(self._wait_s, self._opened)
        except ImportError as exc:
            raise InsituError(
                "the data cannot be checked on Spark",
                found=f"{exc.name or 'pyspark[connect]'} is not installed",
                next_action=_INSTALL,
            ) from None
        except TimeoutError:
            raise self._silent(f"no session within {self._wait_s} s") from None
        except Exception as exc:  # noqa: BLE001 - Spark, py4j and gRPC raise of their own
            raise self._failure(exc) from None

    def _opened(self) -> SparkSession:
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        session = _remote(self._address) if self._remote else _classic(self._address, self._work)
        session.addArtifacts(str(_packed(self._work / "insitu.zip")), pyfile=True)
        return session

    def _require_answer(self) -> None:
        """Look whether anybody listens, before Spark tries for minutes; a cluster on this machine needs nobody."""
        if not self._remote and not _java():
            raise InsituError(
                "the data cannot be checked on Spark",
                found="Java is not installed",
                wanted="Java 17 or newer: on the path, or where JAVA_HOME says",
                next_action="install it; on Debian: apt-get install openjdk-17-jre-headless",
            )
        hosts = re.findall(r"([^/,;]+):(\d+)", self._address.partition("://")[2])
        if hosts and not any(_listens(host.strip("[]"), int(port), min(self._wait_s, 10)) for host, port in hosts):
            raise self._silent("nobody listens there")

    def _collected(
        self, do: Do, count: int | None, tasks: int | None = None, *, patient: bool = True
    ) -> list[tuple[int, bytes]]:
        """Run *do*, without a *count* once per core; who is *patient* waits while anything of this session runs."""
        session = self._session
        numbers = session.range(_MANY) if count is None else session.range(0, count, 1, min(tasks or count, count))
        each = partial(_each, do, once=count is None)
        try:
            answers = numbers.mapInArrow(each, _COLUMNS).toArrow
            table = _within(self._wait_s, answers, self._runs if patient else None)
        except TimeoutError:
            raise self._silent(f"nothing has run for {self._wait_s} s") from None
        except Exception as exc:  # noqa: BLE001 - Spark, py4j and gRPC raise of their own
            raise self._failure(exc) from None
        return list(_joined(table))

    def _runs(self) -> bool:
        """Tell whether a task runs now; what a Spark Connect server runs is its own matter."""
        if self._remote:
            return True
        tracker = self._session.sparkContext.statusTracker()
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        return any(stage and stage.numActiveTasks for stage in stages)

    def _require_same(self, answers: Iterable[tuple[int, bytes]]) -> None:
        here = next(iter(_versions(0)))
        if strange := sorted({found for _, found in answers if found != here}):
            raise InsituError(
                f"the executors of {self._address} have other packages than this machine",
                found="; ".join(found.decode() for found in strange),
                wanted=here.decode(),
                next_action="install requirements.lock for the executors; PYSPARK_PYTHON names their interpreter",
            )

    def _silent(self, found: str) -> BackendUnavailable:
        return BackendUnavailable(
            f"the Spark cluster {self._address} gives no answer",
            found=found,
            wanted="a master with free workers, or a Spark Connect server, as [validation] spark names it",
            next_action="start it or correct the address; see whether others use all of its cores",
        )

    def _failure(self, error: Exception) -> InsituError:
        """Return what is known of a failure of Spark; its own text goes to standard error."""
        traceback.print_exception(error)
        text = str(error)
        if lost := re.search("ExecutorLostFailure|stopped SparkContext|masters are unresponsive|UNAVAILABLE", text):
            return BackendUnavailable(
                f"the Spark cluster {self._address} lost what it ran",
                found=lost[0],
                next_action="see the logs of its workers: they may be short of memory",
            )
        missing = re.search(r"No module named '[\w.]+'|PYTHON_VERSION_MISMATCH|Cannot run program|maxResultSize", text)
        return InsituError(
            f"the Spark cluster {self._address} gave up",
            found=missing[0] if missing else type(error).__name__,
            wanted="executors with Python and the packages of requirements.lock",
            next_action="see the logs of its driver and workers; PYSPARK_PYTHON names the executors' interpreter",
        )


def _classic(address: str, work: Path) -> SparkSession:
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    options = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.local.dir": str(work),
        "spark.sql.warehouse.dir": str(work / "warehouse"),
        "spark.driver.defaultJavaOptions": f'{_BRIEF_JAVA} "-Djava.io.tmpdir={work}"',
        "spark.executor.defaultJavaOptions": _BRIEF_JAVA,
        "spark.executorEnv.POLARS_MAX_THREADS": "1",  # every core has a task of its own
    }
    if re.match(r"local\[|spark://(127\.|localhost:)", address):
        options |= {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}
    builder = SparkSession.builder.master(address).appName("insitu").config(map=options)
    return builder.getOrCreate()


def _remote(address: str) -> SparkSession:
    from pyspark.sql.connect.session import SparkSession

    session: SparkSession = SparkSession.builder.remote(address).create()
    return session


def _packed(path: Path) -> Path:
    """Write our own packages to *path*."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in (data_checks, insitu):
            root = Path(str(package.__file__)).parent
            for source in sorted(root.rglob("*.py")):
                archive.write(source, source.relative_to(root.parent))
    return path


def _each(do: Do, batches: Iterator[pa.RecordBatch], *, once: bool) -> Iterator[pa.RecordBatch]:
    """Run on an executor: yield what *do* yields for the numbers of a part, or for the part *once*."""
    for batch in batches:
        for number in batch.column(0).to_pylist():
            for piece in do(number):
                yield from _sliced(number, piece)
            if once:
                return


def _sliced(number: int, piece: bytes) -> Iterator[pa.RecordBatch]:
    """Yield *piece* in rows that every side can hold."""
    for start in range(0, max(len(piece), 1), _SLICE_BYTES):
        row = [[number], [piece[start : start + _SLICE_BYTES]], [start + _SLICE_BYTES >= len(piece)]]
        yield pa.RecordBatch.from_arrays([pa.array(c, f.type) for c, f in zip(row, _ROW, strict=True)], schema=_ROW)


def _joined(table: pa.Table) -> Iterator[tuple[int, bytes]]:
    held: list[bytes] = []
    for batch in table.to_batches():
        for number, piece, last in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            held.append(piece)
            if last:
                yield number, b"".join(held)
                held = []


def _versions(_: int) -> Iterator[bytes]:
    """Name the Python and the packages of this process."""
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    yield ", ".join([python, *(f"{name} {_version(name)}" for name in _SAME)]).encode()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _within(timeout_s: float, do: Callable[[], R], goes_on: Callable[[], bool] | None = None) -> R:
    """Return what *do* returns; raise `TimeoutError` after *timeout_s* in which it did not and nothing went on."""
    future: Future[R] = Future()

    def work() -> None:
        try:
            future.set_result(do())
        except BaseException as exc:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(exc)

    threading.Thread(target=work, daemon=True).start()
    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(TimeoutError):
            return future.result(_LOOK_S)
        if goes_on and goes_on():
            deadline = time.monotonic() + timeout_s
        if time.monotonic() > deadline:
            raise TimeoutError


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=f"{home}/bin" if home else None)


def _listens(host: str, port: int, timeout_s: float) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout_s):
        return True
    return False
