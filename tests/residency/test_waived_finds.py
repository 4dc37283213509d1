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
from insitu.residency.scan import Scanner, Source
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
