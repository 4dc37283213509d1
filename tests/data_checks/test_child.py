"""Validation in a process of its own: the same result, the same errors, and a crash that names the blob."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest
from example_blobs import store_of, suite_of
from loopback import wait_until

from data_checks.child import Job, as_job, validate_apart
from data_checks.engine import validate
from data_checks.report import Progress
from data_checks.suite import Suite, load_suite
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch, Blob
from insitu.errors import BlobChanged, DataError, InsituError, SettingsError

NUMBERS = pa.table({"n": range(1000), "s": [f"text {n}" for n in range(1000)]})
SUITE = suite_of(
    ("expect_column_values_to_be_between", {"column": "n", "min_value": 10}),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": "^text"}),
    ("expect_column_values_to_be_unique", {"column": "n"}),
)
FIRST = "part-00/rows.parquet"


class Place:
    """Data, a suite and a folder for the process."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "work" / "validation"

    def job(self, *tables: pa.Table, suite: Suite = SUITE) -> Job:
        _, batch = store_of(self.root / "blobs", tables)
        return self._job(batch, suite)

    def long_job(self) -> Job:
        """A job that reads its first blob for longer than a test takes."""
        path = self.root / "blobs" / FIRST
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.truncate(1 << 40)  # of nothing: it takes no room
        blob = Blob(FIRST, '"pinned"', 1 << 40, datetime(2026, 1, 1, tzinfo=UTC))
        return self._job(Batch.of("data", [blob]), SUITE)

    def _job(self, batch: Batch, suite: Suite) -> Job:
        file = self.root / "suite.json"
        file.write_text(json.dumps({"name": suite.name, "expectations": suite.expectations}))
        return Job(file, {"kind": "folder", "root": str(self.root / "blobs")}, batch)

    @property
    def processes(self) -> list[Path]:
        """What the system tells about the processes that work in the folder."""
        mark = b"\0-m\0data_checks\0" + str(self.folder).encode()
        return [proc for proc in Path("/proc").glob("[0-9]*") if mark in _bytes(proc / "cmdline")]

    @property
    def reader(self) -> int | None:
        """The process that has the first blob open."""
        for proc in self.processes:
            with suppress(OSError):  # it ends meanwhile
                if self.root / "blobs" / FIRST in {fd.readlink() for fd in (proc / "fd").iterdir()}:
                    return int(proc.name)
        return None

    def when_it_reads(self, act: Callable[[int], None]) -> Thread:
        """Call *act* with the process as soon as it has the first blob open."""

        def wait() -> None:
            wait_until(lambda: self.reader, 60, "reading")
            act(self.reader or 0)

        thread = Thread(target=wait)
        thread.start()
        return thread


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""  # it ended meanwhile


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_report_is_that_of_this_process(place: Place) -> None:
    job = place.job(NUMBERS, NUMBERS)
    report = validate_apart(job, place.folder)
    assert report.failed == 2
    assert report == validate(SUITE, FolderBlobs(place.root / "blobs"), job.batch)
    assert report.full["results"]
    assert not place.folder.exists()


def test_what_was_measured_is_kept_in_the_state(place: Place) -> None:
    job = replace(place.job(NUMBERS), state={"kind": "folder", "root": str(place.root / "state")})
    first, second = validate_apart(job, place.folder), validate_apart(job, place.folder)
    assert first.bytes_read > second.bytes_read == 0
    assert first.outcomes == second.outcomes


def test_progress_ends_with_everything(place: Place) -> None:
    seen: list[Progress] = []
    validate_apart(place.job(NUMBERS, NUMBERS), place.folder, seen.append)
    assert seen[-1].fraction == 1
    assert (seen[-1].rows_done, seen[-1].rows, seen[-1].blobs_done, seen[-1].blobs) == (2000, 2000, 2, 2)
    assert [p.bytes_done for p in seen] == sorted(p.bytes_done for p in seen)


def bad_suite(place: Place) -> Job:
    return place.job(NUMBERS, suite=suite_of(("expect_column_values_to_be_unik", {"column": "n"})))


def bad_blob(place: Place) -> Job:
    job = place.job(NUMBERS)
    (place.root / "blobs" / FIRST).write_bytes(b"no table at all, and not a word of this text gets out")
    return replace(job, batch=Batch.of("data", FolderBlobs(place.root / "blobs").list()))


def overwritten_blob(place: Place) -> Job:
    job = place.job(NUMBERS)
    (place.root / "blobs" / FIRST).write_bytes(b"another version")
    return job


