"""From data to a published image, and what people and programs see of it afterwards."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flow_helpers import INSITU, KILLED, NOBODY_HOME, NewProject, Project, PublishedRun, audit, put_month
from prefect_server import PrefectServer

from insitu.adapters.local.images import LayoutImages
from insitu.residency.ledger import require_whole

CONTRACT = {
    "run_key": None,
    "model": None,
    "site": None,
    "batch": {"fingerprint", "blobs", "bytes"},
    "readiness": None,
    "validation": {"success", "suite", "expectations", "failed", "rows", "bytes_read", "drift"},
    "training": {"job", "backend", "seconds", "metrics"},
    "decision": {"verdict", "reasons", "champion", "approval"},
    "model_version": {"name", "version", "uri"},
    "image": {"digest", "size_bytes", "layers"},
    "publication": {"reference", "digest"},
    "egress": None,
    "state": None,
    "seconds": None,
}
BEYOND_THE_CONTRACT = {"code", "deployment", "error", "finished", "plan_hash", "residency", "signature", "started"}
STEPS = {"snapshot", "ready", "validate", "train", "gate", "register", "containerize", "publish"}


def digest_of_tag(project: Project, tag: str) -> str:
    return dict(audit(project).tags)[tag]


def test_a_run_ends_with_a_record_that_has_the_fields_of_the_contract(published: PublishedRun) -> None:
    record = published.record
    assert set(record) == set(CONTRACT) | BEYOND_THE_CONTRACT
    for field, parts in CONTRACT.items():
        if parts:
            assert set(record[field]) >= parts, field
    assert set(record["seconds"]) == STEPS
    require_whole(record["egress"])
    assert all(set(layer) >= {"digest", "size_bytes"} for layer in record["image"]["layers"])


def test_the_export_was_compared_on_the_whole_holdout_and_the_image_tried_within_limits(
    published: PublishedRun,
) -> None:
    training, image = published.record["training"], published.record["image"]
    assert (training["onnx"]["usable"], training["onnx"]["rows"], training["onnx"]["flips"]) == (
        True,
        training["rows"],
        0,
    )
    assert (image["runtime"], image["smoke"]["ended"]) == ("onnx", False)
    assert f"as the model does on {training['rows']:,} rows" in image["because"]
    assert image["peak_memory_bytes"] < image["smoke"]["memory_limit_bytes"]
    assert image["because"] in published.project.run("show", "flights").require(0).out


def test_what_was_trained_was_searched_for_every_row_and_what_reached_fit(published: PublishedRun) -> None:
    told = published.record["residency"]
    assert (told["verdict"], told["rows_found"], told["cells_found"], told["unopened"]) == ("clear", 0, 0, [])
    assert told["rows"] == told["rows_looked_for"] == 4500
    assert told["fitted"] > 3


def test_scan_finds_rows_of_a_batch_in_a_file_and_none_in_the_model(published: PublishedRun) -> None:
    project, key = published.project, published.record["run_key"][:12]
    model = project.var / "jobs" / published.record["training"]["job"] / "output" / "model"
    assert "clear" in project.run("scan", str(model), "--batch", key).require(0).out
    told = project.run("scan", str(project.blob(2)), "--batch", key, "--json").require(1).json
    assert (told["verdict"], told["rows"], told["batch"]) == ("blocked", 4500, published.record["batch"]["fingerprint"])
    assert told["rows_found"] > 1000
    assert "no batch" in project.run("scan", str(model), "--batch", "00000000").require(2).complaint


def test_a_run_says_that_it_completed_and_was_promoted(published: PublishedRun) -> None:
    record = published.record
    assert (record["state"], record["error"], record["decision"]["verdict"]) == ("Completed", None, "promote")
    assert record["batch"]["blobs"] == 3
    assert record["validation"]["rows"] == 4500
    assert record["validation"]["failed"] == 0
    assert all(check["ok"] for check in record["readiness"])


def test_the_image_of_the_record_is_the_one_that_the_tags_name(published: PublishedRun) -> None:
    record = published.record
    assert record["publication"]["digest"] == record["image"]["digest"]
    assert audit(published.project).tags == [("1", record["image"]["digest"]), ("latest", record["image"]["digest"])]
    assert record["publication"]["reference"] == f"oci:{published.project.var}/images/flights:1"


def test_the_first_version_is_registered_once_and_is_the_champion(published: PublishedRun) -> None:
    seen = audit(published.project)
    assert (published.record["model_version"]["version"], seen.versions, seen.champion) == ("1", ["1"], ["1"])
    assert seen.mlflow_runs == 1


def test_a_second_start_says_that_nothing_is_new_without_asking_prefect(published: PublishedRun) -> None:
    before = audit(published.project)
    again = published.project.retrain(PREFECT_API_URL=NOBODY_HOME).require(0)
    assert "nothing new" in again.out
    assert audit(published.project) == before
    assert published.project.retrain("--json", PREFECT_API_URL=NOBODY_HOME).require(0).json == published.record


def test_the_history_and_the_latest_version_are_the_record(published: PublishedRun) -> None:
    marked = published.record | {"marks": ["champion"]}
    assert published.project.run("history", "flights", "--json").require(0).json == [marked]
    assert published.project.run("show", "flights", "latest", "--json").require(0).json == published.record
    assert published.project.run("show", "flights", "1", "--json").require(0).json == published.record


def test_a_version_that_is_not_there_is_refused(published: PublishedRun) -> None:
    assert "no published version 7" in published.project.run("show", "flights", "7").require(2).complaint


def test_the_published_image_answers_the_golden_rows_as_the_model_did(published: PublishedRun) -> None:
    told = published.project.run("score", "flights", "--json").require(0).json
    assert told["version"] == "1"
    job = published.project.var / "jobs" / published.record["training"]["job"]
    golden = json.loads((job / "golden.json").read_text())
    assert told["request"] == golden["request"]
    for answer, wanted in zip(told["answer"]["predictions"], golden["predictions"], strict=True):
        assert answer == pytest.approx(wanted, abs=1e-5)


def test_a_request_of_ones_own_is_answered(published: PublishedRun, tmp_path: Path) -> None:
    request = tmp_path / "my request.json"
    row = {"columns": ["carrier", "origin", "dest", "hour", "distance"], "data": [["UA", "EWR", "ORD", 17, 719]]}
    request.write_text(json.dumps({"dataframe_split": row}))
    answer = published.project.run("score", "flights", "--json", "--file", str(request)).require(0).json["answer"]
    assert sum(answer["predictions"][0]) == pytest.approx(1)


def test_people_are_told_verdict_version_whole_digest_and_what_to_type_next(published: PublishedRun) -> None:
    told = published.project.retrain(PREFECT_API_URL=NOBODY_HOME).require(0).out
    for part in ("PROMOTE", "flights version 1", published.record["image"]["digest"], "insitu score flights"):
        assert part in told


def test_people_see_verdict_version_and_metrics_in_the_history(published: PublishedRun) -> None:
    told = published.project.run("history", "flights").require(0).out
    assert "Promoted" in told
    assert "roc_auc" in told
    assert published.record["image"]["digest"].removeprefix("sha256:")[:12] in told


def test_people_see_the_whole_digest_of_a_version(published: PublishedRun) -> None:
    told = published.project.run("show", "flights").require(0).out
    assert published.record["image"]["digest"] in told
    assert published.record["run_key"] in told


def test_the_project_is_found_from_any_folder_by_its_option(published: PublishedRun, tmp_path: Path) -> None:
    root = str(published.project.root)
    done = Project(tmp_path, published.project.environ)
    (tmp_path / "models").mkdir()
    marked = published.record | {"marks": ["champion"]}
    assert done.run("history", "flights", "--json", "--project", root).require(0).json == [marked]
    assert "is not inside an insitu project" in done.run("history", "flights").require(2).complaint


def test_prefect_shows_tables_the_model_card_and_its_picture(published: PublishedRun, server: PrefectServer) -> None:
    asked = {"artifacts": {"flow_run_id": {"any_": [published.done.flow_run]}}}
    artifacts = {one["key"]: one for one in server.ask("/artifacts/filter", asked)}
    assert {"validation-flights", "gate-flights", "model-card-flights", "training-flights"} <= set(artifacts)
    assert published.record["plan_hash"] in artifacts["plan-flights"]["data"]
    assert artifacts["result-flights"]["description"].startswith("Promoted, published as oci:")
    assert all(artifacts[f"{kind}-flights"]["description"] for kind in ("plan", "gate", "model-card", "decision"))
    result = artifacts["result-flights"]["data"]
    assert published.record["image"]["digest"] in result
    assert all(f"| {entry['what']} | {entry['destination']} |" in result for entry in published.record["egress"])
    assert "roc_auc" in json.dumps(artifacts["gate-flights"]["data"])
    assert "![ROC and calibration curves](data:image/png;base64,iVBOR" in artifacts["model-card-flights"]["data"]


def test_prefect_says_that_the_run_completed(published: PublishedRun, server: PrefectServer) -> None:
    shown = server.ask(f"/flow_runs/{published.done.flow_run}")
    assert (shown["state"]["type"], shown["state"]["name"]) == ("COMPLETED", "Completed")
    assert (shown["name"], set(shown["tags"])) == ("flights month 03 → v1", {"flights", "site:local", "v1"})


@pytest.fixture(scope="module")
def two_versions(published: PublishedRun, new_project: NewProject, extract: Path) -> tuple[Project, dict[str, Any]]:
    """A project with a second version, and the record of its run."""
    project = new_project("with another month", like=published.project)
    put_month(project, extract, 4)
    return project, project.retrain("--json").require(0).json


@pytest.mark.slow
def test_two_versions_are_compared_on_the_rows_of_a_recorded_run_and_nothing_changes(
    two_versions: tuple[Project, dict[str, Any]], published: PublishedRun
) -> None:
    project, _ = two_versions
    before = (audit(project), project.kept("record"), ledger(project))
    batch, training = published.record["batch"]["fingerprint"][:12], published.record["training"]
    told = project.run("compare", "flights", "1", "2", "--batch", batch, "--json").require(0).json
    assert (told["rows"], told["metrics"]["1"]) == (training["rows"], training["metrics"])
    gain = told["metrics"]["2"]["roc_auc"] - told["metrics"]["1"]["roc_auc"]
    assert told["difference"]["estimate"] == pytest.approx(gain, abs=2e-4)
    assert told["difference"]["error"] == pytest.approx(0.025)
    assert told["trained_on"] == {"1": 0, "2": 1}  # the first run's holdout is the second one's training data
    assert "takes nothing of the holdout's error budget" in told["note"]
    assert (audit(project), project.kept("record"), ledger(project)) == before
    assert "version 9" in project.run("compare", "flights", "1", "9").require(2).complaint


@pytest.mark.slow
def test_a_version_is_reproduced_bit_by_bit_until_its_code_is_another(
    two_versions: tuple[Project, dict[str, Any]],
) -> None:
    project, record = two_versions
    told = project.run("reproduce", "flights", "2", "--json", PYTHONHASHSEED="0").require(0).json
    assert (told["equal"], told["ran"], told["differs"], told["environment"]) == (True, True, [], [])
    assert told["metrics"]["now"] == record["training"]["metrics"]
    assert told["image"] == {"recorded": record["image"]["digest"], "now": record["image"]["digest"]}
    assert audit(project).versions == ["1", "2"]

    script, suite = project.root / "models/flights/train.py", project.root / "data_checks/flights.json"
    kept = script.read_text(), suite.read_text()
    try:
        script.write_text(kept[0] + "# another\n")
        suite.write_text(kept[1] + "\n")
        other = project.run("reproduce", "flights", "2", "--json", INSITU_MODEL__TRAIN__PARAMS__C="2.0").require(1).json
    finally:
        script.write_text(kept[0])
        suite.write_text(kept[1])
    assert (other["equal"], other["ran"]) == (False, False)
    assert other["differs"] == ["code: train.py", "code: the suite"]  # the parameters are those of the record


def ledger(project: Project) -> str:
    """Return what was taken of the error budgets."""
    return (project.var / "state/holdouts/flights.json").read_text()


@pytest.mark.slow
def test_with_another_month_the_second_version_meets_the_champion(
    two_versions: tuple[Project, dict[str, Any]], published: PublishedRun, tmp_path: Path
) -> None:
    project, record = two_versions
    assert record["decision"]["champion"] == "1"
    assert record["model_version"]["version"] == "2"
    assert record["training"]["difference"].keys() == {"estimate", "low", "high", "error", "method"}
    seen = audit(project)
    assert (seen.versions, seen.champion, seen.mlflow_runs) == (["1", "2"], ["2"], 2)
    assert digest_of_tag(project, "2") == digest_of_tag(project, "latest") == record["image"]["digest"]
    assert digest_of_tag(project, "1") == published.record["image"]["digest"]

    # The first run, whose images are gone, is built and published again: same digest, and no champion any more.
    manifest = tmp_path / "first batch.json"
    manifest.write_text(json.dumps(published.record["batch"]["manifest"]))
    late = project.retrain("--json", "--batch", str(manifest), INSITU_SITE__IMAGES__ROOT=str(tmp_path))
    publication = late.require(0).json["publication"]
    assert publication["digest"] == published.record["publication"]["digest"]
    assert not publication["champion"]
    assert audit(project).champion == ["2"]
    assert project.run("show", "flights", "latest", "--json").require(0).json["model_version"]["version"] == "2"


@pytest.mark.parametrize(
    "command",
    ["show flights 7", "history nosuch", "score flights --file nowhere.json", "retrain flights --batch nowhere.json"],
)
def test_an_error_is_one_json_value_for_a_program(published: PublishedRun, command: str) -> None:
    done = published.project.run(*command.split(), "--json").require(2)
    error = done.json["error"]
    assert error["code"] in done.err
    assert set(error) == {"type", "code", "what", "found", "wanted", "next_action"}


def test_the_published_image_is_verified_from_its_reference_and_a_public_key_alone(
    published: PublishedRun, tmp_path: Path
) -> None:
    reference, record = published.record["publication"]["reference"], published.record
    found = published.project.run("verify", reference, "--json").require(0).json
    assert (found["digest"], found["facts"]["run_key"]) == (record["publication"]["digest"], record["run_key"])
    assert len(found["proved"]) == 10
    assert any("estimated, room for at most" in line for line in found["unproved"])
    assert found["others"] == []
    (key,) = published.project.var.glob("keys/*.pub")
    environ = {name: text for name, text in os.environ.items() if not name.startswith("INSITU_")}
    command = [str(INSITU), "verify", reference, "--key", str(key)]
    alone = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert alone.stdout.startswith(f"{reference}: verified\n")
    assert [f"  proved     {line}" in alone.stdout for line in found["proved"]] == [True] * 10


def test_what_is_attested_names_no_blob(published: PublishedRun) -> None:
    images = LayoutImages(published.project.var / "images" / "flights")
    attached = images.referrers(published.record["image"]["digest"])
    assert len(attached) == 6
    names = [blob["name"] for blob in published.record["batch"]["manifest"]["blobs"]]
    for one in attached:
        _, manifest = images.resolve(one.digest) or pytest.fail("it is listed")
        (layer,) = json.loads(manifest)["layers"]
        bundle = json.loads((images.local_blob(layer["digest"]) or pytest.fail("it is there")).read_bytes())
        said = base64.b64decode(bundle["dsseEnvelope"]["payload"]).decode()
        assert not [name for name in names if name in said]


def test_an_auditor_sees_what_left_and_what_proves_the_rest(published: PublishedRun, tmp_path: Path) -> None:
    page = tmp_path / "audit.html"
    told = published.project.run("audit", "flights", "--json", "--html", str(page)).require(0).json
    assert told["left"] == published.record["egress"]
    status = {one["question"]: one["status"] for one in told["findings"]}
    job = status.pop("Could training send anything by itself?")
    assert job == ("proved" if published.record["training"]["network"] == "none" else "open")
    assert status.pop("How many rows could have left, whatever the encoding?") == "estimated"
    assert set(status.values()) == {"proved"}
    assert len(status) == 7
    assert not re.search(r"https?://", page.read_text())
    assert "<script" not in page.read_text()


def test_an_auditor_sees_a_list_that_was_altered(published: PublishedRun, new_project: NewProject) -> None:
    project = new_project("an altered ledger", like=published.project)
    run = project.var / "state" / "runs" / "flights" / published.record["run_key"]
    ledger, record = run / "egress.json", run / "record.json"
    entries = json.loads(ledger.read_text())
    ledger.write_text(json.dumps(entries[1:]))
    told = project.run("audit", "flights").require(1).out
    assert "broken" in told
    assert "does not follow" in told
    ledger.write_text(json.dumps(entries[:-1]))  # the chain alone would not tell
    record.write_text(json.dumps(published.record | {"egress": entries[:-1]}))
    told = project.run("audit", "flights").require(1).out
    assert f"1 of the {len(entries)} entries of the egress ledger that were signed are gone" in told
    ledger.write_text(json.dumps(entries))
    scan = published.record["residency"]
    metrics = {"challenger": {"roc_auc": 0.99, "log_loss": 0.1}}
    training = published.record["training"] | {"network": "proxy", "compared": metrics}
    another = published.record | {"residency": scan | {"rows_looked_for": scan["rows"] + 1}, "training": training}
    record.write_text(json.dumps(another))  # beside an image whose statement says what was found
    told = project.run("audit", "flights").require(1).out
    assert told.count("the run record tells something else than what its training left") == 2
    assert "the run record tells other metrics than were judged" in told
    record.write_text(json.dumps(published.record))
    (decision,) = (project.var / "state" / "decisions" / "flights" / published.record["run_key"]).glob("*/gate.json")
    decision.write_bytes(decision.read_bytes().replace(b"payload", b"payloae", 1))
    assert f"{decision.name} in the site's state is not trusted" in project.run("audit", "flights").require(1).out


def test_a_run_that_is_killed_while_it_deploys_is_on_record_as_published(
    published: PublishedRun, new_project: NewProject
) -> None:
    project = new_project("killed while it deploys", like=published.project)
    with (project.root / "models/flights/model.toml").open("a") as settings:
        settings.write('\n[[deploy]]\nname = "edge"\nkind = "bundle"\nfolder = "var/drop"\n')
    for file in project.var.glob("state/runs/flights/*/*.json"):  # as in its first start, at that point
        if file.name == "record.json" or file.name.startswith("publish-"):
            file.unlink()
    project.retrain(INSITU_CRASH_AT="deploy:before").require(KILLED)
    (record,) = project.kept("record")
    assert (record["state"], record["model_version"]["version"]) == ("Unfinished", "1")
    assert record["publication"]["digest"] == published.record["image"]["digest"]
