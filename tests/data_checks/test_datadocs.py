"""Data Docs pages: complete, safe to open whatever the data holds, and loaded from nowhere else."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from example_blobs import Store, arrow

from data_checks.datadocs import page
from data_checks.engine import validate
from data_checks.suite import Suite
from insitu.errors import StateDamaged

HOSTILE = "<script src='https://evil.example/x'>a</script>\"'&amp;$column ${x}$$ <!-- <b onload=x> \\u0041"
COUNTS = {
    "element_count": 100,
    "unexpected_count": 4,
    "unexpected_percent": 4.0,
    "missing_count": 0,
    "missing_percent": 0.0,
    "unexpected_percent_total": 4.0,
    "unexpected_percent_nonmissing": 4.0,
}
RAISED = {"raised_exception": True, "exception_message": "KeyError", "exception_traceback": None}
ONE_LOADS = {"src", "href", "srcset", "action", "formaction", "data", "poster", "background", "cite", "ping"}


class Page(HTMLParser):
    """What a browser would see: elements, attributes and text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.comments: list[str] = []
        self.texts: list[str] = []
        self.rows: list[str] = []
        """The status of every expectation, top to bottom."""
        self._in_status = False
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "td":
            self._in_status = ("class", "status") in attrs
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._in_status and data.strip():
            self.rows.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.texts))


