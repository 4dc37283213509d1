"""The golden rows are compared with what the image's server answers, in whatever shape a library answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from insitu.errors import ImageFailed
from insitu.serving.runtimes import plain
from insitu.smoke import compare_answers

TABLE = np.array([[0.25, 0.75, 0.0], [0.5, 0.125, 0.375]])


@dataclass(frozen=True)
class Answering:
    """A server that gives the same answer to everything."""

    predictions: list[Any]

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        return 200, json.dumps({"predictions": self.predictions}).encode()

    def peak_memory_bytes(self) -> int | None:
        return None


def gap(folder: Path, wanted: Any, found: Any) -> float:
    """Return how far what a model's library has *found* is from what is *wanted*."""
    golden = folder / "golden.json"
    golden.write_text(json.dumps({"request": {}, "predictions": wanted.tolist(), "classes": True}))
    return compare_answers(Answering(plain(found)), golden, 1e-5)


def test_a_frame_with_a_column_per_class_is_compared_as_the_table_that_it_is(tmp_path: Path) -> None:
    assert gap(tmp_path, TABLE, pd.DataFrame(TABLE, columns=["a", "b", "c"])) == 0
    assert gap(tmp_path, TABLE[:, :1], pd.DataFrame(TABLE[:, :1])) == 0
    with pytest.raises(ImageFailed, match="answers differently"):
        gap(tmp_path, TABLE, pd.DataFrame(TABLE[::-1]))


def test_answers_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageFailed, match="no numbers"):
        gap(tmp_path, TABLE, pd.DataFrame({"class": ["late", "early"]}))
