"""A waiver lets pass what it names: file, estimator, columns, these bytes, so many; and nothing beside it."""

from __future__ import annotations

import io
import pickle
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from leaky import COLUMNS, LABELS, X
from sklearn.neighbors import KNeighborsClassifier

from insitu.errors import LeakFound
from insitu.residency.decode import folder_parts
from insitu.residency.scan import Leak, Scan, Scanner, Source
from insitu.residency.sources import Matrix
from insitu.residency.verdict import Allowance, Ruling, rule
from insitu.residency.waivers import Scope

FILE, ESTIMATOR = "model/model.pkl", "KNeighborsClassifier"
ALL = Scope("records", file=FILE, columns=COLUMNS)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    near = KNeighborsClassifier(algorithm="brute").fit(X, LABELS)
    (tmp_path / FILE).write_bytes(pickle.dumps(near))
    return tmp_path


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner(Source([Matrix(("the batch",), COLUMNS, X)]))


def ruled(scanner: Scanner, output: Path, *scopes: Scope) -> Ruling:
    waivers = [Allowance(scope, {"number": number}) for number, scope in enumerate(scopes, 1)]
    digests = {FILE: sha256((output / FILE).read_bytes()).hexdigest()}
    return rule(scanner.scan(folder_parts(output)), waivers=waivers, digests=digests)


@pytest.mark.parametrize(
    "scope",
    [
        ALL,
        Scope("records", file=FILE),
        Scope("records", columns=COLUMNS, most=len(X)),
        Scope("records", file=FILE, columns=(*COLUMNS, "another")),
    ],
)
def test_what_a_waiver_names_leaves_and_is_told(scanner: Scanner, output: Path, scope: Scope) -> None:
    assert ruled(scanner, output).verdict == "blocked"
    ruling = ruled(scanner, output, scope)
    assert (ruling.verdict, ruling.rows_found) == ("waived", len(X))
    told = ruling.to_json()["waived"][0]
    assert (told["file"], told["estimator"], told["count"]) == (FILE, ESTIMATOR, len(X))
    assert (set(told["columns"]), told["waiver"]) == (set(COLUMNS), {"number": 1})


@pytest.mark.parametrize(
    "scope",
    [
        Scope("records", file="model/other.pkl"),
        Scope("records", file="model/model"),
        Scope("records", estimator="SVC"),
        Scope("records", file=FILE, columns=COLUMNS[:-1]),
        Scope("records", file=FILE, most=len(X) - 1),
        Scope("records", file=FILE, digest="0" * 64),
        Scope("unopened", file=FILE),
        Scope("capacity", most=10**9),
    ],
)
def test_what_a_waiver_does_not_name_stays(scanner: Scanner, output: Path, scope: Scope) -> None:
    ruling = ruled(scanner, output, scope)
    assert (ruling.verdict, ruling.waived) == ("blocked", ())
    with pytest.raises(LeakFound, match=ESTIMATOR):
        ruling.require_clear("the model")


def test_by_the_estimator_alone_what_the_scan_finds_again_without_its_name_stays(
    scanner: Scanner, output: Path
) -> None:
    ruling = ruled(scanner, output, Scope("records", estimator=ESTIMATOR))
    assert ruling.verdict == "blocked"
    assert ESTIMATOR not in {holder.estimator for holder in ruling.holders}


def test_of_other_bytes_a_digest_waives_nothing(scanner: Scanner, output: Path) -> None:
    scope = Scope("records", file=FILE, digest=sha256((output / FILE).read_bytes()).hexdigest())
    assert ruled(scanner, output, scope).verdict == "waived"
    (output / FILE).write_bytes((output / FILE).read_bytes() + b"\n")
    assert ruled(scanner, output, scope).verdict == "blocked"


def test_the_same_rows_in_another_file_are_not_waived_with_them(scanner: Scanner, output: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, X)
    (output / "model" / "rows.npy").write_bytes(buffer.getvalue())
    ruling = ruled(scanner, output, ALL)
    assert ruling.verdict == "blocked"
    assert {holder.file.partition("!")[0] for holder in ruling.holders} == {"model/rows.npy"}


def test_what_cannot_be_opened_is_waived_by_its_own_name_alone(scanner: Scanner, output: Path) -> None:
    locked = output / "model" / "weights.7z"
    locked.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(64))
    assert ruled(scanner, output, ALL).verdict == "blocked"
    ruling = ruled(scanner, output, ALL, Scope("unopened", file="model/weights.7z"))
    assert ruling.verdict == "waived"
    assert [one.find.what for one in ruling.waived] == ["rows", "unopened"]


def held(what: str, columns: tuple[str, ...], count: int) -> Leak:
    return Leak(FILE, what, ("the batch",), columns, frozenset(range(count)), "number")


@pytest.mark.parametrize(
    ("column", "count", "most", "verdict", "told"),
    [
        ("ssn", 10_000, 1, "blocked", []),
        ("ssn", 10_000, None, "waived", [("rows", 1), ("cells", 10_000)]),
        ("ssn", 10_000, 10_000, "waived", [("rows", 1), ("cells", 10_000)]),
        ("a", 10_000, 1, "blocked", []),  # one row has one value of it
        ("a", 1, 1, "waived", [("rows", 1)]),
    ],
)
def test_single_values_beside_waived_rows_are_counted_and_told(
    column: str, count: int, most: int | None, verdict: str, told: list[tuple[str, int]]
) -> None:
    leaks = (held("rows", ("a", "b"), 1), held("cells", (column,), count))
    waiver = Allowance(Scope("records", file=FILE, most=most), {"number": 1})
    ruling = rule(Scan(leaks, (), 1, 1.0, 1, 1.0, 0.0), waivers=[waiver])
    assert ruling.verdict == verdict
    assert [(one.find.what, one.find.count) for one in ruling.waived] == told
    assert [(one.what, one.columns) for one in ruling.holders] == [
        ("cells", (column,)) if verdict == "blocked" else ("rows", ("a", "b"))
    ]


def test_the_error_names_the_digest_of_what_cannot_be_opened(scanner: Scanner, output: Path) -> None:
    (output / FILE).write_bytes(locked := b"7z\xbc\xaf\x27\x1c" + bytes(64))
    with pytest.raises(LeakFound) as refused:
        ruled(scanner, output).require_clear("the model")
    assert f"sha256 {sha256(locked).hexdigest()}" in str(refused.value.found)
