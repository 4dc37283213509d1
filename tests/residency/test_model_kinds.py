"""Records planted in models are found, whichever kind keeps them; records that were not trained on are not."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import is_regressor
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, StandardScaler

from insitu.errors import LeakFound
from insitu.residency.decode import parts
from insitu.residency.origin import instead_of
from insitu.residency.scan import Scan, Scanner, Source
from insitu.residency.sources import Matrix
from insitu.residency.verdict import refusal, rule
from tests.residency.leaky import CELLS_ONLY, COLUMNS, KINDS, LABELS, PEOPLE, PLANTED, RESERVED, TARGET, X

SCANNER = Scanner(Source([Matrix(("the batch",), COLUMNS, PEOPLE)]))


def scanned(model: object, scanner: Scanner = SCANNER) -> Scan:
    return scanner.scan(parts("model.pkl", pickle.dumps(model)))


def rows_in(scan: Scan) -> set[int]:
    return {row for leak in scan.leaks if leak.what == "rows" for row in leak.ids}


@pytest.mark.parametrize("kind", KINDS)
def test_every_planted_record_is_found_and_no_reserved_one(kind: str) -> None:
    scan = scanned(KINDS[kind]())

    assert rule(scan).verdict == "blocked"
    assert not rows_in(scan) & {*RESERVED}
    if kind not in CELLS_ONLY:
        assert rows_in(scan) >= {*PLANTED}


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        Ridge(),
        GaussianNB(),
        StandardScaler(),
        PCA(2),
        PowerTransformer(),
        MLPClassifier((20,), max_iter=5),
        GaussianMixture(2),
        IsolationForest(n_estimators=20, max_samples=100),
        RandomForestClassifier(20, min_samples_leaf=10),
        GradientBoostingRegressor(n_estimators=20, min_samples_leaf=10),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_model_that_keeps_no_record_is_clear(model: object) -> None:
    y = TARGET if is_regressor(model) else LABELS
    ruling = rule(scanned(model.fit(X, y)))  # type: ignore[attr-defined]

    assert (ruling.verdict, ruling.holders) == ("clear", ())


def test_a_model_of_scaled_rows_is_found_by_what_reached_fit_alone() -> None:
    scaled = StandardScaler().fit_transform(X)
    model = KINDS["nearest neighbours, brute force"]().fit(scaled, LABELS)
    fitted = Matrix(("Pipeline.fit", "KNeighborsClassifier.fit"), COLUMNS, scaled)

    assert rule(scanned(model)).verdict == "clear"
    assert len(rows_in(scanned(model, Scanner(Source([fitted]))))) == len(X)


def test_extremes_are_warned_of_by_estimator_and_column() -> None:
    ruling = rule(scanned(MinMaxScaler().fit(X)))

    assert (ruling.verdict, ruling.rows_found, ruling.cells_found) == ("warned", 0, 2 * len(COLUMNS))
    assert {holder.estimator for holder in ruling.holders} == {"MinMaxScaler"}
    assert {name for holder in ruling.holders for name in holder.columns} == {*COLUMNS}
    assert "StandardScaler" in ruling.holders[0].instead


def test_more_single_values_than_the_model_may_hold_block_it() -> None:
    scan = scanned(MinMaxScaler().fit(X))

    assert rule(scan, max_cells=12).verdict == "warned"
    assert rule(scan, max_cells=11).verdict == "blocked"


def test_the_error_names_file_estimator_and_columns_and_no_value() -> None:
    ruling = rule(scanned(KINDS["nearest neighbours, brute force"]()))

    with pytest.raises(LeakFound, match=r"KNeighborsClassifier\._fit_X") as error:
        ruling.require_clear("the model")
    told = error.value.render()
    assert "model.pkl: 200 rows of age, income" in told
    assert "a model that keeps no rows" in told
    assert "insitu waive" not in told
    with pytest.raises(LeakFound) as waivable:
        ruling.require_clear("the model", "flights")
    assert str(waivable.value.next_action).endswith("have it waived: insitu waive flights --file model.pkl ...")
    assert not any(f"{value:.3f}"[:6] in told for value in X.ravel())


def test_the_error_does_not_say_twice_what_to_do() -> None:
    holders = [
        {
            "file": "model/model.pkl!array", "estimator": name, "attribute": None, "what": "rows", "count": 9,
            "columns": ["age"], "instead": instead_of(name),
        }
        for name in ("SVC", "KNeighborsClassifier", None)
    ]  # fmt: skip
    told = str(refusal("the model", {"holders": holders, "unopened": []}, "flights").next_action)
    assert told.count("a model that keeps no rows") == 1
    assert "; or drop identifiers" in told
    assert told.startswith("use LinearSVC")
    unopened = [{"path": "model/a font.bin!part", "why": "7z", "sha256": "f" * 64}]
    told = str(refusal("the model", {"holders": [], "unopened": unopened}, "flights").next_action)
    assert told.endswith(f"insitu waive flights --unopened 'model/a font.bin' --digest {'f' * 64} ...")


def test_values_of_few_digits_are_no_single_values_even_where_singles_hold_them() -> None:
    measured = np.round(PEOPLE, 2)
    held = measured.astype(np.float32).astype(np.float64)
    scanner = Scanner(Source([Matrix(("the batch",), COLUMNS, measured), Matrix(("a.fit",), COLUMNS, held)]))
    forest = RandomForestClassifier(50, min_samples_leaf=10, random_state=0).fit(held[:200], LABELS)

    assert rule(scanned(forest, scanner)).verdict == "clear"


def test_rows_of_people_of_the_same_population_are_not_found() -> None:
    others = np.random.default_rng(7).normal(PEOPLE.mean(axis=0), PEOPLE.std(axis=0), (20_000, len(COLUMNS)))

    assert rule(SCANNER.scan(parts("others.bin", others.tobytes()))).verdict == "clear"
    assert rule(SCANNER.scan(parts("others.bin", others.astype("f4").tobytes()))).verdict == "clear"


def test_rows_that_tell_little_are_found_by_those_that_follow_them() -> None:
    visits = np.random.default_rng(3).integers(0, 12, (5000, 4)).astype(float)
    scanner = Scanner(Source([Matrix(("the batch",), ("a", "b", "c", "d"), visits)]))

    kept = scanner.scan(parts("kept.bin", visits[1000:1100].tobytes()))
    drawn = scanner.scan(parts("drawn.bin", np.random.default_rng(4).permutation(visits).tobytes()))
    assert rows_in(kept) == {*range(1000, 1100)}
    assert rows_in(drawn) == set()
