"""A holdout's error budget is spent once per run, shared by holdouts with common blobs, and not doubled by a race."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.budget import claim
from insitu.errors import StateDamaged
from insitu.settings import GateSettings, MetricSettings

GATE = GateSettings(metrics={"roc_auc": MetricSettings(direction="higher")}, primary="roc_auc", comparisons=4)


@pytest.fixture
def state(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "state")


def holdout(root: Path, *months: int) -> Batch:
    """Return the blobs of *months*, each with content of its own."""
    store = FolderBlobs(root / "blobs")
    for month in months:
        path = store.root / f"month={month}" / "a.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(month))
    return Batch.of("c", [store.stat(f"month={month}/a.parquet") for month in months])


def test_each_run_takes_the_next_share_and_the_same_at_each_call(state: FolderBlobs, tmp_path: Path) -> None:
    rows = holdout(tmp_path, 9)
    shares = [claim(state, "flights", rows, key, GATE) for key in ("a", "b", "a", "c", "b", "d", "e")]
    assert [share.number for share in shares] == [1, 2, 1, 3, 2, 4, 5]
    assert [share.is_spent for share in shares] == [False] * 6 + [True]
    assert [share.error for share in shares] == pytest.approx([0.05 / 4] * 7)


def test_fresh_rows_and_another_model_have_budgets_of_their_own(state: FolderBlobs, tmp_path: Path) -> None:
    for key in "abcd":
        claim(state, "flights", holdout(tmp_path, 9), key, GATE)
    assert claim(state, "flights", holdout(tmp_path, 10), "e", GATE).number == 1
    assert claim(state, "trains", holdout(tmp_path, 9), "e", GATE).number == 1


def test_a_holdout_with_a_blob_in_common_shares_the_budget(state: FolderBlobs, tmp_path: Path) -> None:
    claim(state, "flights", holdout(tmp_path, 9), "a", GATE)
    assert claim(state, "flights", holdout(tmp_path, 9, 10), "b", GATE).number == 2
    assert claim(state, "flights", holdout(tmp_path, 10), "c", GATE).number == 2


def test_runs_at_the_same_time_never_take_the_same_share(state: FolderBlobs, tmp_path: Path) -> None:
    rows = holdout(tmp_path, 9)
    with ThreadPoolExecutor(8) as pool:
        shares = list(pool.map(lambda k: claim(state, "flights", rows, f"run {k}", GATE), range(12)))
    assert sorted(share.number for share in shares) == list(range(1, 13))


def test_a_damaged_ledger_is_no_empty_one(state: FolderBlobs, tmp_path: Path) -> None:
    state.create("holdouts/flights.json", b"[{")
    with pytest.raises(StateDamaged, match=r"holdouts/flights\.json"):
        claim(state, "flights", holdout(tmp_path, 9), "a", GATE)
