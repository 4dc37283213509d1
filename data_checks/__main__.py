"""The process that validates: `python -m data_checks FOLDER PARENT_PID`; see `data_checks.child`."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_checks.child import JOB, OUTCOME, OUTPUT, Job, as_job, as_report
from data_checks.cluster import Cluster
from data_checks.engine import prepare, validate
from data_checks.report import Progress, Report
from data_checks.suite import load_suite
from insitu import telemetry
from insitu.attached import end_with
from insitu.batch import Blob
from insitu.errors import DataError, InsituError
from insitu.files import replace_file
from insitu.ports import BlobStore
from insitu.settings import ValidationSettings
from insitu.stores import open_blobs

_INTERVAL_S = 0.2


def main(folder: Path, parent_pid: int) -> int:
    """Validate what *folder* describes for the process *parent_pid*; return the exit code."""
    end_with(parent_pid)
    telemetry.switch_off()
    _offer_itself()
    told = Told()
    report: Report | None = None
    error: InsituError | None = None
    try:
        prepare()
        report = run(as_job.validate_json((folder / JOB).read_bytes()), folder, told)
    except InsituError as exc:
        error = exc
    except MemoryError:
        error = _out_of_memory(told.reading)
    except BaseException as exc:  # noqa: BLE001 - a panic of Polars is no Exception
        traceback.print_exc()  # it may quote a row: it stays on site, and its class goes on
        error = InsituError(
            "the validation broke with an error that insitu does not know",
            found=type(exc).__name__,
            next_action=f"the traceback is in {folder / OUTPUT}",
        )
    outcome = {"report": report and as_report.dump_python(report, mode="json"), "error": error and error.to_json()}
    replace_file(folder / OUTCOME, json.dumps(outcome).encode())
    return 0


def run(job: Job, folder: Path, told: Told) -> Report:
    """Validate; raise what `validate` raises."""
    with _cluster(job.validation, folder) as cluster:
        return validate(
            load_suite(job.suite),
            Watched(open_blobs(job.store), told),
            job.batch,
            reading=job.reading,
            state=open_blobs(job.state) if job.state else None,
            work=folder,
            drift=job.drift,
            cluster=cluster,
            on_progress=told.progress,
        )


class Told:
    """Lines of JSON on standard output, for the parent; whatever else is printed goes to standard error.

    Attributes:
        reading: The blob that each thread of this process read last; if it crashes, one of them did it.
    """

    def __init__(self) -> None:
        self.reading: list[str] = []
        self._lines = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._lock, self._last, self._next_s = threading.RLock(), dict[int, str](), 0.0

    def progress(self, progress: Progress) -> None:
        """Tell how far the validation is, a few times a second."""
        if time.monotonic() >= self._next_s or progress.fraction >= 1:
            self._next_s = time.monotonic() + _INTERVAL_S
            self._tell({"progress": asdict(progress)})

    def reads(self, name: str) -> None:
        """Tell that this thread reads the blob *name*."""
        thread = threading.get_ident()
        with self._lock:
            if self._last.get(thread) == name:
                return
            alive = {one.ident for one in threading.enumerate()}
            self._last = {one: last for one, last in self._last.items() if one in alive} | {thread: name}
            self.reading = sorted(set(self._last.values()))
            self._tell({"reading": self.reading})

    def _tell(self, value: dict[str, Any]) -> None:
        with self._lock:
            self._lines.write(json.dumps(value) + "\n")
            self._lines.flush()


@dataclass(frozen=True)
class Watched:
    """A `BlobStore` that tells which blobs are read, so that a crash has a name."""

    store: BlobStore
    told: Told

    def list(self, prefix: str = "") -> Iterator[Blob]:
        return self.store.list(prefix)

    def names(self, prefix: str = "") -> Iterator[str]:
        return self.store.names(prefix)

    def folders(self, prefix: str = "") -> Iterator[str]:
        return self.store.folders(prefix)

    def stat(self, name: str) -> Blob:
        return self.store.stat(name)

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        self.told.reads(name)
        return self.store.read(name, etag=etag, offset=offset, length=length)

    def create(self, name: str, data: bytes) -> Blob:
        return self.store.create(name, data)

    def replace(self, name: str, data: bytes, *, etag: str) -> Blob:
        return self.store.replace(name, data, etag=etag)

    def delete(self, name: str, *, etag: str) -> None:
        self.store.delete(name, etag=etag)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the store alone: another process has nothing to tell here."""
        return copy, (self.store,)


def _cluster(settings: ValidationSettings, folder: Path) -> AbstractContextManager[Cluster | None]:
    return Cluster(settings, folder) if settings.engine == "spark" else nullcontext()


def _offer_itself() -> None:
    """Have the kernel end this process first, and not the flow or a server, when memory runs out."""
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("500")


def _out_of_memory(reading: Sequence[str]) -> DataError:
    return DataError(
        f"the validation ran out of memory while it read blob {' or '.join(reading)}",
        next_action="write the blob again with smaller row groups, or free memory on this machine",
    )


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    os._exit(code)  # all is written; at a usual end, libraries wait for minutes for a cluster that is gone
