"""What every `BlobStore` promises. A store is opened twice to show that two machines see the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Event

import pytest

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.adapters.local.blobs import FolderBlobs
from insitu.errors import BlobChanged, BlobExists, BlobNotFound, InsituError, UsageError
from insitu.ports import BlobStore
from insitu.settings import AzureBlobStore

Open = Callable[[], BlobStore]


@pytest.fixture
def local(tmp_path: Path) -> Open:
    return partial(FolderBlobs, tmp_path / "data")


@pytest.fixture
def azure(hub_settings: AzureBlobStore, new_container: Callable[[], str]) -> Open:
    return partial(AzureBlobs, hub_settings, new_container())


@pytest.fixture(params=["local", "azure"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Make an empty container and return how to open it; that must pickle."""
    made: Open = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def store(opened: Open) -> BlobStore:
    return opened()


@pytest.fixture
def folder_store(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path)


def names(store: BlobStore, prefix: str = "") -> list[str]:
    return [blob.name for blob in store.list(prefix)]


# --- list, stat ---


def test_an_empty_container_lists_nothing(store: BlobStore) -> None:
    assert names(store) == []


def test_blobs_are_listed_in_name_order(store: BlobStore) -> None:
    for name in ("b", "a/2", "a-1", "a/10", "a.x", "ä", "Z", "a/b/c"):
        store.create(name, b"")
    assert names(store) == sorted(["b", "a/2", "a-1", "a/10", "a.x", "ä", "Z", "a/b/c"])


def test_a_prefix_selects_by_the_beginning_of_the_name(store: BlobStore) -> None:
    for name in ("month=1/a", "month=10/a", "month=2/a", "other"):
        store.create(name, b"")
    assert names(store, "month=1") == ["month=1/a", "month=10/a"]
    assert names(store, "month=1/") == ["month=1/a"]
    assert names(store, "nothing") == []


def test_folders_are_one_level_of_names(store: BlobStore) -> None:
    for name in ("a", "month=1/a", "month=10/x/b", "month=10/y/c", "Z/d", "month=1-late"):
        store.create(name, b"")
    assert list(store.folders()) == ["Z/", "month=1/", "month=10/"]
    assert list(store.folders("month=1")) == ["month=1/", "month=10/"]
    assert list(store.folders("month=10/")) == ["month=10/x/", "month=10/y/"]
    assert list(store.folders("month=1/")) == list(store.folders("nothing/")) == []


def test_names_are_those_of_the_listing(store: BlobStore) -> None:
    for name in ("month=1/a", "month=10/a", "Z", "ä"):
        store.create(name, b"x")
    for prefix in ("", "month=1", "month=1/", "nothing"):
        assert list(store.names(prefix)) == names(store, prefix)


def test_listing_and_stat_tell_the_same(store: BlobStore, opened: Open) -> None:
    made = store.create("a/b", b"12345")
    (listed,) = opened().list()
    assert listed == made == opened().stat("a/b")
    assert (listed.name, listed.size_bytes) == ("a/b", 5)
    assert abs(datetime.now(UTC) - listed.last_modified) < timedelta(minutes=1)


# --- read ---


def test_what_was_written_is_read(store: BlobStore, opened: Open) -> None:
    data = bytes(range(256)) * 5000
    store.create("a", data)
    store.create("empty", b"")
    assert opened().read("a") == data
    assert opened().read("empty") == b""


@pytest.mark.parametrize(
    ("offset", "length", "wanted"),
    [
        (0, 3, b"012"),
        (4, 3, b"456"),
        (7, None, b"789"),
        (8, 100, b"89"),
        (10, None, b""),
        (10, 5, b""),
        (50, 5, b""),
        (50, None, b""),
        (3, 0, b""),
    ],
)
def test_a_range_is_read_at_most_to_the_end(store: BlobStore, offset: int, length: int | None, wanted: bytes) -> None:
    etag = store.create("a", b"0123456789").etag
    assert store.read("a", offset=offset, length=length) == wanted
    assert store.read("a", etag=etag, offset=offset, length=length) == wanted


def test_another_version_is_refused_by_name(store: BlobStore, opened: Open) -> None:
    old = store.create("part/a", b"old")
    opened().replace("part/a", b"new", etag=old.etag)
    with pytest.raises(BlobChanged, match="part/a"):
        store.read("part/a", etag=old.etag)
    with pytest.raises(BlobChanged, match="part/a"):
        store.read("part/a", etag=old.etag, offset=0, length=1)
    assert store.read("part/a") == b"new"


# --- create, replace ---


def test_a_name_is_created_once_and_keeps_its_first_content(store: BlobStore, opened: Open) -> None:
    first = store.create("a/b", b"first")
    with pytest.raises(BlobExists, match="a/b"):
        opened().create("a/b", b"second")
    assert opened().read("a/b", etag=first.etag) == b"first"


