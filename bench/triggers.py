"""What it costs to turn new blobs into runs: twelve watchers, 200,000 known blobs, and the time to a run.

The blobs of the large container exist in its listing only: pages of XML as a blob service sends them, so that what is
measured is our side. The reference of a look is reading the same pages and doing nothing with them.
"""

from __future__ import annotations

import json
import math
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import ROOT, Row, report
from bench.kit.site import running_site
from bench.kit.starts import starts
from insitu.adapters.azure.listing import blobs_of
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Blob
from insitu.errors import BlobNotFound, StoreRefused
from insitu.settings import ModelSettings
from insitu.triggers.book import Book
from insitu.triggers.sealing import Scanner

_KNOWN, _PER_PREFIX, _PAGE = 200_000, 100, 5_000
_TESTS = ROOT / "tests" / "triggers"
_BLOB = (
    "<Blob><Name>{name}</Name><Properties><Creation-Time>Sun, 22 Nov 2026 23:42:42 GMT</Creation-Time>"
    "<Last-Modified>Sun, 22 Nov 2026 23:42:42 GMT</Last-Modified><Etag>0x{number:015X}</Etag>"
    "<Content-Length>1048576</Content-Length><Content-Type>application/octet-stream</Content-Type>"
    "<Content-MD5>1B2M2Y8AsgTpgAmY7PhCfg==</Content-MD5><BlobType>BlockBlob</BlobType></Properties></Blob>"
)


@dataclass
class Paged:
    """A container of *known* blobs and *new* ones, in pages made anew for each listing."""

    known: int
    new: int = 0
    pages: int = 0
    other: int = 0

    def pages_of(self) -> Iterator[str]:
        names = [f"p{n // _PER_PREFIX:05d}/{n:07d}.parquet" for n in range(self.known)]
        names += [f"q/{n}.parquet" for n in range(self.new)]
        for start in range(0, len(names), _PAGE):
            self.pages += 1
            page = enumerate(names[start : start + _PAGE], start)
            yield "".join(_BLOB.format(name=name, number=number) for number, name in page)

    def list(self, prefix: str = "") -> Iterator[Blob]:
        return (blob for page in self.pages_of() for blob in blobs_of(page) if blob.name.startswith(prefix))

    def names(self, prefix: str = "") -> Iterator[str]:
        return (blob.name for blob in self.list(prefix))

    def folders(self, prefix: str = "") -> Iterator[str]:
        raise StoreRefused("the blobs of this bench are listed whole")

    def stat(self, name: str) -> Blob:
        self.other += 1
        raise BlobNotFound(name)

    def read(self, name: str, **_: Any) -> bytes:
        self.other += 1
        raise BlobNotFound(name)

    def create(self, name: str, data: bytes) -> Blob:
        raise StoreRefused("the blobs of this bench are listed and never written")

    def replace(self, name: str, data: bytes, *, etag: str) -> Blob:
        raise StoreRefused("the blobs of this bench are listed and never written")

    def delete(self, name: str, *, etag: str) -> None:
        raise StoreRefused("the blobs of this bench are listed and never written")


def model() -> ModelSettings:
    """Return a model that takes every blob, a hundred of which make a batch; the new ones wait."""
    return ModelSettings.model_validate({
        "name": "large",
        "target": {"task": "regression", "label_column": "y"},
        "data": {"container": "large", "suite": "large", "blobs": "*.parquet"},
        "train": {"command": ["python", "train.py"]},
        "gate": {"primary": "mae", "metrics": {"mae": {"direction": "lower"}}},
        "trigger": {"rule": "files", "files": 10},
    })  # fmt: skip


