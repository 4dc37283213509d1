"""The search for planted tokens, which every test of this folder stands on, sees them."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from planted import TOKENS, leaks, planted, require_silence


def test_a_token_in_a_database_a_layer_or_a_log_is_found_and_one_in_the_data_is_not(tmp_path: Path) -> None:
    var = tmp_path / "var"
    for folder in ("mlflow", "images/flights/blobs/sha256", "logs", "blobs", "state"):
        (var / folder).mkdir(parents=True)
    (var / "blobs/a").write_text(TOKENS[0])
    (var / "state/report.json").write_text(TOKENS[0])
    assert leaks([tmp_path], tmp_path / "none") == {}
    with closing(sqlite3.connect(var / "mlflow/mlflow.db")) as database, database:
        database.execute("CREATE TABLE told (text)")
        database.execute("INSERT INTO told VALUES (?)", [f"bad row: {TOKENS[0]}"])
    (var / "images/flights/blobs/sha256/layer").write_bytes(gzip.compress(str(TOKENS[1]).encode()))
    (var / "logs/worker.txt").write_bytes(TOKENS[0].encode("utf-16-le"))
    found = leaks([tmp_path], tmp_path / "none")
    assert {Path(name).name: held for name, held in found.items()} == {
        "mlflow.db": [TOKENS[0]],
        "layer": [TOKENS[1]],
        "worker.txt": [TOKENS[0]],
    }


def test_every_month_has_the_tokens_and_a_command_that_prints_one_is_noticed() -> None:
    rows = planted(pa.table({"tailnum": ["N1", "N2", "N3"], "flight": pa.array([1, 2, 3], pa.int64())}))
    assert rows.to_pydict() == {"tailnum": [TOKENS[0]] * 2 + ["N3"], "flight": [TOKENS[1], 2, 3]}
    with pytest.raises(AssertionError):
        require_silence("fine", f"cannot use {TOKENS[1]}")
