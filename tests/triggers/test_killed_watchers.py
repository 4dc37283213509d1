"""Twelve watchers and forty batches: killed anywhere, each batch becomes one piece of work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trigger_helpers import Place

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "insitu" / "triggers"
POINTS = sorted(
    {point for file in SOURCES.glob("*.py") for point in re.findall(r'crashpoint\("(.*?)"\)', file.read_text())}
)


def swarm(root: Path, **wanted: Any) -> dict[str, Any]:
    """Let a swarm work off its batches; return what its auditor counted."""
    asked = json.dumps({"root": str(root), **wanted})
    done = subprocess.run([sys.executable, str(HERE / "swarm.py"), asked], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["failed"] == 0, done.stderr[-4000:]
    return told


def works_per_batch(root: Path, **trigger: Any) -> list[int]:
    """Return for each batch that was sealed how many works it became, as the site's state says."""
    book = Place.in_folder(root, **trigger).book
    sealed = {key for _, versions in book.ledger.all() for _, key in versions}
    return [len(book.batch(key)["works"]) for key in sealed]  # type: ignore[index]


def test_there_are_points_before_and_after_every_write() -> None:
    assert len(POINTS) >= 15


@pytest.mark.parametrize("coalesce", [False, True], ids=["a run per batch", "coalesced"])
@pytest.mark.timeout(300)
def test_watchers_that_are_killed_at_random_do_each_work_once(tmp_path: Path, coalesce: bool) -> None:
    told = swarm(tmp_path, batches=40, watchers=12, kills=200, coalesce=coalesce, seed=7)
    assert told["killed"] == 200
    assert (told["batches"], told["lines"], told["quarantined"]) == (40, 40, 0)
    assert works_per_batch(tmp_path) == [1] * 40


@pytest.mark.parametrize("point", [*POINTS, "work:before", "work:after"])
def test_watchers_that_die_at_a_point_leave_nothing_undone_and_nothing_doubled(tmp_path: Path, point: str) -> None:
    told = swarm(tmp_path, batches=6, watchers=4, crash_at=point)
    assert told["crashed"] >= 1
    assert (told["batches"], told["lines"], told["quarantined"]) == (6, 6, 0)
    assert works_per_batch(tmp_path) == [1] * 6


@pytest.mark.timeout(300)
def test_without_claims_the_same_watchers_double_work(tmp_path: Path) -> None:
    told = swarm(tmp_path, batches=40, watchers=12, claims=False)
    assert told["batches"] == 40
    assert told["lines"] > 40