def look(state: Path, new: int) -> dict[str, float]:
    """Look once, in a process of its own; return seconds, CPU, memory, requests and what was sealed."""
    code = (
        "import json, resource, sys; from bench.triggers import look_here; from pathlib import Path;"
        f"print(json.dumps(look_here(Path({str(state)!r}), {new})))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def look_here(state: Path, new: int) -> dict[str, float]:
    """Look once; then go through the same pages and do nothing."""
    container = Paged(_KNOWN, new)
    wall, cpu = time.perf_counter(), time.process_time()
    scan = Scanner(Book(FolderBlobs(state), model()), container, "bench").scan()
    told = {"s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "sealed": len(scan.sealed)}
    told |= {"mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}
    told |= {"pages": container.pages, "other": container.other}
    cpu = time.process_time()
    for _ in container.pages_of():
        pass
    making = time.process_time() - cpu
    cpu = time.process_time()
    for _ in container.list():
        pass
    return told | {"cpu_s": told["cpu_s"] - making, "parsing_s": time.process_time() - cpu - making}


def swarm(root: Path, **wanted: Any) -> dict[str, Any]:
    """Let twelve watchers work off forty batches."""
    asked = json.dumps({"root": str(root), "batches": 40, "watchers": 12, **wanted})
    done = subprocess.run([sys.executable, str(_TESTS / "swarm.py"), asked], check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def crash_points() -> list[str]:
    """Return every point of the watcher, and those before and after its work."""
    sources = (ROOT / "insitu" / "triggers").glob("*.py")
    found = {point for file in sources for point in re.findall(r'crashpoint\("(.*?)"\)', file.read_text())}
    return [*sorted(found), "work:before", "work:after"]


def latency(root: Path, poll_s: float = 2.0, blobs: int = 20, fresh: int = 5) -> tuple[list[float], list[float]]:
    """Return the seconds from a complete batch to the start of its run, one by one; and the same in fresh processes."""
    with running_site(root, poll_s) as site:
        waits: list[float] = []
        for number in range(blobs + fresh):
            if number == blobs:
                site.outdate()
            time.sleep(0.37 * number % poll_s)  # at any moment between two looks
            waits.append(site.latency_s(number))
            site.wait_for_rest()
    return sorted(waits[:blobs]), sorted(waits[blobs:])


def main() -> None:
    """Measure, and write the table."""
    with tempfile.TemporaryDirectory(prefix="insitu-bench-") as folder:
        scratch = Path(folder)
        (scratch / "state").mkdir()
        first = look(scratch / "state", 0)
        looks = [look(scratch / "state", 9) for _ in range(3)]
        claimed, killed = swarm(scratch / "claims"), swarm(scratch / "killed", kills=200)
        without = swarm(scratch / "without", claims=False)
        at_once = starts(scratch / "starts")
        at_points = [swarm(scratch / point, crash_at=point) for point in crash_points()]
        (scratch / "site").mkdir()
        waits, fresh = latency(scratch / "site")
    middle = {key: statistics.median(one[key] for one in looks) for key in looks[0]}
    print(f"first look at {_KNOWN:,} blobs: {first['s']:.0f} s, {first['sealed']} batches, {first['mb']:.0f} MB")
    rows = [
        Row("look: 200,000 known, CPU", middle["cpu_s"], middle["parsing_s"], "parsing the pages alone", "s", 5),
        Row("look: memory", middle["mb"], 200, "200 MB", "MB", 200),
        Row("look: requests to the data", middle["pages"] + middle["other"], _KNOWN // _PAGE + 1, "pages", "", 41),
        Row("40 batches, 12 watchers", claimed["lines"], without["lines"], "claims switched off", "works", 40),
        Row("the same, 200 killed", killed["lines"], 40, "batches", "works", 40),
        Row(
            f"the same, killed at {len(at_points)} points, most",
            max(told["lines"] for told in at_points),
            40,
            "batches",
            "works",
            40,
        ),
        Row("1,000 starts of one run: workers", at_once["won"], at_once["named"], "others that name it", "", 1),
        Row("the same: until all know", at_once["seconds"], 60, "a minute", "s", 60),
        Row(
            "blob to Running, poll 2 s, p50",
            statistics.median(waits),
            statistics.median(fresh),
            "a fresh process per run",
            "s",
            5 + 3,
        ),
        Row(
            "blob to Running, poll 2 s, p95",
            waits[math.ceil(len(waits) * 0.95) - 1],
            max(fresh),
            "the same, slowest",
            "s",
            2 + 3,
        ),
    ]
    report("triggers", rows, ["pydantic"])


if __name__ == "__main__":
    main()