def result(kind: str, kwargs: dict[str, Any], found: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    config = {"type": kind, "kwargs": kwargs, "meta": {"notes": more.pop("notes", "")}, "severity": "critical"}
    calm = {"raised_exception": False, "exception_message": None, "exception_traceback": None}
    return {
        "success": False,
        "expectation_config": config,
        "result": found or {},
        "meta": {},
        "exception_info": calm,
        **more,
    }


def full_of(*results: dict[str, Any], suite: str = "test") -> dict[str, Any]:
    return json.loads(json.dumps({"success": False, "suite_name": suite, "results": results, "statistics": {}}))


def read(full: Any, **about: Any) -> Page:
    return Page(page(full, **({"title": "m", "facts": []} | about)))


def hostile_results(text: str = HOSTILE) -> list[dict[str, Any]]:
    """Failures that hold *text* wherever the data's or the suite's author may put it."""
    sampled = COUNTS | {"partial_unexpected_list": [text, {text: text}, [text, 2], None, "", 0]}
    counted = COUNTS | {"partial_unexpected_counts": [{"value": text, "count": 4}]}
    observed, observed_list = {"observed_value": text}, {"observed_value": [text]}
    weights = {"values": [text, "b"], "weights": [0.5, 0.5]}
    partitions = {"observed_value": 0.5, "details": {"observed_partition": weights, "expected_partition": weights}}
    raised = RAISED | {"exception_message": text, "exception_traceback": text}
    conditional = {"column": "c", "row_condition": f"a > {text}", "condition_parser": "pandas"}
    known = [
        ("values_to_be_in_set", {"column": text, "value_set": [text, "a"]}, sampled),
        ("values_to_not_be_in_set", {"column": text, "value_set": [text]}, counted),
        ("values_to_match_regex", {"column": "c", "regex": text}, sampled),
        ("values_to_match_like_pattern", {"column": "c", "like_pattern": text}, sampled),
        ("values_to_match_json_schema", {"column": "c", "json_schema": {text: text}}, sampled),
        ("values_to_be_of_type", {"column": "c", "type_": text}, observed),
        ("values_to_be_in_type_list", {"column": "c", "type_list": [text]}, observed),
        ("values_to_be_unique", conditional, sampled),
        ("distinct_values_to_equal_set", {"column": "c", "value_set": [text]}, observed_list),
        ("most_common_value_to_be_in_set", {"column": "c", "value_set": [text]}, observed_list),
        ("kl_divergence_to_be_less_than", {"column": "c", "partition_object": weights, "threshold": 0.1}, partitions),
        ("max_to_be_between", {"column": "c", "max_value": text}, observed),
        ("pair_values_to_be_equal", {"column_A": text, "column_B": text}, sampled),
    ]
    return [
        *(result(f"expect_column_{kind}", kwargs, found) for kind, kwargs, found in known),
        result("expect_compound_columns_to_be_unique", {"column_list": [text, "b"]}, sampled),
        result("expect_table_columns_to_match_set", {"column_set": [text]}, observed_list),
        result("expect_table_columns_to_match_ordered_list", {"column_list": [text]}, observed_list),
        result("expect_of_somebody_" + text, {"column": text, "limit": text}, observed),
        result("expect_column_mean_to_be_between", {"column": text}, exception_info=raised),
        result("expect_column_to_exist", {"column": text}, notes=text),
    ]


@pytest.fixture(scope="module")
def hostile() -> str:
    full = full_of(*hostile_results(), suite=HOSTILE)
    return page(full, title=HOSTILE, facts=[(HOSTILE, HOSTILE)], notes=[HOSTILE])


def test_markup_in_names_and_values_is_text(hostile: str) -> None:
    seen = Page(hostile)
    assert not {"script", "b", "iframe", "img", "object", "form", "input"} & set(seen.tags)
    assert seen.comments == []
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_every_hostile_text_is_shown_as_it_is(hostile: str) -> None:
    shown = {int(row.partition('"')[0]): Page(f"<tr {row}").text for row in hostile.split('<tr id="expectation-')[1:]}
    assert sorted(shown) == list(range(1, len(hostile_results()) + 1))
    assert [number for number, text in shown.items() if HOSTILE not in text] == []
    assert "\ufdd0" not in hostile
    assert "ufdd" not in hostile


def test_head_title_and_notes_hold_their_text(hostile: str) -> None:
    seen = Page(hostile)
    assert seen.texts.count(HOSTILE) >= 5
    assert f"Failed: {HOSTILE}" in seen.texts


def test_the_page_names_no_other_place(hostile: str) -> None:
    seen = Page(hostile)
    links = {value for name, value in seen.attributes if name in ONE_LOADS}
    assert links
    assert all(re.fullmatch(r"#expectation-\d+|data:,", link) for link in links)
    style = hostile[hostile.index("<style>") : hostile.index("</style>")]
    assert not re.search(r"url\(|@import|https?:|//", style)
    assert not [value for name, value in seen.attributes if name == "style"]
    assert ("http-equiv", "refresh") not in seen.attributes


def test_the_page_forbids_the_browser_to_load_or_run_anything(hostile: str) -> None:
    policies = [value for name, value in Page(hostile).attributes if name == "content" and "default-src" in value]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "script-src" not in policies[0]


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server on this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def browse(path: Path, profile: Path) -> str:
    """Open a page in a real browser, and return what became of it."""
    program = shutil.which("chromium")
    if not program:
        pytest.skip("chromium is not installed")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=3000",
        f"--user-data-dir={profile}",
    ]
    done = subprocess.run([program, *options, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_real_browser_asks_nobody_for_anything(tmp_path: Path) -> None:
    with listening() as (place, asked):
        bait = "".join(
            f"<{tag} {name}='{place}/{tag}'></{tag}>"
            for tag, name in (("img", "src"), ("script", "src"), ("iframe", "src"), ("object", "data"))
        )
        loose, kept = tmp_path / "loose.html", tmp_path / "kept.html"
        loose.write_text(f"<!DOCTYPE html><body>{bait}")
        kept.write_text(page(full_of(*hostile_results(bait)), title=bait, facts=[(bait, bait)], notes=[bait]))
        browse(loose, tmp_path / "profile")
        assert "/img" in asked  # the bait works where it is not escaped
        asked.clear()
        drawn = browse(kept, tmp_path / "profile")
        assert asked == []
    assert Page(drawn).text.count(bait) > 20


def test_every_expectation_of_the_example_has_its_words(months: list[pa.Table], store: Store, suite: Suite) -> None:
    report = validate(suite, *store(months[0]))
    drawn = page(report.full, title="flights", facts=[("rows", "27,004")])
    seen = Page(drawn)
    assert seen.rows == ["met"] * len(suite.expectations)
    assert f"All {len(suite.expectations)} expectations hold" in seen.text
    assert "rows27,004" in seen.text
    for expectation in suite.expectations:
        assert expectation["type"] in seen.texts
        assert (expectation["meta"].get("notes") or "") in seen.text
    assert "values must match this regular expression: ^N[0-9][0-9A-Z]{1,4}$, at least 99 % of the time." in seen.text
    assert (
        " = " not in seen.text.partition("Data Docs")[2]
    )  # how an expectation is shown that Great Expectations has no words for


def test_what_failed_comes_first(flights: pl.DataFrame, store: Store, suite: Suite) -> None:
    january = flights.filter(pl.col("month") == 1).drop("tailnum").with_columns(origin=pl.lit("EWR"))
    report = validate(suite, *store(arrow(january)))
    seen = read(report.full)
    assert f"{report.failed} of {report.expectations} expectations failed" in seen.text
    missing = [outcome for outcome in report.failures if "tailnum" in outcome.columns]
    assert seen.rows.count("not judged") == len(missing) > 0
    assert len([row for row in seen.rows if row != "met"]) == report.failed > len(missing)
    assert seen.rows[0] != "met"
    sections = [text for text in seen.texts if re.fullmatch(r"\d+ of \d+ failed|\d+ met", text)]
    assert sections == sorted(sections, key=lambda text: text.endswith("met"))
    assert {text.endswith("met") for text in sections} == {True, False}
    assert len([value for name, value in seen.attributes if name == "href" and value[0] == "#"]) == report.failed


def test_examples_of_unexpected_values_are_listed_with_their_count() -> None:
    sampled = COUNTS | {"partial_unexpected_list": ["XXX", None, "", 7, "XXX"]}
    seen = read(
        full_of(result("expect_column_values_to_be_in_set", {"column": "origin", "value_set": ["EWR"]}, sampled))
    )
    assert "4 unexpected values found. 4% of 100 total rows." in seen.text
    assert [seen.texts.count(text) for text in ("XXX", "null", "empty", "7")] == [1, 1, 1, 1]


@pytest.mark.parametrize("info", [RAISED, {"metric a": RAISED, "metric b": RAISED}], ids=["flat", "by metric"])
@pytest.mark.parametrize("kind", ["expect_column_mean_to_be_between", "expect_table_columns_to_match_ordered_list"])
def test_an_expectation_that_raised_is_shown_as_not_judged(kind: str, info: dict[str, Any]) -> None:
    seen = read(full_of(result(kind, {"column": "distance", "column_list": ["a"]}, exception_info=info)))
    assert seen.rows == ["not judged"]
    assert "Could not be judged: KeyError" in seen.text
    assert "1 of 1 expectation failed" in seen.text


def test_an_expectation_that_great_expectations_does_not_know_is_shown_with_what_was_observed() -> None:
    kwargs, found = {"column": "dest", "max_value": 0.25}, {"observed_value": 0.31415926}
    seen = read(full_of(result("expect_column_drift_psi_to_be_at_most", kwargs, found)))
    assert "column drift psi to be at most: max_value = 0.25" in seen.text
    assert "0.3142" in seen.text
    assert seen.rows == ["failed"]


def test_a_condition_on_rows_is_told() -> None:
    condition = {"type": "comparison", "column": {"name": "dep_delay"}, "operator": "<", "parameter": 30}
    kwargs = {"column": "origin", "value_set": ["EWR"], "row_condition": condition}
    seen = read(full_of(result("expect_column_values_to_be_in_set", kwargs, COUNTS)))
    assert "Only rows where dep_delay < 30" in seen.text
    assert "values must belong to this set: EWR" in seen.text


def test_a_renderer_that_raises_logs_no_value(caplog: pytest.LogCaptureFixture) -> None:
    broken = COUNTS | {"element_count": "a value of the data"}
    with caplog.at_level(logging.DEBUG):
        seen = read(full_of(result("expect_column_values_to_be_in_set", {"column": "c", "value_set": [1]}, broken)))
    assert seen.rows == ["failed"]
    assert "a value of the data" not in caplog.text


@pytest.mark.parametrize("full", [{}, [], None, {"results": [{}], "suite_name": "s"}, {"results": [HOSTILE]}])
def test_what_is_no_result_is_refused_without_a_value(full: Any) -> None:
    with pytest.raises(StateDamaged, match="the kept report of m cannot be drawn") as caught:
        read(full)
    assert caught.value.__cause__ is None
    assert "evil" not in str(caught.value)
