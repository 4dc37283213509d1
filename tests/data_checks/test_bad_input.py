"""What cannot be checked says so, naming the blob, the column or the argument, and no value."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_blobs import Store, store_of, suite_of

from data_checks.engine import foresee, validate
from data_checks.suite import Suite, load_suite
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.errors import BlobChanged, DataError, SettingsError

ROWS = pa.table({"a": [1, 2, None], "b": ["x", "y", "z"]})
SOUND = suite_of(("expect_column_values_to_be_between", {"column": "a", "min_value": 0}))


def spoilt(tmp_path: Path, content: bytes) -> tuple[FolderBlobs, Batch]:
    (tmp_path / "bad.parquet").write_bytes(content)
    store = FolderBlobs(tmp_path)
    return store, Batch.of("data", store.list())


def parquet_bytes(**options: object) -> bytes:
    sink = pa.BufferOutputStream()
    many = pa.table({"a": list(range(5000)), "b": [f"text {n}" for n in range(5000)]})
    pq.write_table(many, sink, **options)
    return bytes(sink.getvalue())


WHOLE = parquet_bytes()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "no Parquet footer in 0 bytes"),
        (b"a,b\n1,x\n", "no Parquet footer"),
        (WHOLE[:-1024], "no Parquet footer"),
        (b"PAR1PAR1", "no Parquet footer"),
        (b"PAR1" + b"\xff\xff\xff\x00PAR1", "a footer longer than the blob"),
        (b"PAR1" + b"\0" * 40 + (32).to_bytes(4, "little") + b"PAR1", "the footer cannot be decoded"),
        (WHOLE[:-4] + b"PARE", "an encrypted footer"),
        (WHOLE[:4] + b"\0" * 600 + WHOLE[604:], "row group 0 cannot be decoded"),
    ],
)
def test_an_unreadable_blob_is_named(content: bytes, found: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"blob bad\.parquet") as caught:
        validate(SOUND, *spoilt(tmp_path, content))
    assert found in str(caught.value)


def test_a_flipped_bit_is_found_by_the_page_checksum(tmp_path: Path) -> None:
    content = bytearray(parquet_bytes(write_page_checksum=True, compression="none", use_dictionary=False))
    content[2000] ^= 1
    with pytest.raises(DataError, match="row group 0 cannot be decoded"):
        validate(SOUND, *spoilt(tmp_path, bytes(content)))


def test_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    content = parquet_bytes(compression="none", use_dictionary=False).replace(b"text 7", b"\xff\xfe\xff 7")
    suite = suite_of(("expect_column_values_to_match_regex", {"column": "b", "regex": "text"}))
    with pytest.raises(DataError, match="row group 0"):
        validate(suite, *spoilt(tmp_path, content))


def test_an_overwritten_blob_is_not_read(store: Store, tmp_path: Path) -> None:
    blobs, batch = store(ROWS)
    pq.write_table(ROWS.slice(1), tmp_path / "blobs" / batch.blobs[0].name)
    with pytest.raises(BlobChanged):
        validate(SOUND, blobs, batch)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (ROWS.select(["a"]), "column b is missing"),
        (ROWS.rename_columns(["a", "c"]), "column b is missing; column c is new"),
        (ROWS.set_column(0, "a", pa.array([1.5, 2, 3])), "column a is double, not int64"),
        (ROWS.select(["b", "a"]), "another order"),
    ],
)
def test_blobs_with_other_columns_are_refused(other: pa.Table, difference: str, store: Store) -> None:
    with pytest.raises(DataError, match=r"part-01/rows\.parquet has other columns") as caught:
        validate(SOUND, *store(ROWS, other))
    assert difference in str(caught.value)


def test_two_columns_of_one_name_are_refused(store: Store) -> None:
    twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(DataError, match="columns of the same name"):
        validate(SOUND, *store(twice))


@pytest.mark.parametrize("tables", [[], [ROWS.slice(0, 0)], [ROWS.slice(0, 0)] * 2])
def test_no_rows_are_never_a_pass(tables: list[pa.Table], store: Store, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir(exist_ok=True)
    with pytest.raises(DataError, match="nothing was checked"):
        validate(SOUND, *store(*tables))


def test_no_expectations_are_never_a_pass(store: Store) -> None:
    with pytest.raises(DataError, match="nothing was checked"):
        validate(Suite("empty", ()), *store(ROWS))


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_values_to_not_be_null", {"column": "absent"}),
        ("expect_column_values_to_be_of_type", {"column": "absent", "type_": "int64"}),
        ("expect_compound_columns_to_be_unique", {"column_list": ["a", "absent"]}),
        ("expect_column_pair_values_to_be_equal", {"column_A": "a", "column_B": "absent"}),
        ("expect_column_values_to_be_increasing", {"column": "absent"}),
        ("expect_column_to_exist", {"column": "absent"}),
    ],
)
def test_a_missing_column_fails_its_expectation(kind: str, kwargs: dict[str, object], store: Store) -> None:
    report = validate(suite_of((kind, kwargs)), *store(ROWS))
    assert not report.success
    (failure,) = report.failures
    assert (failure.expectation, failure.reason) == (kind, "column is missing")
    assert "absent" in failure.columns


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an expectation suite"),
        ('{"name": "x", "expectations": [{"kwargs": {}}]}', "is not an expectation suite"),
    ],
)
def test_a_file_that_is_no_suite_is_named(content: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=complaint) as caught:
        load_suite(path)
    assert "suite.json" in str(caught.value)


def test_a_missing_suite_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"suite\.json cannot be read"):
        load_suite(tmp_path / "suite.json")


def test_every_mistake_of_a_suite_is_reported_at_once(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "suite.json"
    rows = [
        {"type": "expect_column_values_to_be_betwen", "kwargs": {"column": "a"}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"colum": "a", "min_value": 1}},
    ]
    path.write_text(json.dumps({"name": "typos", "expectations": rows}))
    with pytest.raises(SettingsError) as caught:
        validate(load_suite(path), *store(ROWS))
    message = str(caught.value)
    assert "suite.json" in message
    assert "did you mean expect_column_values_to_be_between?" in message
    assert "expectation 2" in message
    assert "colum: extra fields" in message


TOKEN = "c4n4ry-7f3a"
INSTANT = datetime(2013, 7, 4, 1, 2, 3, tzinfo=UTC)
SECRET = pa.table(
    {
        "s": [TOKEN, TOKEN, "x"],
        "n": [987654321987, 987654321987, 1],
        "f": [9876543.21987, 2.5, None],
        "t": [INSTANT, INSTANT, None],
        "o": [[TOKEN], [TOKEN], ["x"]],
    }
)
TRACES = (TOKEN, "987654321987", "9876543.21987", "2013-07-04", "2013, 7, 4")


def test_no_value_of_the_data_is_in_the_redacted_report(
    store: Store, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    revealing = [
        ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["y"]}),
        ("expect_column_values_to_be_between", {"column": "s", "min_value": 1}),
        ("expect_column_values_to_be_unique", {"column": "s"}),
        ("expect_column_values_to_be_increasing", {"column": "s", "strictly": True}),
        ("expect_column_values_to_be_dateutil_parseable", {"column": "s"}),
        ("expect_column_values_to_be_json_parseable", {"column": "s"}),
        (
            "expect_column_value_z_scores_to_be_less_than",
            {"column": "s", "threshold": 1, "double_sided": True},
        ),
        ("expect_column_distinct_values_to_equal_set", {"column": "s", "value_set": ["y"]}),
        ("expect_column_most_common_value_to_be_in_set", {"column": "s", "value_set": ["y"]}),
        ("expect_column_mean_to_be_between", {"column": "s", "max_value": 1}),
        ("expect_column_max_to_be_between", {"column": "n", "max_value": 1}),
        ("expect_column_sum_to_be_between", {"column": "n", "max_value": 1}),
        ("expect_column_max_to_be_between", {"column": "f", "max_value": 1}),
        ("expect_column_median_to_be_between", {"column": "f", "max_value": 1}),
        ("expect_column_max_to_be_between", {"column": "t", "max_value": "2001-01-01T00:00:00+00:00"}),
        ("expect_column_values_to_be_between", {"column": "t", "max_value": "2001-01-01"}),
        ("expect_column_values_to_be_in_set", {"column": "o", "value_set": ["y"]}),
        ("expect_column_values_to_be_unique", {"column": "o"}),
        ("expect_column_pair_values_to_be_equal", {"column_A": "s", "column_B": "n"}),
        ("expect_multicolumn_sum_to_equal", {"column_list": ["s", "n"], "sum_total": 1}),
    ]
    report = validate(suite_of(*revealing), *store(SECRET))
    said = json.dumps(report.to_json()) + repr(report) + capfd.readouterr().err + caplog.text
    assert report.failed == len(revealing)
    assert [trace for trace in TRACES if trace in said] == []
    assert TOKEN in json.dumps(report.full, default=str), "the full result keeps what people need on site"


def test_what_gx_raises_is_a_failure_with_the_class_alone_and_its_message_stays_on_site(store: Store) -> None:
    suite = suite_of(("expect_column_values_to_be_between", {"column": "s", "min_value": 1}))
    report = validate(suite, *store(SECRET))
    (failure,) = report.failures
    assert failure.reason == "could not be judged: TypeError"
    assert "must either be None or of the same type" in report.full["results"][0]["exception_info"]["exception_message"]
    assert "of the same type" not in json.dumps(report.to_json()) + repr(report)


def test_a_plan_says_which_expectations_will_fail_for_want_of_a_column(store: Store) -> None:
    suite = suite_of(
        ("expect_column_values_to_be_unique", {"column": "gone"}),
        ("expect_column_to_exist", {"column": "gone"}),
        ("expect_column_pair_values_to_be_equal", {"column_A": "s", "column_B": "away"}),
        ("expect_column_values_to_be_unique", {"column": "s"}),
    )
    opened = store(SECRET)
    told = [note for note in foresee(suite, *opened).notes if "will fail" in note]
    assert [note.rpartition("no column ")[2] for note in told] == ["gone", "gone", "away"]
    assert len(told) == sum(failure.reason == "column is missing" for failure in validate(suite, *opened).failures)


def test_nothing_is_written_into_the_working_folder(tmp_path: Path) -> None:
    here, elsewhere = Path.cwd(), tmp_path / "cwd"
    elsewhere.mkdir()
    blobs = store_of(tmp_path / "blobs", [ROWS])
    os.chdir(elsewhere)
    try:
        validate(SOUND, *blobs)
    finally:
        os.chdir(here)
    assert list(elsewhere.iterdir()) == []
