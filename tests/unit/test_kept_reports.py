"""`insitu report`: the report that is meant, on a page for this user's eyes, and no value on the terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from insitu.cli import main
from insitu.errors import DataError, InsituError, NotReady
from insitu.lineage import summarise
from insitu.runs import Run, open_run

INSITU = Path(sys.executable).parent / "insitu"
TOKEN = "token-of-a-row"
NewRun = Callable[..., Run]


def judged(failed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a validation keeps: its redacted report, and the full one with values of the data."""
    kwargs = {"column": "origin", "value_set": ["EWR"]}
    counts = {"element_count": 3000, "unexpected_count": 2500 * failed, "unexpected_percent": 83.3 * failed}
    result = {
        "success": not failed,
        "expectation_config": {"type": "expect_column_values_to_be_in_set", "kwargs": kwargs, "meta": {}},
        "result": counts | {"partial_unexpected_list": [TOKEN] * failed},
        "exception_info": {"raised_exception": False, "exception_message": None, "exception_traceback": None},
    }
    outcome = {
        "expectation": "expect_column_values_to_be_in_set",
        "columns": ["origin"],
        "success": not failed,
        "unexpected_count": 2500 * failed,
        "rows": 3000,
        "reason": "unexpected values" if failed else "",
    }
    redacted = {
        "success": not failed,
        "suite": "flights",
        "expectations": 1,
        "failed": failed,
        "rows": 3000,
        "bytes_read": 12345678,
        "outcomes": [outcome],
        "failures": [outcome] * failed,
        "notes": ["one column was read twice"],
    }
    return redacted, {"success": not failed, "suite_name": "flights", "results": [result], "statistics": {}}


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    return make_project(1, 2, 3)


@pytest.fixture
def new_run(project: Path) -> NewRun:
    """Return a function that leaves what a run on the data and one month more leaves, at a time of 2013."""

    def make(month: int, state: str, error: InsituError | None = None, failed: int | None = 0) -> Run:
        blob = project / f"var/blobs/flights/month={month:02d}/flights.parquet"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(b"flights of month %d" % month)
        run = open_run(project, "flights", "local")
        if failed is not None:
            redacted, full = judged(failed)
            run.journal.keep("report", full)
            run.journal.keep("validate", {"seconds": 1, "value": redacted})
        if state == "Completed":
            run.journal.keep("register", {"seconds": 1, "value": {"name": "flights", "version": str(month)}})
            run.journal.keep(run.step_name("publish"), {"seconds": 1, "value": {"reference": "r", "champion": True}})
        run.journal.keep("record", summarise(run, state, error) | {"finished": f"2013-{month:02d}-01T00:00:00+00:00"})
        return run

    return make


