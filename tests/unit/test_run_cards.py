"""What people read about a run: tables and pictures."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from insitu.edge.metrics import curves
from insitu.reporting.cards import gate_table, markdown_table, validation_table
from insitu.reporting.pictures import Point, pictures_of
from insitu.settings import GateSettings, MetricSettings, SliceSettings
from insitu.training import Trained

GATE = GateSettings(
    metrics={
        "log_loss": MetricSettings(direction="lower", floor=0.6),
        "roc_auc": MetricSettings(direction="higher"),
    },
    primary="log_loss",
)
DIFFERENCE = {"estimate": -0.05, "low": -0.07, "high": -0.03}


def drawn(rows: int = 400) -> dict[str, Any]:
    random = np.random.default_rng(3)
    truth = np.resize([0.0, 1.0, 0.0], rows)
    return curves("classification", truth, np.clip(truth / 2 + random.random(rows) / 2, 0, 1))


def trained(champion: bool = True, **changes: Any) -> Trained:
    roles = ("challenger", "champion") if champion else ("challenger",)
    values: dict[str, Any] = {
        "job": "j",
        "backend": "process",
        "seconds": 1.0,
        "champion": "3" if champion else None,
        "rows": 12_345,
        "metrics": {role: {"log_loss": 0.512345678, "roc_auc": 0.7} for role in roles},
        "difference": DIFFERENCE if champion else None,
        "curves": {role: drawn() for role in roles},
        "onnx": None,
        "claimed": {},
        "files": {},
        "peak_memory_bytes": 1,
    }
    return Trained(**values | changes)


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB\x60\x82")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_the_gate_table_has_a_row_per_metric_and_the_gain_of_the_primary_one() -> None:
    first, second = gate_table(trained(), GATE)
    assert first == {
        "metric": "log_loss (lower is better)",
        "challenger": "0.5123",
        "champion": "0.5123",
        "floor or ceiling": "0.6",
        "gain": "+0.05 (+0.03 to +0.07)",
    }
    assert (second["metric"], second["floor or ceiling"], second["gain"]) == ("roc_auc (higher is better)", "", "")


def test_without_a_champion_its_cells_are_empty() -> None:
    for row in gate_table(trained(champion=False), GATE):
        assert (row["champion"], row["gain"]) == ("", "")


def test_there_is_a_picture_of_curves_one_of_gains_and_one_of_the_history() -> None:
    seen = trained()
    history = [Point("1", 0.6), Point("2", 0.7)]
    drawn = list(pictures_of(seen.curves, seen.difference, seen.slices, GATE, history))
    assert [picture.title for picture in drawn] == [
        "ROC and calibration curves", "Gain on the whole", "log_loss over the versions"
    ]  # fmt: skip
    assert all(size_of(picture.png)[0] == 640 for picture in drawn)


def test_the_picture_of_gains_has_a_line_for_each_slice_that_says_something() -> None:
    gate = GATE.model_copy(update={"slices": {"origin": SliceSettings(margin=0.01)}})

    def entry(name: str, low: float) -> dict[str, Any]:
        return {"column": "origin", "slice": name, "rows": 500, "difference": DIFFERENCE | {"low": low}}

    def height(slices: list[dict[str, Any]]) -> int:
        [picture] = pictures_of({}, DIFFERENCE, slices, gate)
        return size_of(picture.png)[1]

    silent = entry("LGA", float("nan"))
    assert height([]) == height([silent]) < height([entry("JFK", -0.07), silent]) < height([entry("JFK", -0.07)] * 2)


def test_a_regression_has_a_picture_of_its_residuals() -> None:
    y = np.random.default_rng(1).normal(size=400)
    [picture] = pictures_of({"challenger": curves("regression", y, y / 2)}, None, (), GATE)
    assert picture.title == "Residuals and calibration curves"
    assert size_of(picture.png) == (640, 288)


def test_a_picture_is_a_png_with_and_without_champion() -> None:
    for roles in (("challenger",), ("challenger", "champion")):
        [picture] = pictures_of({role: drawn() for role in roles}, None, (), GATE)
        assert size_of(picture.png) == (640, 288)


@pytest.mark.parametrize("rows", [30, 50, 99, 100])
def test_a_small_holdout_has_a_picture_too(rows: int) -> None:
    [picture] = pictures_of({"challenger": drawn(rows)}, None, (), GATE)
    assert size_of(picture.png) == (640, 288)


def test_the_validation_table_has_a_row_per_expectation_the_failed_ones_first() -> None:
    outcome = {"expectation": "not_null", "columns": ["hour"], "unexpected_count": 0, "rows": 12_000, "success": True}
    failed = outcome | {
        "columns": ["hour", "day"],
        "unexpected_count": 3,
        "success": False,
        "reason": "3 of 12000 rows",
        "blobs": [{"name": "a.csv", "rows": 2}, {"name": "b.csv", "rows": 1}],
        "more_blobs": 4,
    }
    unknown = outcome | {"expectation": "columns", "columns": [], "unexpected_count": None, "rows": None}
    table = validation_table({"outcomes": [outcome, failed, unknown]})
    assert [row["result"] for row in table] == ["FAILS: 3 of 12000 rows", "holds", "holds"]
    assert (table[0]["columns"], table[0]["unexpected"], table[0]["rows"]) == ("hour, day", "3", "12,000")
    assert [row["blobs"] for row in table] == ["a.csv (2), b.csv (1) and 4 more", "", ""]
    assert (table[2]["columns"], table[2]["unexpected"], table[2]["rows"]) == ("", "", "")
    assert len(markdown_table(table).splitlines()) == 5


def test_a_markdown_table_has_head_rule_and_rows() -> None:
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": ""}]
    assert markdown_table(rows).splitlines() == ["| a | b |", "| --- | --- |", "| 1 | x |", "| 2 |  |"]
    assert markdown_table([{"a": "x|y"}]).splitlines()[-1] == r"| x\|y |"
