"""The journal of a run: each step is done once, and a kill at any point loses nothing that was kept."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from insitu.adapters.local.blobs import FolderBlobs
from insitu.errors import StateDamaged
from insitu.journal import Journal

POINTS = ["train:before", "train:done", "train:recorded"]
CHILD = """
import sys
from pathlib import Path
from insitu.adapters.local.blobs import FolderBlobs
from insitu.journal import Journal

root = Path(sys.argv[1])

def work() -> int:
    with open(root / "work.txt", "a") as file:
        file.write("done\\n")
    return 7

print(Journal(FolderBlobs(root / "state"), "m", "k").once("train", int, work))
"""


@dataclass(frozen=True)
class Value:
    seconds: float
    names: tuple[str, ...]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(FolderBlobs(tmp_path), "flights", "abc")


class Counted:
    """Work that counts how often it is done."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Value:
        self.times += 1
        return Value(float(self.times), ("a", "b"))


def test_a_step_is_done_once_and_its_value_comes_back_in_its_type(journal: Journal) -> None:
    work = Counted()
    first = journal.once("train", Value, work)
    assert journal.once("train", Value, work) == first == Value(1.0, ("a", "b"))
    assert work.times == 1


def test_another_start_with_the_same_key_finds_the_value(journal: Journal, tmp_path: Path) -> None:
    journal.once("train", Value, Counted())
    work = Counted()
    again = Journal(FolderBlobs(tmp_path), "flights", "abc")
    assert again.once("train", Value, work) == Value(1.0, ("a", "b"))
    assert work.times == 0


@pytest.mark.parametrize(
    ("model", "key", "step"), [("other", "abc", "train"), ("flights", "x", "train"), ("flights", "abc", "gate")]
)
def test_another_model_key_or_step_is_other_work(
    journal: Journal, tmp_path: Path, model: str, key: str, step: str
) -> None:
    journal.once("train", Value, Counted())
    work = Counted()
    Journal(FolderBlobs(tmp_path), model, key).once(step, Value, work)
    assert work.times == 1


def test_again_does_the_work_again_and_keeps_the_new_value(journal: Journal) -> None:
    work = Counted()
    journal.once("ready", Value, work)
    assert journal.again("ready", Value, work).seconds == 2.0
    assert journal.once("ready", Value, work).seconds == 2.0
    assert work.times == 2


def test_a_value_whose_thing_is_gone_is_made_again(journal: Journal) -> None:
    work, asked = Counted(), list[Value]()

    def gone(value: Value) -> bool:
        asked.append(value)
        return False

    assert journal.once("train", Value, work, still=gone).seconds == 1.0
    assert asked == []
    assert journal.once("train", Value, work, still=gone).seconds == 2.0
    assert asked == [Value(1.0, ("a", "b"))]
    assert journal.once("train", Value, work, still=lambda value: value.seconds == 2.0).seconds == 2.0
    assert work.times == 2


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b'{"seconds": 1,'])
def test_a_file_that_is_not_json_is_named_as_damaged(journal: Journal, data: bytes) -> None:
    journal.state.create(journal.name("train"), data)
    work = Counted()
    with pytest.raises(StateDamaged, match=r"runs/flights/abc/train\.json") as caught:
        journal.once("train", Value, work)
    assert (caught.value.code, work.times) == ("E-STATE", 0)
    assert caught.value.next_action


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_work_that_fails_leaves_nothing_and_is_tried_again(journal: Journal, error: type[BaseException]) -> None:
    def fail() -> Value:
        raise error

    with pytest.raises(error):
        journal.once("train", Value, fail)
    assert journal.entry("train") is None
    assert list(journal.state.list()) == []
    assert journal.once("train", Value, Counted()).seconds == 1.0


def test_a_value_of_none_is_a_value(journal: Journal) -> None:
    calls: list[int] = []
    for _ in range(2):
        journal.once("notify", type(None), lambda: calls.append(1))
    assert calls == [1]


def test_an_entry_tells_how_long_the_step_took(journal: Journal) -> None:
    journal.once("train", Value, Counted())
    entry = journal.entry("train")
    assert set(entry) == {"seconds", "value"}
    assert entry["seconds"] >= 0


def test_what_is_kept_replaces_what_was_kept(journal: Journal) -> None:
    for state in ("Failed", "Completed"):
        journal.keep("record", {"state": state})
    assert journal.entry("record") == {"state": "Completed"}


def run_child(root: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, root], env=variables, capture_output=True, text=True, timeout=60
    )


def test_the_crash_points_are_passed_in_order(tmp_path: Path) -> None:
    child = run_child(tmp_path, INSITU_CRASH_LOG=str(tmp_path / "points.txt"))
    assert child.stdout == "7\n", child.stderr
    assert (tmp_path / "points.txt").read_text().split() == POINTS


@pytest.mark.parametrize(
    ("point", "worked", "kept"), [(POINTS[0], 0, False), (POINTS[1], 1, False), (POINTS[2], 1, True)]
)
def test_a_kill_at_a_point_ends_the_process_there_and_the_next_start_goes_on(
    tmp_path: Path, point: str, worked: int, kept: bool
) -> None:
    def times() -> int:
        path = tmp_path / "work.txt"
        return len(path.read_text().split()) if path.exists() else 0

    killed = run_child(tmp_path, INSITU_CRASH_AT=point, INSITU_CRASH_LOG=str(tmp_path / "points.txt"))
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout == ""
    assert (tmp_path / "points.txt").read_text().split()[-1] == point
    assert times() == worked
    assert (Journal(FolderBlobs(tmp_path / "state"), "m", "k").entry("train") is not None) == kept
    assert run_child(tmp_path).stdout == "7\n"
    assert times() == worked + (not kept)


def test_a_name_that_is_no_point_kills_nothing(tmp_path: Path) -> None:
    assert run_child(tmp_path, INSITU_CRASH_AT="train").stdout == "7\n"


def test_what_two_write_at_once_is_all_there(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()

    def add(number: int) -> None:
        Journal(FolderBlobs(tmp_path / "state"), "m", "k").change("list", lambda kept: [*(kept or []), number])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert sorted(Journal(FolderBlobs(tmp_path / "state"), "m", "k").entry("list")) == list(range(40))