def report(project: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", "flights", "--project", str(project), *arguments])


def page_of(project: Path, run: Run) -> Path:
    return project / "var" / "reports" / "flights" / f"{run.key}.html"


FAILED = DataError("the batch fails 1 of 1 expectations of suite flights")


def test_the_newest_report_is_shown_however_its_run_ended(project: Path, new_run: NewRun) -> None:
    new_run(4, "Completed")
    newest = new_run(5, "ValidationFailed", FAILED, failed=1)
    done = report(project)
    assert done.exit_code == 0, done.output
    assert "flights: 1 of 1 expectations FAILED, suite flights" in done.stdout
    assert "- expect_column_values_to_be_in_set(origin): unexpected values, 2,500 of 3,000" in done.stdout
    for shown in (newest.key, newest.batch.fingerprint, "ValidationFailed", "3,000", str(page_of(project, newest))):
        assert shown in done.stdout
    assert "newest run" not in done.stdout


def test_the_page_holds_the_values_and_the_terminal_does_not(project: Path, new_run: NewRun) -> None:
    run = new_run(4, "ValidationFailed", FAILED, failed=1)
    for arguments in ((), ("--json",)):
        done = report(project, *arguments)
        assert TOKEN not in done.output
    drawn = page_of(project, run).read_text()
    for shown in (TOKEN, run.key, run.batch.fingerprint, "ValidationFailed", "3,000", "one column was read twice"):
        assert shown in drawn


def test_page_and_report_lead_to_each_other(project: Path, new_run: NewRun) -> None:
    run = new_run(4, "Completed")
    told = json.loads(report(project, "--json").stdout)
    page, runs = page_of(project, run), project / "var/report/flights/index.html"
    assert told["report"] == str(project / "var/report/index.html")
    for one in (page, runs):
        links = re.findall(r'href="([^"#:]+)"', one.read_text())
        assert all((one.parent / link).is_file() for link in links)
        assert (page if one is runs else runs).resolve() in [(one.parent / link).resolve() for link in links]


def test_nobody_else_can_read_the_page(project: Path, new_run: NewRun) -> None:
    path = page_of(project, new_run(4, "Completed"))
    path.parent.mkdir(parents=True)
    path.parent.chmod(0o755)  # as left by somebody else
    path.write_text("an earlier page")
    before = os.umask(0)
    try:
        done = report(project)
    finally:
        os.umask(before)
    assert done.exit_code == 0, done.output
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == path.parents[1].stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert "earlier" not in path.read_text()


def test_a_version_a_run_key_and_the_champion_can_be_named(project: Path, new_run: NewRun) -> None:
    first = new_run(4, "Completed")
    failed = new_run(5, "ValidationFailed", FAILED, failed=1)
    new_run(6, "NotPromoted")
    named = {"4": first, "v4": first, "latest": first, failed.key[:8]: failed, failed.key: failed}
    assert {name: json.loads(report(project, name, "--json").stdout)["run_key"] for name in named} == {
        name: run.key for name, run in named.items()
    }


def test_a_newer_run_without_a_report_is_told(project: Path, new_run: NewRun) -> None:
    kept = new_run(4, "Completed")
    newest = new_run(5, "Failed", NotReady("the compute is too small"), failed=None)
    done = report(project)
    assert kept.key in done.stdout
    assert (
        f"the newest run, {newest.key[:12]}, has no report: state Failed, E-READY the compute is too small"
        in done.stdout
    )


def test_json_is_one_value_with_the_path_and_the_redacted_report(project: Path, new_run: NewRun) -> None:
    run = new_run(4, "ValidationFailed", FAILED, failed=1)
    told = json.loads(report(project, "--json").stdout)
    assert Path(told["page"]) == page_of(project, run)
    assert Path(told["page"]).is_file()
    assert (told["model"], told["state"], told["validation"]) == ("flights", "ValidationFailed", judged(1)[0])


def test_a_run_that_was_killed_after_its_report_is_shown(project: Path, new_run: NewRun) -> None:
    run = new_run(4, "Unfinished", failed=1)
    (project / "var/state/runs/flights" / run.key / "validate.json").unlink()
    done = report(project)
    assert done.exit_code == 0, done.output
    assert "flights: 1 of 1 expectations FAILED, suite flights" in done.stdout
    assert TOKEN in page_of(project, run).read_text()


def complaint(done: Result) -> str:
    assert done.exit_code == 2, done.output
    assert "next:" in done.stderr
    return done.stderr


def test_a_model_without_runs_says_what_to_type(project: Path) -> None:
    text = complaint(report(project))
    assert "E-USE flights has no report yet" in text
    assert "`insitu retrain flights`" in text


def test_runs_that_never_validated_say_how_the_newest_ended(project: Path, new_run: NewRun) -> None:
    new_run(4, "Failed", NotReady("the compute is too small"), failed=None)
    text = complaint(report(project))
    assert "no run of flights has a report" in text
    assert "state Failed, E-READY the compute is too small" in text


def test_a_named_run_without_a_report_says_how_it_ended(project: Path, new_run: NewRun) -> None:
    run = new_run(4, "Failed", NotReady("the compute is too small"), failed=None)
    text = complaint(report(project, run.key[:8]))
    assert f"run {run.key[:12]} of flights has no report" in text
    assert "E-READY" in text


def test_a_report_that_was_cleared_away_is_named(project: Path, new_run: NewRun) -> None:
    run = new_run(4, "Completed")
    (project / "var/state" / run.journal.name("report")).unlink()
    assert f"{run.journal.name('report')} is gone from the site's state" in complaint(report(project, "4"))


@pytest.mark.parametrize("arguments", [("99",), ("0123456789",)])
def test_an_unknown_version_or_run_is_refused(arguments: tuple[str, ...], project: Path, new_run: NewRun) -> None:
    new_run(4, "Completed")
    assert f"flights has no published version {arguments[0]}, and no run of that key" in complaint(
        report(project, *arguments)
    )


def test_an_unknown_model_is_refused(project: Path) -> None:
    done = CliRunner().invoke(main, ["report", "flihgts", "--project", str(project)])
    assert done.exit_code == 2
    assert "models/flihgts/model.toml" in done.stderr


@pytest.mark.parametrize("content", [b"{", b"{}", b"[1]"])
def test_a_damaged_report_is_an_error_and_writes_no_page(content: bytes, project: Path, new_run: NewRun) -> None:
    run = new_run(4, "Completed")
    (project / "var/state" / run.journal.name("report")).write_bytes(content)
    done = report(project)
    assert done.exit_code == 1
    assert done.stderr.startswith("E-STATE ")
    assert not page_of(project, run).exists()


@pytest.mark.parametrize(
    ("arguments", "exit_code_of_browser", "called", "told"),
    [
        (["--open"], 0, True, False),
        (["--open"], 1, True, True),
        (["--open=yes"], 0, True, False),
        (["--open=no"], 0, False, False),
        (["--no-open"], 0, False, False),
        ([], 0, False, False),  # a pipe is no terminal, desktop or not
    ],
)
def test_a_browser_is_opened_when_asked_and_its_failure_is_none_of_ours(
    arguments: list[str], exit_code_of_browser: int, called: bool, told: bool, project: Path
) -> None:
    browser, opened = project / "browser", project / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\nexit {exit_code_of_browser}\n')
    browser.chmod(0o755)
    environ = {"BROWSER": f"{browser} %s", "PATH": "", "HOME": str(project)}
    command = [str(INSITU), "report", *arguments]
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert opened.exists() == called
    if called:
        assert opened.read_text().strip() == (project / "var/report/index.html").as_uri()
    assert ("no browser took the page" in done.stderr) == told
