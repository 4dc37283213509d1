"""A blob that is overwritten while it is scanned: whenever that happens, no verdict comes of two versions."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from azurite import Azurite
from example_blobs import suite_of
from stack_hub import StackHub

from data_checks.child import Job, validate_apart
from data_checks.engine import validate
from data_checks.report import Report
from insitu.adapters.azure.blobs import AzureBlobs
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.errors import BlobChanged
from insitu.ports import BlobStore
from insitu.settings import AzureBlobStore

SUITE = suite_of(
    ("expect_column_values_to_be_between", {"column": "k", "min_value": 100}),
    ("expect_column_values_to_be_unique", {"column": "k"}),  # the blobs share keys: they are compared
    ("expect_column_values_to_be_increasing", {"column": "k"}),  # by Great Expectations itself, in a pass of its own
)
SCANNED = "b/rows"


def rows(start: int, count: int) -> pa.Table:
    return pa.table({"k": np.arange(start, start + count), "s": [f"{n:040}" for n in range(count)]})


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=3_000, use_dictionary=False, compression="none")
    return sink.getvalue()


def csv(table: pa.Table) -> bytes:
    lines = (f"{k},{s * 30}\n" for k, s in zip(*table.to_pydict().values(), strict=True))
    return ("k,s\n" + "".join(lines)).encode()  # 11 MB, which are read in several pieces


def json_lines(table: pa.Table) -> bytes:
    return "".join(json.dumps(row | {"s": row["s"] * 30}) + "\n" for row in table.to_pylist()).encode()


FORMATS = {".parquet": parquet, ".csv": csv, ".jsonl": json_lines}


@cache
def encoded(suffix: str, start: int, count: int) -> bytes:
    return FORMATS[suffix](rows(start, count))


@dataclass
class Disturbed:
    """A store of which one thing is read at a time; after so many reads of blob *name*, somebody acts."""

    store: BlobStore
    name: str
    after: int = 0
    act: Callable[[], object] = lambda: None
    reads: int = 0
    lock: Lock = field(default_factory=Lock)

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        with self.lock:
            data = self.store.read(name, etag=etag, offset=offset, length=length)
            self.reads += name == self.name
            if name == self.name and self.reads == self.after:
                self.act()
            return data


@dataclass(frozen=True)
class Scan:
    """Two blobs of one format, of which the second is overwritten by *elsewhere*, another door to the same blobs."""

    store: BlobStore
    elsewhere: BlobStore
    suffix: str
    state: BlobStore | None = None

    def fill(self) -> Batch:
        """Write the first versions, and pin them."""
        for name, start in (("a/rows", 0), (SCANNED, 8_990)):
            self._write(name + self.suffix, start, 9_000)
        return Batch.of("data", self.store.list())

    def overwrite(self) -> None:
        """Write another version of the second blob, which breaks no range that the first kept."""
        self._write(SCANNED + self.suffix, 50_000, 8_000)

    def disturbed(self, batch: Batch, after: int) -> Disturbed:
        """Validate; overwrite the second blob after so many reads of it. Return what was read, or raise."""
        store = Disturbed(self.store, SCANNED + self.suffix, after, self.overwrite)
        self.checked(batch, store)
        return store

    def checked(self, batch: Batch, store: object = None, state: BlobStore | None = None) -> Report:
        return validate(SUITE, store or self.store, batch, state=state or self.state)  # type: ignore[arg-type]

    def _write(self, name: str, start: int, count: int) -> None:
        data = encoded(self.suffix, start, count)
        if name in set(self.elsewhere.names()):
            self.elsewhere.replace(name, data, etag=self.elsewhere.stat(name).etag)
        else:
            self.elsewhere.create(name, data)


def said(report: Report) -> str:
    """Return what was judged, and not what it cost."""
    return json.dumps([report.full, report.rows, [outcome.to_json() for outcome in report.outcomes]])


@pytest.fixture
def in_folder(tmp_path: Path) -> Scan:
    folder = partial(FolderBlobs, tmp_path / "blobs")
    return Scan(folder(), folder(), ".parquet", FolderBlobs(tmp_path / "state"))


@pytest.fixture
def on_hub(hub_settings: AzureBlobStore, emulator: Azurite, new_container: Callable[[], str], tmp_path: Path) -> Scan:
    container = new_container()
    past_the_proxy = AzureBlobs(hub_settings.model_copy(update={"account_url": emulator.url}), container)
    return Scan(AzureBlobs(hub_settings, container), past_the_proxy, ".parquet", FolderBlobs(tmp_path / "state"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_after_whichever_read_it_is_overwritten_the_scan_ends_and_a_new_one_sees_the_new_version(
    in_folder: Scan, suffix: str, tmp_path: Path
) -> None:
    scan = replace(in_folder, suffix=suffix)
    reads = replace(scan, state=None).disturbed(scan.fill(), after=0).reads
    assert reads > 4
    for after in range(1, reads, 1 if suffix == ".parquet" else 3):
        fresh = replace(scan, state=FolderBlobs(tmp_path / f"state {after}"))
        with pytest.raises(BlobChanged, match=f"{SCANNED}{suffix} was overwritten"):
            fresh.disturbed(fresh.fill(), after)
        renewed = Batch.of("data", scan.store.list())
        assert said(fresh.checked(renewed)) == said(replace(scan, state=None).checked(renewed))


def test_overwritten_after_the_last_read_is_judged_as_it_was_pinned(in_folder: Scan) -> None:
    batch = in_folder.fill()
    wanted = said(in_folder.checked(batch))
    bare = replace(in_folder, state=None)
    store = Disturbed(bare.store, SCANNED + bare.suffix, bare.disturbed(batch, 0).reads, bare.overwrite)
    assert said(bare.checked(batch, store)) == wanted
    assert bare.store.stat(SCANNED + bare.suffix).etag != batch.blobs[1].etag


@pytest.mark.parametrize("suffix", FORMATS)
def test_on_the_hub_too(on_hub: Scan, suffix: str) -> None:
    scan = replace(on_hub, suffix=suffix, state=None)
    for after in (1, scan.disturbed(scan.fill(), after=0).reads - 1):
        with pytest.raises(BlobChanged, match=f"{SCANNED}{suffix} was overwritten"):
            scan.disturbed(scan.fill(), after)


def test_a_process_that_reads_from_the_hub_tells_that_the_blob_was_overwritten_between_its_reads(
    on_hub: Scan, hub: StackHub, tmp_path: Path
) -> None:
    batch = on_hub.fill()
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps({"name": SUITE.name, "expectations": SUITE.expectations}))
    assert isinstance(on_hub.store, AzureBlobs)
    store = {"kind": "azure-blob", "container": on_hub.store.container}
    store |= {"store": on_hub.store.settings.model_dump(mode="json")}
    job = Job(suite, store, batch, state={"kind": "folder", "root": str(tmp_path / "state")})

    lock, overwritten = Lock(), list[bool]()

    def overwrite_once() -> None:
        with lock:
            if SCANNED in hub.paths[-1] and not overwritten:
                on_hub.overwrite()
                overwritten.append(True)

    # Every connection ends after its answer, and the second blob is another one as soon as it has been asked for.
    hub.drop_after_bytes, hub.when_dropped = [1 << 30] * 1000, overwrite_once
    with pytest.raises(BlobChanged, match=f"{SCANNED}.parquet was overwritten"):
        validate_apart(job, tmp_path / "work")
    hub.reset()
    renewed = replace(job, batch=Batch.of("data", on_hub.store.list()))
    report = validate_apart(renewed, tmp_path / "work")
    assert said(report) == said(on_hub.checked(renewed.batch))
    assert report.rows == 17_000