def test_replacing_tells_the_new_version(store: BlobStore) -> None:
    old = store.create("a", b"old")
    new = store.replace("a", b"newer", etag=old.etag)
    assert (new.name, new.size_bytes) == ("a", 5)
    assert new.etag == store.stat("a").etag != old.etag
    assert store.read("a", etag=new.etag) == b"newer"


def test_a_stale_version_is_not_replaced(store: BlobStore, opened: Open) -> None:
    old = store.create("a", b"old")
    opened().replace("a", b"theirs", etag=old.etag)
    with pytest.raises(BlobChanged, match="blob a"):
        store.replace("a", b"mine", etag=old.etag)
    assert store.read("a") == b"theirs"
    assert names(store) == ["a"]


def test_a_deleted_blob_is_gone_and_may_be_made_anew(store: BlobStore, opened: Open) -> None:
    for name in ("a/b", "a/c"):
        store.create(name, b"x")
    store.delete("a/b", etag=store.stat("a/b").etag)
    assert names(opened()) == ["a/c"]
    with pytest.raises(BlobNotFound, match="a/b"):
        opened().read("a/b")
    store.create("a/b", b"again")
    assert opened().read("a/b") == b"again"


def test_a_folder_without_blobs_is_none(store: BlobStore) -> None:
    store.create("a/b/c", b"x")
    store.delete("a/b/c", etag=store.stat("a/b/c").etag)
    assert list(store.folders()) == list(store.folders("a/")) == []


def test_a_stale_version_is_not_deleted(store: BlobStore, opened: Open) -> None:
    old = store.create("a", b"old")
    opened().replace("a", b"theirs", etag=old.etag)
    with pytest.raises(BlobChanged, match="blob a"):
        store.delete("a", etag=old.etag)
    assert store.read("a") == b"theirs"


@pytest.mark.parametrize("name", ["none", "no/such/blob", "a/b/below", "a"])
def test_a_missing_blob_is_named(store: BlobStore, name: str) -> None:
    store.create("a/b", b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.stat(name),
        lambda: store.read(name),
        lambda: store.read(name, etag='"e"', offset=1, length=1),
        lambda: store.replace(name, b"x", etag='"e"'),
        lambda: store.delete(name, etag='"e"'),
    ]
    for call in calls:
        with pytest.raises(BlobNotFound, match=name):
            call()
    assert names(store) == ["a/b"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "/a",
        "/",
        "//a",
        "a//b",
        "a/",
        "./a",
        "a/./b",
        ".a",
        "a/.b",
        ".a/b",
        "a\0",
    ],
)
def test_a_name_that_leaves_the_container_or_hides_is_refused(store: BlobStore, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.stat(name),
        lambda: store.read(name),
        lambda: store.create(name, b"x"),
        lambda: store.replace(name, b"x", etag='"e"'),
        lambda: store.delete(name, etag='"e"'),
    ]
    for call in calls:
        with pytest.raises(UsageError):
            call()
    assert names(store) == []


@pytest.mark.parametrize("name", ["month=01/a b.parquet", "größe/日本", "a..b", "a%20b", "a#b?c", "-rf", "~", "a'\"b"])
def test_a_strange_name_is_a_name(store: BlobStore, name: str) -> None:
    assert store.create(name, b"x").name == name
    assert names(store) == [name]
    assert store.read(name) == b"x"


# --- many at once ---

PROCESSES = 8


def _create(opened: Open, number: int) -> bool:
    try:
        opened().create("claims/a", b"%d" % number * 1000)
    except BlobExists:
        return False
    return True


def _count_up(opened: Open, times: int) -> int:
    """Add 1 to a number *times* times, each on top of what is there; return how often somebody was faster."""
    store, lost = opened(), 0
    for _ in range(times):
        while True:
            blob = store.stat("number")
            try:
                number = int(store.read("number", etag=blob.etag))
                store.replace("number", b"%06d" % (number + 1), etag=blob.etag)
                break
            except BlobChanged:
                lost += 1
    return lost


def _chain(opened: Open, writer: int, times: int) -> list[str]:
    """Replace a blob again and again; return what contradicted the promise that one's own version is told."""
    store, strange = opened(), []
    for n in range(times):
        data = b"%d %d" % (writer, n)
        while True:
            try:
                mine = store.replace("chain", data, etag=store.stat("chain").etag)
                break
            except BlobChanged:
                continue
        try:
            if store.read("chain", etag=mine.etag) != data:
                strange.append(f"{data!r}: another's version was returned as mine")
        except BlobChanged:
            pass
    return strange


@pytest.fixture(scope="module")
def processes() -> Iterable[ProcessPoolExecutor]:
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        yield pool


def test_of_eight_processes_that_create_one_name_exactly_one_wins(opened: Open, processes: ProcessPoolExecutor) -> None:
    won = list(processes.map(partial(_create, opened), range(PROCESSES)))
    assert won.count(True) == 1
    assert opened().read("claims/a") == b"%d" % won.index(True) * 1000


