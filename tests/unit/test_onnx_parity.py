"""An export serves only if it answers as its model does, on far more than the golden rows; what differs is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pandas as pd
import pytest
from mlflow.models import infer_signature
from onnx import TensorProto, helper

from insitu.agreement import compare
from insitu.edge.parity import MOST_ROWS, judge_export
from insitu.serving.payload import Column
from insitu.serving.runtimes import OnnxRuntime

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A model that is a function of its columns; *model* is what MLflow knows of it."""

    function: Callable[[pd.DataFrame], Any]
    rows: pd.DataFrame

    @property
    def inputs(self) -> list[str]:
        return list(self.rows)

    @property
    def model(self) -> Any:
        return SimpleNamespace(metadata=SimpleNamespace(signature=infer_signature(self.rows)))

    def predict(self, rows: pd.DataFrame) -> Vector:
        return np.asarray(self.function(rows), dtype=np.float64)


def graph(path: Path, *nodes: Any, kind: int = TensorProto.FLOAT) -> Path:
    """Save a model of the columns `a` and `b`, whose output is `out`; `one` is 1."""
    columns = [helper.make_tensor_value_info(name, kind, [None, 1]) for name in ("a", "b")]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, 1])
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    made = helper.make_graph(list(nodes), "g", columns, [out], [one])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


SUM = helper.make_node("Add", ["a", "b"], ["out"])
ONE_MORE_ABOVE_ONE = (
    helper.make_node("Add", ["a", "b"], ["sum"]),
    helper.make_node("Greater", ["a", "one"], ["above"]),
    helper.make_node("Cast", ["above"], ["more"], to=TensorProto.FLOAT),
    helper.make_node("Add", ["sum", "more"], ["out"]),
)


@pytest.fixture
def rows() -> pd.DataFrame:
    random = np.random.default_rng(4)
    return pd.DataFrame({"a": random.random(3000), "b": random.random(3000)})


def judged(export: Path, model: Model, tolerance: float = 1e-5, task: str = "regression") -> dict[str, Any]:
    return judge_export(export, model, model.rows, tolerance, task)


def test_an_export_that_answers_alike_is_used_and_says_on_how_many_rows(rows: pd.DataFrame, tmp_path: Path) -> None:
    rows.loc[:9, "a"] = np.nan
    found = judged(graph(tmp_path / "m", SUM), Model(lambda x: x.a + x.b, rows))
    assert (found["usable"], found["rows"], found["missing_rows"]) == (True, 3000, 10)
    assert (found["precision"], found["blanks"]) == ("float32", [])
    assert 0 < found["max_difference"] < 1e-6
    assert "reason" not in found


def test_a_column_of_answers_is_an_answer_for_each_row(rows: pd.DataFrame, tmp_path: Path) -> None:
    export = graph(tmp_path / "m", SUM)  # it answers with a column
    assert OnnxRuntime(export, [Column("a", "double"), Column("b", "double")]).predict({"a": [1.0], "b": [2.0]}) == [3]
    found = judged(export, Model(lambda x: (x.a + x.b).to_numpy()[:, None], rows))
    assert (found["usable"], found["blanks"]) == (True, [])
    found = judged(export, Model(lambda x: np.column_stack([x.a, x.b]), rows))
    assert "the shape (3000,), the model's (3000, 2)" in found["reason"]


def test_one_row_of_thousands_that_differs_is_found_and_told(rows: pd.DataFrame, tmp_path: Path) -> None:
    rows.loc[1234, "a"] = 2.0
    found = judged(graph(tmp_path / "m", *ONE_MORE_ABOVE_ONE), Model(lambda x: x.a + x.b, rows))
    assert (found["usable"], found["beyond"]) == (False, 1)
    assert found["reason"] == (
        "of 3,000 answers of the export 1 differ from the model's, by up to 1 (smoke.tolerance is 1e-05)"
    )


def test_what_single_precision_rounds_is_no_difference(rows: pd.DataFrame, tmp_path: Path) -> None:
    assert judged(graph(tmp_path / "m", SUM), Model(lambda x: x.a + x.b, rows * 1e6))["usable"]


def test_columns_in_another_order_are_found(rows: pd.DataFrame, tmp_path: Path) -> None:
    export = graph(tmp_path / "m", helper.make_node("Sub", ["b", "a"], ["out"]))
    found = judged(export, Model(lambda x: x.a - x.b, rows))
    assert (found["usable"], found["beyond"]) == (False, 3000)


def test_an_export_of_another_type_is_found(rows: pd.DataFrame, tmp_path: Path) -> None:
    export = graph(
        tmp_path / "m",
        helper.make_node("Add", ["a", "b"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["out"], to=TensorProto.FLOAT),
        kind=TensorProto.INT64,
    )
    found = judged(export, Model(lambda x: x.a + x.b, rows))
    assert (found["usable"], found["beyond"] > 2900) == (False, True)


def test_a_column_without_whose_value_it_answers_otherwise_is_named(rows: pd.DataFrame, tmp_path: Path) -> None:
    model = Model(lambda x: x.a + x.b.fillna(0.5), rows)
    found = judged(graph(tmp_path / "m", SUM), model)
    assert (found["usable"], found["blanks"]) == (True, ["b"])
    rows.loc[5, "b"] = np.nan
    found = judged(graph(tmp_path / "m", SUM), model)
    assert (found["usable"], found["max_difference"]) == (False, None)
    assert "some are no numbers" in found["reason"]


def test_of_very_many_rows_some_are_taken_and_those_that_lack_a_value_are_among_them(tmp_path: Path) -> None:
    many = pd.DataFrame({"a": np.linspace(0, 1, 50_000), "b": 0.5})
    many.loc[41_237, "b"] = np.nan
    found = judged(graph(tmp_path / "m", SUM), Model(lambda x: x.a + x.b, many))
    assert found["usable"]
    assert MOST_ROWS - 1 <= found["rows"] <= MOST_ROWS
    assert found["missing_rows"] == 1


def test_a_class_that_flips_counts_whatever_the_tolerance() -> None:
    wanted = np.array([[0.6, 0.4], [0.4, 0.6], [0.5, 0.5]])
    found = compare(np.array([[0.45, 0.55], [0.4, 0.6], [0.5 - 1e-7, 0.5 + 1e-7]]), wanted, 0.5, 2e-6, classes=True)
    assert (found.beyond, found.flips, found.holds) == (0, 1, False)
    assert compare(np.array([0.45, 0.7]), np.array([0.6, 0.7]), 0.5, classes=True).flips == 1
    assert compare(np.array([0.45, 0.7]), np.array([0.6, 0.7]), 0.5).holds


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_is_like_itself_alone(strange: float) -> None:
    strangers, numbers = np.array([strange, 1.0]), np.array([1.0, 1.0])
    assert compare(strangers, strangers, 0.0).holds
    for found in (compare(strangers, numbers, 1e9), compare(numbers, strangers, 1e9)):
        assert (found.beyond, found.max_difference) == (1, np.inf)


def test_no_rows_agree() -> None:
    assert compare(np.empty((0, 2)), np.empty((0, 2)), 0.0, classes=True).holds
