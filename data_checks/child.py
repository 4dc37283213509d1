"""Validation in a process of its own, which may crash and whose memory goes back to the system when it ends.

this process                                             python -m data_checks FOLDER PID
  Job ─────────────── FOLDER/job.json ────────────────────>  validate
  on_progress <────── lines on its standard output ───────   how far it is, what it reads
  Report, or error <─ FOLDER/outcome.json ────────────────   what came of it
                      FOLDER/output.txt                      whatever libraries print: stays on site
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from data_checks.baseline import DriftCheck
from data_checks.report import Progress, Report
from insitu.batch import Batch
from insitu.errors import DataError, InsituError, StorageFull, naming_write_errors
from insitu.settings import ReadingSettings, ValidationSettings

JOB, OUTCOME, OUTPUT = "job.json", "outcome.json", "output.txt"
FRUGAL = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "67108864",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:1000,muzzy_decay_ms:0",
}
"""Has the allocators of the C library, Arrow and Polars share little, and keep for a second what one row group took:
giving it back at once and asking anew took a tenth of the CPU (measured)."""

_LOOK_S = 0.5
_FULL_BELOW_BYTES = 1 << 20
_ASKED_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """What is validated and how to get at it, in a form that another process can read.

    Attributes:
        suite: The file of the suite.
        store: What `insitu.stores.open_blobs` opens as the batch's container.
        state: The same for the site's state, which keeps what was measured; None keeps nothing.
        drift: What to compare with the champion's training data.
        validation: Whether that process measures, or a cluster.
    """

    suite: Path
    store: dict[str, Any]
    batch: Batch
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    state: dict[str, Any] | None = None
    drift: DriftCheck | None = None
    validation: ValidationSettings = field(default_factory=ValidationSettings)


as_job, as_report = TypeAdapter(Job), TypeAdapter(Report)


def validate_apart(job: Job, folder: Path, on_progress: Callable[[Progress], None] | None = None) -> Report:
    """Run `data_checks.engine.validate` in a process of its own; it ends with this call, and with this process.

    Args:
        job: What to validate.
        folder: Private folder of the process: emptied first, and gone after a validation that ended well.
        on_progress: Called here, with what the process tells.

    Raises:
        DataError: The process was killed while it read a blob, or what `validate` raises.
        StorageFull: No space left in *folder*.
        InsituError: What `validate` raises, or the process ended without a word.
    """
    with _private(folder):
        with naming_write_errors(folder):
            (folder / JOB).write_bytes(as_job.dump_json(job))
        code, reading = _run(folder, on_progress)
        try:
            outcome = json.loads((folder / OUTCOME).read_bytes())
        except (OSError, ValueError):
            raise _no_outcome(code, reading, folder) from None
        if error := outcome["error"]:
            raise InsituError.from_json(error)
        return as_report.validate_python(outcome["report"])


@contextmanager
def _private(folder: Path) -> Iterator[None]:
    """Have an empty folder that is this user's alone; after an error it keeps what the process printed, if anything."""
    with naming_write_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
    kept = ""
    try:
        yield
    except InsituError:
        kept = OUTPUT
        raise
    finally:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != kept or not path.stat().st_size:
                path.unlink()
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _run(folder: Path, on_progress: Callable[[Progress], None] | None) -> tuple[int, Sequence[str]]:
    """Run the process; return its exit code and the blobs that it read last."""
    reading: Sequence[str] = ()
    with open(folder / OUTPUT, "wb") as output:
        child = subprocess.Popen(
            # -P: no file in the current folder is taken for a library
            [sys.executable, "-P", "-W", "ignore", "-m", "data_checks", str(folder), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
            env={**FRUGAL, **os.environ},
        )
    try:
        for told in map(json.loads, _lines(child)):
            reading = told.get("reading", reading)
            if on_progress and "progress" in told:
                on_progress(Progress(**told["progress"]))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return child.returncode, reading


def _lines(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield the whole lines that *child* prints, to its end; a process that it left may hold on to the pipe."""
    assert child.stdout is not None
    rest, ended = b"", False
    with child.stdout as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not ended:
            ended = child.poll() is not None  # asked before the last look, so that no line is missed
            while selector.select(0 if ended else _LOOK_S):
                data = os.read(pipe.fileno(), 1 << 16)
                if not data:
                    child.wait()
                    return
                *lines, rest = (rest + data).split(b"\n")
                yield from lines


def _no_outcome(code: int, reading: Sequence[str], folder: Path) -> InsituError:
    if shutil.disk_usage(folder).free < _FULL_BELOW_BYTES:
        return StorageFull(f"no space left in {folder}", next_action="free some space, then start the run again")
    output = f"what it printed is in {folder / OUTPUT}"
    if code >= 0 or -code in _ASKED_TO_END:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return InsituError(f"the validation process {how} and left no result", next_action=output)
    name = signal.Signals(-code).name
    if not reading:
        return InsituError(f"the validation process was killed by {name} before it read a blob", next_action=output)
    advice = "see whether the machine ran out of memory; if not, write the blob again or take it out of the batch"
    return DataError(
        f"the validation process was killed by {name} while it read blob {' or '.join(reading)}",
        next_action=f"{advice}; {output}",
    )