def test_of_eight_threads_that_create_one_name_exactly_one_wins(store: BlobStore) -> None:
    with ThreadPoolExecutor(PROCESSES) as pool:
        won = list(pool.map(partial(_create, lambda: store), range(PROCESSES)))
    assert won.count(True) == 1
    assert store.read("claims/a") == b"%d" % won.index(True) * 1000


def test_of_updates_from_many_processes_none_is_lost(opened: Open, processes: ProcessPoolExecutor) -> None:
    opened().create("number", b"000000")
    list(processes.map(partial(_count_up, opened), [25] * 4))
    assert int(opened().read("number")) == 100


def test_of_updates_from_many_threads_of_one_store_none_is_lost(store: BlobStore) -> None:
    store.create("number", b"000000")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(partial(_count_up, lambda: store), [25] * 4))
    assert int(store.read("number")) == 100


def test_replacing_tells_ones_own_version_even_when_others_write_too(
    opened: Open, processes: ProcessPoolExecutor
) -> None:
    opened().create("chain", b"begin")
    found = list(processes.map(partial(_chain, opened), range(4), [60] * 4))
    assert [text for strange in found for text in strange] == []


def _write_for_ever(opened: Open, times: int) -> None:
    store = opened()
    blob = store.create("big", b"a" * 400_000)
    for n in range(times):
        blob = store.replace("big", (b"b", b"a")[n % 2] * 400_000, etag=blob.etag)


def test_a_half_written_blob_is_never_listed_or_read(opened: Open, processes: ProcessPoolExecutor) -> None:
    store, seen = opened(), set()
    writing = processes.submit(_write_for_ever, opened, 60)
    while not writing.done():
        for blob in store.list():
            seen.add((blob.name, blob.size_bytes))
            assert len(set(store.read("big"))) == 1
    writing.result()
    assert seen <= {("big", 400_000)}


def test_who_reads_while_another_overwrites_gets_either_version_whole(opened: Open) -> None:
    store, size_bytes = opened(), 1 << 25
    versions = [letter * size_bytes for letter in (b"a", b"b")]
    made = store.create("a", versions[0])
    time.sleep(1.5)  # a version of some age is read without its digest
    begun, done, read = Event(), Event(), set[bytes]()

    def keep_reading() -> None:
        while not done.is_set():
            read.add(store.read("a"))
            begun.set()

    with ThreadPoolExecutor(1) as reader:
        ended = reader.submit(keep_reading)
        begun.wait(60)
        opened().replace("a", versions[1], etag=made.etag)
        done.set()
        ended.result()
    assert read <= set(versions)


# --- what only the folder of this machine promises, and can meet ---


def test_equal_bytes_have_equal_etags_and_others_have_others(folder_store: FolderBlobs) -> None:
    one, two = folder_store.create("a", b"same"), folder_store.create("b", b"same")
    assert one.etag == two.etag != folder_store.create("c", b"sane").etag


def test_a_version_that_came_back_is_that_version(folder_store: FolderBlobs) -> None:
    first = folder_store.create("a", b"one")
    second = folder_store.replace("a", b"two", etag=first.etag)
    folder_store.replace("a", b"one", etag=second.etag)
    assert folder_store.read("a", etag=first.etag) == b"one"


def test_a_file_that_is_overwritten_in_place_is_another_version(folder_store: FolderBlobs) -> None:
    path = folder_store.root / "a"
    for n in range(300):
        path.write_bytes(b"%06d" % n)
        etag = folder_store.stat("a").etag
        path.write_bytes(b"%06d" % (n + 1))
        assert folder_store.stat("a").etag != etag
        with pytest.raises(BlobChanged):
            folder_store.read("a", etag=etag)


def test_a_file_that_grows_while_it_is_read_is_refused(folder_store: FolderBlobs) -> None:
    pinned = folder_store.create("a", b"x" * 1000)
    with open(folder_store.root / "a", "ab") as file:
        file.write(b"more")
    with pytest.raises(BlobChanged, match="blob a"):
        folder_store.read("a", etag=pinned.etag, offset=0, length=1000)


def test_a_file_that_was_touched_is_the_same_version(folder_store: FolderBlobs) -> None:
    pinned = folder_store.create("a", b"x")
    (folder_store.root / "a").touch()
    assert folder_store.stat("a") == pinned


def test_hidden_files_and_folders_are_no_blobs(folder_store: FolderBlobs) -> None:
    for name in (".lock", ".git/config", "a/.staged-1", "a/b"):
        path = folder_store.root / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder_store.root / "empty").mkdir()
    assert names(folder_store) == ["a/b"]


def test_an_error_of_a_store_is_one_of_ours(folder_store: FolderBlobs) -> None:
    folder_store.create("a", b"x")
    with pytest.raises(InsituError):
        folder_store.create("a/b", b"below a blob")
