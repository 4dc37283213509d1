"""The report, the cards, the audit and Data Docs in a real browser: readable by everybody, on a phone as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import Page, chromium
from click.testing import CliRunner
from past_runs import deployed, past_run
from reading import require_readable

from data_checks import datadocs
from insitu.auditing import Audit
from insitu.auditpage import page as audit_page
from insitu.audittrail import Finding
from insitu.cli import main
from insitu.errors import DataError

LONG = "a-name-of-a-column-that-is-much-longer-than-a-phone-is-wide"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def report(make_project: Callable[..., Path]) -> Path:
    """The report of a site where everything has happened once."""
    project = make_project()
    past_run(project, 1)
    past_run(
        project, 2, slices=(("EWR", 0.66), (LONG, 0.7)), columns=("carrier", "origin", "hour", LONG, "dest", "flight")
    )
    past_run(project, 3, "AwaitingApproval")
    past_run(project, 4, "ValidationFailed", error=DataError("the batch fails 1 of 33", next_action="mend the data"))
    deployed(project, 2, "line-1")
    done = CliRunner().invoke(main, ["report", "--project", str(project)])
    assert done.exit_code == 0, done.output
    return project / "var" / "report"


def test_the_report_and_its_cards_are_readable_by_everybody(report: Path, browser: Page) -> None:
    for name in ("index.html", "flights/index.html", "flights/v2.html"):
        require_readable(browser, report / name)


def test_an_audit_is_readable_by_everybody(tmp_path: Path, browser: Page) -> None:
    sent = {"what": "layer model", "destination": f"registry.example/{LONG}", "bytes": 2_669, "sha256": "3" * 64}
    left = (sent | {"clearance": "scanned: no record in it", "when": "2013-01-01T02:00:00+00:00"},)
    findings = (
        Finding("Is it whole?", "proved", "yes"),
        Finding("Is it?", "open", LONG),
        Finding("So?", "broken", "no"),
    )
    file = tmp_path / "audit.html"
    file.write_text(audit_page(Audit("flights", "3", "a" * 64, "local", "Completed", findings, left)))
    require_readable(browser, file)


def test_data_docs_are_readable_by_everybody(tmp_path: Path, browser: Page) -> None:
    found = {"element_count": 9, "unexpected_count": 1, "unexpected_percent": 11.1, "partial_unexpected_list": [LONG]}
    results = [
        {
            "success": success,
            "expectation_config": {
                "type": "expect_column_values_to_be_in_set",
                "kwargs": {"column": column, "value_set": ["EWR", LONG]},
                "meta": {},
            },
            "result": found,
            "meta": {},
            "exception_info": {"raised_exception": False, "exception_message": None, "exception_traceback": None},
        }
        for success, column in ((False, LONG), (True, "origin"))
    ]
    full = {"success": False, "suite_name": "flights", "results": results}
    file = tmp_path / "docs.html"
    about = {"facts": [("batch", "a" * 64)], "notes": [LONG], "links": [("Model card", "v1.html")]}
    file.write_text(datadocs.page(full, title="flights", **about))
    require_readable(browser, file)