@pytest.mark.parametrize(
    ("job", "kind"), [(bad_suite, SettingsError), (bad_blob, DataError), (overwritten_blob, BlobChanged)]
)
def test_errors_are_those_of_this_process(place: Place, job: Callable[[Place], Job], kind: type[InsituError]) -> None:
    theirs = job(place)
    with pytest.raises(kind) as apart:
        validate_apart(theirs, place.folder)
    with pytest.raises(kind) as here:
        validate(load_suite(theirs.suite), FolderBlobs(place.root / "blobs"), theirs.batch)
    assert apart.value.to_json() == here.value.to_json()
    assert not place.folder.exists()


def test_an_unknown_error_tells_its_class_and_keeps_its_text_on_site(place: Place) -> None:
    job = replace(place.job(NUMBERS), store={"kind": "folder", "planted": "QZPLANTED"})
    with pytest.raises(InsituError) as told:
        validate_apart(job, place.folder)
    assert (type(told.value), told.value.found) == (InsituError, "KeyError")
    assert [path.name for path in place.folder.iterdir()] == ["output.txt"]
    assert "KeyError: 'root'" in (place.folder / "output.txt").read_text()
    assert place.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("sign", "kind", "told"),
    [
        (signal.SIGKILL, DataError, f"was killed by SIGKILL while it read blob {FIRST}"),
        (signal.SIGSEGV, DataError, f"was killed by SIGSEGV while it read blob {FIRST}"),
        (signal.SIGTERM, InsituError, "was ended by SIGTERM"),
    ],
)
def test_a_crash_names_signal_and_blob(place: Place, sign: signal.Signals, kind: type[InsituError], told: str) -> None:
    crash = place.when_it_reads(lambda process: os.kill(process, sign))
    with pytest.raises(kind, match=told) as error:
        validate_apart(place.long_job(), place.folder)
    crash.join()
    assert type(error.value) is kind
    assert place.processes == []


@pytest.fixture
def _interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_call_ends_the_process_and_clears_up(place: Place) -> None:
    interrupt = place.when_it_reads(lambda _: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        validate_apart(place.long_job(), place.folder)
    interrupt.join()
    assert place.processes == []
    assert not place.folder.exists()


PARENT = """
import sys
from pathlib import Path
from threading import Thread
from data_checks.child import as_job, validate_apart

validate_apart(as_job.validate_json(sys.stdin.read()), Path(sys.argv[1]))
print([name for name in ("great_expectations", "polars", "pandas", "pyarrow") if name in sys.modules])
"""


def parent(place: Place, job: Job) -> subprocess.Popen[bytes]:
    """Start a process that validates *job*."""
    command = [sys.executable, "-c", PARENT, str(place.folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(as_job.dump_json(job))
    process.stdin.close()
    return process


def test_the_process_ends_when_the_one_that_asked_is_killed(place: Place) -> None:
    with parent(place, place.long_job()) as asking:
        place.when_it_reads(lambda _: asking.kill()).join()
    wait_until(lambda: not place.processes, 10, "the end of the validation process")


def test_the_process_that_asks_imports_none_of_the_engine(place: Place) -> None:
    with parent(place, place.job(NUMBERS)) as asking:
        assert asking.stdout is not None
        assert asking.stdout.read().splitlines()[-1] == b"[]"


@pytest.mark.parametrize(
    ("progress", "fraction", "text"),
    [
        (
            Progress(3_100_000, 5_000_000, 72_000_000, 149_000_000, 12, 32, 0, 0.9),
            72 / 149,
            "12 of 32 blobs, 3.1 of 5.0 M rows, 72 of 149 MB, 80 MB/s",
        ),
        (
            Progress(1_200, None, 3_000_000, 4_000_000, 5, 10, 4, 1.5),
            0.75,
            "5 of 10 blobs (4 known), 1,200 rows, 3.0 of 4.0 MB, 2 MB/s",
        ),
        (Progress(10, 10, 0, 0, 2, 2, 2, 0.0), 1.0, "2 of 2 blobs (2 known), 10 of 10 rows, 0.0 of 0.0 MB, 0 MB/s"),
        (Progress(), 0.0, "0 of 0 blobs, 0 rows, 0.0 of 0.0 MB, 0 MB/s"),
    ],
)
def test_progress_in_words(progress: Progress, fraction: float, text: str) -> None:
    assert progress.fraction == pytest.approx(fraction)
    assert progress.text == text
