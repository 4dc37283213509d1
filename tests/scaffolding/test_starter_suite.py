"""The starter suite lets pass what is like the sample, and stops what is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from customer_data import Init, customers

from data_checks.engine import validate
from data_checks.report import Report
from data_checks.suite import load_suite
from insitu.runs import open_run

Break = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture
def judged(init: Init, project: Path) -> Callable[[list[pd.DataFrame]], Report]:
    """Begin a model from one sample, put other months in its place, and validate them."""
    customers(1).to_csv(project.parent / "first.csv", index=False)
    init("churn", "--data", str(project.parent / "first.csv"), "--target", "Ergebnis", "--positive", "ja")
    folder = project / "var/blobs/churn"

    def judge(months: list[pd.DataFrame]) -> Report:
        for path in folder.iterdir():
            path.unlink()
        for number, month in enumerate(months):
            month.to_csv(folder / f"{number}.csv", index=False)
        run = open_run(project, "churn", "local")
        suite = load_suite(run.suite_file)
        return validate(suite, run.site.data("churn"), run.batch, reading=run.model.data.reading)

    return judge


def test_other_months_of_the_same_kind_pass(judged: Callable[[list[pd.DataFrame]], Report]) -> None:
    for seed in range(10, 16):
        months = [customers(seed, month=2), customers(seed + 100, 150, month=3)]
        report = judged(months)
        assert report.notes == (), "nothing needs a pass of its own"
        assert report.success, [one for one in report.outcomes if not one.success]


BROKEN: dict[str, Break] = {
    "another unit": lambda rows: rows.assign(**{"Größe (cm)": rows["Größe (cm)"] / 100}),
    "a column that is empty": lambda rows: rows.assign(Straße=None),
    "a column that is gone": lambda rows: rows.drop(columns="Umsatz"),
    "a month that came twice": lambda rows: pd.concat([rows, rows]),
    "other classes": lambda rows: rows.assign(Ergebnis="vielleicht"),
    "text for numbers": lambda rows: rows.assign(Umsatz="n. v."),
    "zeros": lambda rows: rows.assign(**{"Größe (cm)": 0.0}),
    "nearly nothing": lambda rows: rows.head(5),
    "dates of the epoch": lambda rows: rows.assign(seit="1970-01-01"),
    "categories in capitals": lambda rows: rows.assign(Straße=rows["Straße"].str.upper()),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_is_broken_does_not_pass(broken: Break, judged: Callable[[list[pd.DataFrame]], Report]) -> None:
    rows = broken(customers(7, month=2))
    assert not judged([rows.head(len(rows) // 2), rows.tail(len(rows) - len(rows) // 2)]).success


def odd_numbers(rows: int) -> dict[str, np.ndarray]:
    """Return columns of numbers: far from zero and close together, negative, huge, tiny, and many at random."""
    rng, share = np.random.default_rng(5), np.linspace(0, 1, rows)
    columns = {
        "years": 2013 + np.round(share),
        "two": 1001 + np.round(2 * share),
        "seconds": 1.6e9 + np.round(1e5 * share),
        "offset": 1e9 + np.round(10 * share) - 5,
        "before": -2014 + np.round(share),
        "huge": (share * 2 - 1) * 1.7e308,
        "tiny": share * 2e-322,
        "nearly one": 1 - 1e-12 * share,
        "one": np.where(share < 0.5, -1e-9, -1.0),
        "infinite": np.where(share < 0.5, np.inf, share),
    }
    for number in range(40):
        offset, width = rng.choice([-1, 0, 1]) * 10.0 ** rng.uniform(-12, 12), 10.0 ** rng.uniform(-12, 12)
        drawn = rng.lognormal(0, 2, rows) if number % 2 else rng.random(rows)
        columns[f"random {number}"] = np.round(offset + width * drawn) if number % 4 == 0 else offset + width * drawn
    return columns


def test_any_numbers_and_texts_pass_the_suite_that_was_made_of_them(init: Init, project: Path) -> None:
    rows = pd.DataFrame({"target": [0, 1] * 100, "remark": [""] * 10 + [f"{n} {'x' * (n % 30)}" for n in range(190)]})
    rows = rows.assign(**odd_numbers(len(rows)))
    rows.to_parquet(project.parent / "odd.parquet")
    told = json.loads(init("odd", "--data", str(project.parent / "odd.parquet"), "--json").stdout)
    assert told["left_out"]["infinite"] == "is infinite in 100 of 200 rows"

    run = open_run(project, "odd", "local")
    suite = load_suite(run.suite_file)
    report = validate(suite, run.site.data("odd"), run.batch, reading=run.model.data.reading)
    assert report.success, [one for one in report.outcomes if not one.success]
    ends = {
        one["kwargs"]["column"]: (one["kwargs"]["min_value"], one["kwargs"]["max_value"])
        for one in json.loads(run.suite_file.read_text())["expectations"]
        if one["type"] == "expect_column_values_to_be_between"
    }
    assert ends["years"] == (2010, 2020)
    assert ends["offset"] == (999_999_900, 1_000_000_100)
    assert ends["seconds"] == (1.599e9, 1.601e9)
    assert ends["before"] == (-2020, -2010)
    assert "infinite" not in ends


def test_no_rare_value_is_written_down(init: Init, project: Path) -> None:
    rows = customers(1)
    rows.loc[3, "Straße"] = "Geheimweg"
    rows.loc[5, "Umsatz"] = 123456.789
    rows.to_csv(project.parent / "first.csv", index=False)
    init("churn", "--data", str(project.parent / "first.csv"), "--target", "Ergebnis", "--positive", "ja")
    texts = [path.read_text() for path in project.rglob("*") if path.is_file() and "blobs" not in path.parts]
    assert not any("Geheimweg" in text or "123456.789" in text or "Anruf" in text for text in texts)
    suite = json.loads((project / "data_checks/churn.json").read_text())
    named = [one["kwargs"]["value_set"] for one in suite["expectations"] if "value_set" in one["kwargs"]]
    assert sorted(map(sorted, named)) == [["Nord", "Süd", "Öst"], ["ja", "nein"]]


def test_numbers_that_are_all_alike_have_a_range(init: Init, project: Path) -> None:
    rows = customers(1).assign(fix=5.0, none=np.nan)
    rows.to_csv(project.parent / "first.csv", index=False)
    told = json.loads(init("churn", "--data", str(project.parent / "first.csv"), "--target", "Umsatz", "--json").stdout)
    assert told["left_out"]["fix"] == "has one value only"
    assert told["left_out"]["none"] == "has no values"
    assert told["target"] == {"column": "Umsatz", "task": "regression"}
