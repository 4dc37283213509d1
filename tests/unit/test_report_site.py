"""`insitu report`: the pages of a site, from its state alone; the same state gives the same bytes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from past_runs import TOKEN, deployed, past_run

from insitu.cli import main
from insitu.errors import DataError

FAILED = DataError("the batch fails 1 of 33 expectations of suite flights", next_action="mend the data")


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    return make_project()


def report(project: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(main, ["report", *arguments, "--project", str(project)])
    assert done.exit_code == 0, done.output
    return done


def page(project: Path, name: str = "index.html") -> str:
    return (project / "var" / "report" / name).read_text()


def words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html.partition("<body>")[2])))


def files(project: Path) -> dict[str, bytes]:
    folder = project / "var" / "report"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.html")}


def times(project: Path) -> set[int]:
    return {path.stat().st_mtime_ns for path in (project / "var/report").rglob("*.html")}


def test_a_site_without_runs_has_a_report_that_says_what_to_type(project: Path) -> None:
    assert str(project / "var/report/index.html") in report(project, "--open=no").stdout
    assert "flights none yet" in words(page(project))
    assert "insitu retrain flights" in page(project, "flights/index.html")


def test_the_report_shows_models_runs_and_what_left(project: Path) -> None:
    for month in (1, 2):
        past_run(project, month)
    past_run(project, 3, "Rejected")
    report(project)
    assert "flights v2 roc_auc 0.6" in words(page(project))
    shown = words(page(project, "flights/index.html"))
    for text in (
        "v1",
        "v2",
        "Rejected",
        "champion",
        "roc_auc of month 3",
        "https://mlflow.example",
        "2013-03-01 02:00 UTC",
    ):
        assert text in shown
    assert set(files(project)) >= {"index.html", "flights/index.html", "flights/v1.html", "flights/v2.html"}
    assert shown.index("Rejected") < shown.index("v1 2013")  # the newest first


def test_what_waits_for_a_person_comes_first(project: Path) -> None:
    past_run(project, 1)
    past_run(project, 2, "ValidationFailed", error=FAILED)
    report(project)
    shown = words(page(project))
    assert "flights ValidationFailed E-DATA the batch fails 1 of 33" in shown
    assert "next: mend the data" in shown
    past_run(project, 3, "AwaitingApproval")
    report(project)
    assert "insitu approve flights" in words(page(project))


def test_equal_state_gives_equal_bytes_and_nothing_is_written_again(project: Path) -> None:
    past_run(project, 1)
    report(project)
    drawn, written = files(project), times(project)
    report(project)
    assert (files(project), times(project)) == (drawn, written)
    for path in (project / "var/report").rglob("*.html"):
        path.unlink()
    report(project)
    assert files(project) == drawn


def test_a_page_is_drawn_again_when_what_it_shows_changed(project: Path) -> None:
    past_run(project, 1)
    report(project)
    assert "deployed to line-1" not in page(project, "flights/v1.html")
    deployed(project, 1, "line-1")
    report(project)
    assert "deployed to line-1" in page(project, "flights/v1.html")
    assert "deployed to line-1" in page(project, "flights/index.html")


def test_a_card_is_drawn_again_when_the_files_of_its_job_are_there(project: Path) -> None:
    past_run(project, 1)
    report(project)
    assert "clock" not in words(page(project, "flights/v1.html"))
    golden = project / "var/jobs/job-1/golden.json"
    golden.parent.mkdir(parents=True)
    golden.write_text(json.dumps({"request": {"dataframe_split": {"columns": ["o'clock"], "data": [[17]]}}}))
    report(project)
    assert "clock" in words(page(project, "flights/v1.html"))


def test_cards_of_runs_that_are_gone_go_and_the_audits_of_people_stay(project: Path) -> None:
    run = past_run(project, 1)
    report(project)
    (project / "var/report/flights/v1-audit.html").write_text("an audit")
    report(project)
    assert 'href="v1-audit.html"' in page(project, "flights/v1.html")
    (project / "var/state" / run.journal.name("record")).unlink()
    report(project)
    assert files(project).keys() == {"index.html", "flights/index.html", "flights/v1-audit.html"}


def test_no_page_holds_a_value_of_the_data_or_loads_anything(project: Path) -> None:
    past_run(project, 1)
    past_run(project, 2, slices=(("EWR", 0.7),))
    report(project)
    assert len(files(project)) == 4
    for name, data in files(project).items():
        text = data.decode()
        assert TOKEN not in text, name
        assert "<script" not in text, name
        assert not re.search(r"(?:src|href)=.(?:https?:|//)|url\((?!#)|@import", text), name


def test_nobody_else_can_read_the_report(project: Path) -> None:
    past_run(project, 1)
    before = os.umask(0)
    try:
        report(project)
    finally:
        os.umask(before)
    folder = project / "var/report"
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*.html")} == {0o600}
    assert folder.stat().st_mode & 0o777 == (folder / "flights").stat().st_mode & 0o777 == 0o700


def test_strange_names_are_text_on_every_page(project: Path) -> None:
    strange = ("<b>bold</b>", "a$b$c", "it's|\"", "größe")
    past_run(project, 1, columns=strange)
    past_run(project, 2, slices=(("<i>x</i>$y$", 0.7),), columns=strange)
    report(project)
    for name in ("flights/index.html", "flights/v2.html"):
        text = page(project, name)
        assert "<b>bold" not in text
        assert "<i>x" not in text
        for column in ("&lt;b&gt;bold&lt;/b&gt;", "a$b$c", "größe"):
            assert column in text


def test_damaged_records_of_one_model_are_told_and_the_rest_is_shown(project: Path) -> None:
    run = past_run(project, 1)
    (project / "var/state" / run.journal.name("record")).write_text("{")
    report(project)
    assert "record.json in the site's state is damaged" in words(page(project))


def test_a_run_of_an_earlier_version_is_shown_too(project: Path) -> None:
    run = past_run(project, 1)
    path = project / "var/state" / run.journal.name("record")
    record = json.loads(path.read_text())
    for name in ("residency", "deployment", "error"):
        del record[name]
    for name in ("slices", "score_psi", "compared", "overlap", "lost"):
        del record["training"][name]
    del record["validation"]["drift"]
    path.write_text(json.dumps(record))
    (project / "var/state" / run.journal.name("inputs")).unlink()
    report(project)
    assert "roc_auc" in page(project, "flights/v1.html")


def test_json_is_one_value_that_names_the_index(project: Path) -> None:
    past_run(project, 1)
    told = json.loads(report(project, "--json").stdout)
    assert told == {"site": "local", "report": str(project / "var/report/index.html"), "pages": 3}


def test_many_runs_have_a_page_below_a_megabyte(project: Path) -> None:
    first = past_run(project, 1)
    records = project / "var/state/runs/flights"
    record = json.loads((project / "var/state" / first.journal.name("record")).read_text())
    for number in range(300):
        key = f"{number:064x}"
        version = record["model_version"] | {"version": str(number)}
        (records / key).mkdir()
        finished = f"2014-{number % 12 + 1:02d}-{number % 28 + 1:02d}T00:00:00+00:00"
        copy = record | {"run_key": key, "model_version": version, "finished": finished}
        if number % 5:
            copy |= {"decision": None, "publication": None, "model_version": None, "state": "Failed"}
        (records / key / "record.json").write_text(json.dumps(copy))
    report(project)
    assert max(len(data) for data in files(project).values()) < 1_000_000
    assert "201 older runs" in words(page(project, "flights/index.html"))
