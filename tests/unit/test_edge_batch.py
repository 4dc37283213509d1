"""A training script reads what was pinned: rows, labels, and never a byte of another version."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.edge.data import DATA_ERROR, EdgeBatch, open_batch
from insitu.errors import BlobChanged, BlobNotFound, DataError, InsituError, UsageError

Open = Callable[..., EdgeBatch]
ROWS: dict[str, list[Any]] = {
    "carrier": ["AA", "UA", None, "B6", "AA"],
    "distance": [100, 200, 300, 400, 500],
    "delay": [None, 15.0, 15.5, -3.0, 90.0],
}


def parquet(rows: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows), buffer, compression="zstd")
    return buffer.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def pinned(store: FolderBlobs, tmp_path: Path) -> Open:
    """Return a function that pins what lies in the store, as the edge job's manifest does."""

    def make(**target: Any) -> EdgeBatch:
        target = {"task": "classification", "label_column": "delay", "label_above": 15.0} | target
        batch = Batch.of("c", store.list()).to_json()
        manifest = batch | {"store": {"kind": "folder", "root": str(store.root)}, "target": target}
        (tmp_path / "batch.json").write_text(json.dumps(manifest))
        environ = {"INSITU_BATCH": str(tmp_path / "batch.json"), "INSITU_OUTPUT": str(tmp_path / "out")}
        return open_batch(environ | {"INSITU_PARAMS": '{"C": 2.5}'})

    return make


def test_parameters_output_and_target_come_with_the_batch(store: FolderBlobs, pinned: Open, tmp_path: Path) -> None:
    store.create("a", parquet(ROWS))
    batch = pinned()
    assert (batch.params, batch.output, batch.target["label_column"]) == ({"C": 2.5}, tmp_path / "out", "delay")


def test_rows_come_in_blob_order_and_only_the_columns_that_are_asked_for(store: FolderBlobs, pinned: Open) -> None:
    for name, start in (("b/2", 10), ("a/1", 0)):
        store.create(name, parquet({"x": list(range(start, start + 10)), "y": ["t"] * 10}))
    table = pinned().table(["x"])
    assert table.column_names == ["x"]
    assert table["x"].to_pylist() == list(range(20))
    assert pinned().table().column_names == ["x", "y"]


def test_a_label_is_above_and_a_row_without_one_is_left_out(store: FolderBlobs, pinned: Open) -> None:
    store.create("a", parquet(ROWS))
    features, labels = pinned().examples(["distance", "carrier"])
    assert labels.tolist() == [0, 1, 0, 1]
    assert list(features.columns) == ["distance", "carrier"]
    assert features["distance"].tolist() == [200, 300, 400, 500]


@pytest.mark.parametrize(("column", "one", "labels"), [("carrier", "AA", [1, 0, 0, 1]), ("delay", -3.0, [0, 0, 1, 0])])
def test_a_label_is_one_class_and_all_others_are_the_other(
    column: str, one: Any, labels: list[int], store: FolderBlobs, pinned: Open
) -> None:
    store.create("a", parquet(ROWS))
    _, found = pinned(label_column=column, label_above=None, label_is=one).examples(["distance"])
    assert found.tolist() == labels


def test_of_many_classes_the_label_is_the_place_and_one_without_a_place_is_refused(
    store: FolderBlobs, pinned: Open
) -> None:
    store.create("a", parquet(ROWS))
    _, found = pinned(label_above=None, classes=[90.0, -3.0, 15.0, 15.5]).examples(["distance"])
    assert found.tolist() == [2, 3, 1, 0]
    with pytest.raises(DataError, match=r"classes that target\.classes of model\.toml does not name") as caught:
        pinned(label_above=None, classes=[90.0, -3.0, 15.0]).examples(["distance"])
    assert caught.value.found == "1 of 4 rows"


def test_without_a_limit_the_column_is_the_label(store: FolderBlobs, pinned: Open) -> None:
    store.create("a", parquet(ROWS))
    _, labels = pinned(task="regression", label_above=None).examples(["distance"])
    assert labels.tolist() == [15.0, 15.5, -3.0, 90.0]


def test_the_label_is_known_only_when_it_is_a_number(store: FolderBlobs, pinned: Open) -> None:
    store.create("a", parquet({"distance": [1, 2, 3], "delay": np.array([np.nan, 20.0, 1.0])}))
    features, labels = pinned().examples(["distance"])
    assert (features["distance"].tolist(), labels.tolist()) == ([2, 3], [1, 0])


def test_the_label_may_be_a_feature_of_itself(store: FolderBlobs, pinned: Open) -> None:
    store.create("a", parquet(ROWS))
    features, labels = pinned().examples(["delay"])
    assert len(features) == len(labels) == 4


def told(folder: Path) -> InsituError:
    """Return the error that the script left for the edge job."""
    return InsituError.from_json(json.loads((folder / DATA_ERROR).read_text()))


def test_blobs_whose_columns_lie_in_another_order_are_refused_and_the_edge_job_is_told(
    store: FolderBlobs, pinned: Open, tmp_path: Path
) -> None:
    store.create("a", parquet({"x": [1], "y": ["one"]}))
    store.create("b", parquet({"y": ["two"], "x": [2]}))
    with pytest.raises(DataError, match="blob b has other columns than a"):
        pinned().table(["x", "y"])
    assert "another order" in str(told(tmp_path))


def test_columns_come_in_the_order_in_which_they_are_asked_for(store: FolderBlobs, pinned: Open) -> None:
    store.create("a", parquet({"x": [1], "y": ["one"]}))
    assert pinned().table(["y", "x"]).column_names == ["y", "x"]


