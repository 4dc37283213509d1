"""The model card: one content, as Markdown in Prefect and as a page of the report; aggregates only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from past_runs import TOKEN, past_run

from insitu.cli import main
from insitu.reporting.model_card import Card, card_of, markdown_of
from insitu.reporting.records import Kept, kept_of, whole
from insitu.runs import Run


@pytest.fixture
def project(make_project: Callable[..., Path]) -> Path:
    return make_project()


def card(run: Run, **changes: Any) -> Card:
    record = whole(run.journal.entry("record")) | changes
    return card_of(record, kept_of(run.site, record))


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_card_tells_verdict_metrics_data_limits_lineage_and_how_to_call_it(project: Path) -> None:
    past_run(project, 1)
    run = past_run(project, 2, slices=(("EWR", 0.66),))
    text = card(run, marks=["champion"]).markdown
    assert text.startswith("# flights v2: Promoted (champion)")
    assert "- every metric reaches its floor" in section(text, "Verdict")
    assert "v1, the champion then" in section(text, "Verdict")
    assert "28,000 rows of the holdout" in section(text, "Metrics")
    assert "+0.004 (-0.002 to +0.009)" in section(text, "Metrics")
    assert "| origin=EWR | 9,000 | 0.66 | -0.002 to +0.009 |" in section(text, "Slices")
    assert "| hour | numbers | 0.02% | 1 of 1 hold |" in section(text, "Data")
    assert "| carrier | 1 category |" in section(text, "Data")
    assert "judged on the latest blob alone" in section(text, "Limits")
    assert "clear: 0 rows and 0 single values found" in section(text, "No record in the model")
    for proof in (run.key, run.batch.fingerprint, f"sha256:{2:064x}", "month=03/flights.parquet"):
        assert proof in section(text, "Lineage")
    assert f"docker run --rm --read-only -p 5001:5001 registry.example:5000/flights:2@sha256:{2:064x}" in text
    assert "insitu score flights --version 2 --file request.json" in text


def test_the_request_of_the_card_has_the_columns_and_no_value(project: Path) -> None:
    run = past_run(project, 1)
    golden = project / "var/jobs/job-1/golden.json"
    golden.parent.mkdir(parents=True)
    split = {"columns": ["carrier", "o'clock"], "data": [[TOKEN, 17]]}
    golden.write_text(json.dumps({"request": {"dataframe_split": split}}))
    text = section(card(run).markdown, "How to call it")
    assert """'{"dataframe_split": {"columns": ["carrier", "o'\\''clock"], "data": [["", 0]]}}'""" in text
    assert TOKEN not in text


def test_page_and_markdown_say_the_same(project: Path) -> None:
    past_run(project, 1)
    run = past_run(project, 2, "Inconclusive", slices=(("a|b", 0.66),))
    assert CliRunner().invoke(main, ["report", "--project", str(project)]).exit_code == 0
    page = (project / "var/report/flights" / f"run-{run.key[:12]}.html").read_text()
    shown = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))
    for part in card(run).sections:
        cells = [cell for row in part.rows for cell in row.values()]
        for said in (part.title, *part.lines, *cells, *(value for _, value in part.facts)):
            assert re.sub(r"\s+", " ", str(said)) in shown


def test_the_card_of_prefect_has_pictures_and_no_value_of_the_data(project: Path) -> None:
    past_run(project, 1)
    run = past_run(project, 2, "Rejected")
    text = markdown_of(run)
    assert f"# flights run {run.key[:12]}: Rejected" in text
    assert "![ROC and calibration curves](data:image/png;base64,iVBOR" in text
    assert TOKEN not in text
    assert "How to call it" not in text  # nothing is published


def test_a_card_tells_one_class_from_the_others_without_naming_it(project: Path) -> None:
    run = past_run(project, 1)
    settings = {**run.inputs["settings"], "target": {"task": "classification", "label_column": "c", "label_is": TOKEN}}
    text = card_of(whole(run.journal.entry("record")), Kept(settings=settings)).markdown
    assert "predicts**: one class of c (classification)" in text
    assert TOKEN not in text


def test_a_pruned_run_has_a_card_of_its_record(project: Path) -> None:
    run = past_run(project, 1)
    record = whole(run.journal.entry("record")) | {"pruned": "2013-02-01T00:00:00+00:00", "marks": ["pruned"]}
    text = card_of(record, Kept()).markdown
    assert "Promoted (pruned)" in text
    assert "| roc_auc | 0.6" in section(text, "Metrics")
    assert "How to call it" not in text


def test_the_card_tells_what_the_export_does_otherwise_and_what_people_decided(project: Path) -> None:
    run = past_run(project, 1, "Approved")
    text = card(run).markdown
    assert "decided by**: Ada (approval) at 2013-01-02 08:00 UTC: seen" in text
    training = whole(run.journal.entry("record"))["training"]
    for onnx, told in (
        (None, "the model came without model.onnx"),
        ({"usable": True, "rows": 10_000, "blanks": ["distance"]}, "on 10,000 rows; not without distance"),
        ({"usable": False, "reason": "of 20 answers of the export 3 differ"}, "of 20 answers of the export 3 differ"),
    ):
        assert told in section(card(run, training=training | {"onnx": onnx}).markdown, "Limits")
