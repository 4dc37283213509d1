"""A holdout's error budget is spent once per run, shared by holdouts with common blobs, and not doubled by a race."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.budget import claim, foresee
from insitu.errors import StateDamaged
from insitu.gate import Evidence, decide
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
    assert foresee(state, "flights", rows, "b", GATE) == shares[1]
    assert [foresee(state, "flights", rows, "new", GATE).number for _ in range(2)] == [6, 6]
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


def test_the_same_content_under_another_name_is_no_fresh_holdout(state: FolderBlobs, tmp_path: Path) -> None:
    [blob] = holdout(tmp_path, 9).blobs
    claim(state, "flights", Batch.of("c", [replace(blob, md5="5d41")]), "a", GATE)
    claim(state, "flights", Batch.of("c", [blob]), "b", GATE)
    # Like the first by its MD5, like the second by its ETag.
    for again in (replace(blob, etag="other", md5="5d41"), blob):
        copied = Batch.of("c", [replace(again, name="again.parquet")])
        assert claim(state, "flights", copied, f"copy {again.md5}", GATE).number == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"comparisons": 100},
        {"metrics": {"brier": MetricSettings(direction="lower")}, "primary": "brier", "comparisons": 5},
    ],
    ids=["more comparisons", "another metric"],
)
def test_settings_that_change_give_nothing_of_a_spent_budget_back(
    state: FolderBlobs, tmp_path: Path, changes: dict[str, Any]
) -> None:
    rows = holdout(tmp_path, 9)
    for key in "abcd":
        assert not claim(state, "flights", rows, key, GATE).is_spent
    later = GATE.model_copy(update=changes)
    share = claim(state, "flights", rows, "e", later)
    assert share.is_spent
    assert share.taken == pytest.approx(0.05)
    metrics = {later.primary: 0.7}
    sure = {"estimate": 0.2, "low": 0.1, "high": 0.3, "error": share.error}
    decision = decide(Evidence(1000, metrics, metrics, sure, share), later, "1")
    assert decision.verdict == "inconclusive"
    assert "wait for new blobs, or raise data.holdout_blobs" in decision.reasons[-1]


def test_the_errors_of_all_comparisons_never_exceed_the_budget(state: FolderBlobs, tmp_path: Path) -> None:
    rows, taken = holdout(tmp_path, 9), 0.0
    for number, comparisons in enumerate([2, 3, 7, 1, 5, 100, 12, 4, 50]):
        gate = GATE.model_copy(update={"comparisons": comparisons})
        share = claim(state, "flights", rows, f"run {number}", gate)
        taken += 0 if share.is_spent else share.error
    assert 0.04 < taken <= 0.05 * (1 + 1e-6)


def test_runs_at_the_same_time_never_take_the_same_share(state: FolderBlobs, tmp_path: Path) -> None:
    rows = holdout(tmp_path, 9)
    with ThreadPoolExecutor(8) as pool:
        shares = list(pool.map(lambda k: claim(state, "flights", rows, f"run {k}", GATE), range(12)))
    assert sorted(share.number for share in shares) == list(range(1, 13))


def test_a_damaged_ledger_is_no_empty_one(state: FolderBlobs, tmp_path: Path) -> None:
    state.create("holdouts/flights.json", b"[{")
    with pytest.raises(StateDamaged, match=r"holdouts/flights\.json"):
        claim(state, "flights", holdout(tmp_path, 9), "a", GATE)