def test_a_later_blob_may_have_a_column_more_and_names_hold_columns_too(store: FolderBlobs, pinned: Open) -> None:
    store.create("year=2012/a", parquet({"x": [1]}))
    store.create("year=2013/a", parquet({"x": [2], "y": ["two"]}))
    batch = pinned()
    rows = {"x": [1, 2], "y": [None, "two"], "year": [2012, 2013]}
    assert batch.table().to_pydict() == rows
    assert batch.schema().names == list(rows)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl"])
def test_text_blobs_are_read_as_the_settings_say(store: FolderBlobs, tmp_path: Path, name: str) -> None:
    text = {"csv": b"code,delay\n007,20\n008,\n", "jsonl": b'{"code":"007","delay":20}\n{"code":"008"}\n'}
    content = text[name.split(".")[1]]
    store.create(name, gzip.compress(content) if name.endswith(".gz") else content)
    manifest = Batch.of("c", store.list()).to_json() | {
        "store": {"kind": "folder", "root": str(store.root)},
        "target": {"task": "classification", "label_column": "delay", "label_above": 15.0},
        "reading": {"types": {"code": "text", "delay": "number"}},
    }
    (tmp_path / "batch.json").write_text(json.dumps(manifest))
    batch = open_batch({"INSITU_BATCH": str(tmp_path / "batch.json"), "INSITU_OUTPUT": str(tmp_path / "out")})
    features, labels = batch.examples(["code"])
    assert (features["code"].tolist(), labels.tolist()) == (["007"], [1])
    assert batch.schema() == pa.schema({"code": pa.string(), "delay": pa.float64()})


def test_blobs_without_rows_are_a_table_without_rows(store: FolderBlobs, pinned: Open) -> None:
    store.create("a", parquet({"distance": pa.array([], pa.int64()), "delay": pa.array([], pa.float64())}))
    table = pinned().table(["distance"])
    assert (table.num_rows, table.schema) == (0, pa.schema({"distance": pa.int64()}))


@pytest.mark.parametrize("delay", [[], [None, None], [np.nan, np.nan]])
def test_without_any_label_there_is_nothing_to_learn_and_the_edge_job_is_told(
    store: FolderBlobs, pinned: Open, tmp_path: Path, delay: list[float | None]
) -> None:
    store.create("a", parquet({"distance": [1] * len(delay), "delay": pa.array(delay, pa.float64())}))
    with pytest.raises(DataError, match="delay is empty") as caught:
        pinned().examples(["distance"])
    assert told(tmp_path).to_json() == caught.value.to_json()


@pytest.mark.parametrize(
    ("columns", "target", "missing"),
    [
        (["height", "distance", "age"], {}, "age, height"),
        (["distance"], {"label_column": "late"}, "late"),
    ],
)
def test_missing_columns_are_named_and_the_edge_job_is_told(
    store: FolderBlobs, pinned: Open, tmp_path: Path, columns: list[str], target: dict[str, str], missing: str
) -> None:
    store.create("a", parquet(ROWS))
    with pytest.raises(DataError, match=f"no column {missing}$|no column {missing}\n") as caught:
        pinned(**target).examples(columns)
    assert told(tmp_path).to_json() == caught.value.to_json()


def test_the_schema_tells_columns_and_types_without_a_row(store: FolderBlobs, pinned: Open) -> None:
    store.create("a", parquet(ROWS))
    assert pinned().schema() == pa.schema({"carrier": pa.string(), "distance": pa.int64(), "delay": pa.float64()})


def test_a_blob_that_was_overwritten_is_not_read(store: FolderBlobs, pinned: Open) -> None:
    before = store.create("a", parquet(ROWS))
    batch = pinned()
    store.replace("a", parquet({**ROWS, "distance": [9] * 5}), etag=before.etag)
    with pytest.raises(BlobChanged, match="blob a was overwritten"):
        batch.table()
    assert isinstance(told(batch.job), BlobChanged)


def test_a_blob_that_is_overwritten_between_two_reads_gives_nothing_of_the_new_version(
    store: FolderBlobs, pinned: Open
) -> None:
    before = store.create("a", parquet({"x": list(range(300_000))}))
    rows = pinned().record_batches()
    assert next(rows)["x"][0].as_py() == 0
    store.replace("a", parquet({"x": [-1] * 300_000}), etag=before.etag)
    seen: list[int] = []

    def read_on() -> None:
        for more in rows:
            seen.extend(more["x"].to_pylist())

    with suppress(BlobChanged):
        read_on()
    assert -1 not in seen


def test_a_blob_that_is_gone_is_named(store: FolderBlobs, pinned: Open) -> None:
    store.create("part/a", parquet(ROWS))
    batch = pinned()
    (store.root / "part/a").unlink()
    with pytest.raises(BlobNotFound, match="part/a"):
        batch.table()


def damaged(kind: str) -> bytes:
    whole = parquet({"x": np.random.default_rng(1).integers(0, 2**60, 50_000)})
    return {
        "text": b"carrier,distance\nAA,100\n" * 100,
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "footer": whole[:-60] + bytes(20) + whole[-40:],
        "pages": whole[:4] + b"\xff" * 200 + whole[204:],
        "magic": whole[:-4] + b"PARE",
    }[kind]


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "footer", "pages", "magic"])
def test_what_cannot_be_read_as_parquet_is_named(store: FolderBlobs, pinned: Open, kind: str) -> None:
    store.create("month=01/a.parquet", damaged(kind))
    with pytest.raises(DataError, match=r"month=01/a\.parquet"):
        pinned().table()


@pytest.mark.parametrize("environ", [{}, {"INSITU_OUTPUT": "out"}])
def test_outside_an_edge_job_there_is_no_batch(environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="edge job") as caught:
        open_batch(environ)
    assert "insitu retrain" in str(caught.value)
