"""What `insitu plan` tells is what the run then does, and telling changes nothing."""

from __future__ import annotations

from pathlib import Path

from flow_helpers import NOBODY_HOME, NewProject, Project, PublishedRun, put_month

from insitu.errors import GateFailed


def files(project: Project) -> dict[str, int]:
    paths = (path for path in project.root.rglob("*") if path.is_file())
    return {str(path.relative_to(project.root)): path.stat().st_size for path in paths}


def test_before_the_first_run_everything_is_read(new_project: NewProject) -> None:
    project = new_project("to be planned")
    before = files(project)
    plan = project.run("plan", "flights", "--json", PREFECT_API_URL=NOBODY_HOME).require(0).json
    assert files(project) == before
    assert (plan["done"], plan["champion"]) == (False, None)
    assert plan["batch"] | {"fingerprint": None, "bytes": None} == {
        "fingerprint": None, "bytes": None, "blobs": 3, "new_blobs": 3, "training_blobs": 2, "holdout_blobs": 1,
    }  # fmt: skip
    validation = plan["validation"]
    assert (validation["blobs"], validation["known_blobs"], validation["second_pass"]) == (3, 0, [])
    assert 0 < validation["bytes_to_read"] < 1.1 * plan["batch"]["bytes"], "footers of small blobs are read twice"
    assert all(check["ok"] for check in plan["readiness"])
    assert (plan["forecast"]["earlier_runs"], plan["forecast"]["total_seconds"]) == (0, None)
    said = project.run("plan", "flights", PREFECT_API_URL=NOBODY_HOME).require(0).out
    assert "there is no earlier run" in said
    assert "nothing leaves this machine" in said


def test_a_done_batch_has_nothing_to_do_and_a_new_month_alone_is_read(
    published: PublishedRun, new_project: NewProject, extract: Path
) -> None:
    project = new_project("planned after a run", like=published.project)
    done = project.run("plan", "flights", "--json").require(0).json
    assert (done["done"], done["run_key"], done["champion"]) == (True, published.record["run_key"], "1")
    assert (done["validation"]["bytes_to_read"], done["validation"]["known_blobs"]) == (0, 3)
    registry = project.var / "mlflow"
    registry.rename(project.var / "lost")
    said = project.run("plan", "flights").require(0).out
    assert "the model registry lacks what was published: v1" in said
    (project.var / "lost").rename(registry)
    put_month(project, extract, 4)
    plan = project.run("plan", "flights", "--json").require(0).json
    assert (plan["done"], plan["batch"]["new_blobs"], plan["validation"]["known_blobs"]) == (False, 1, 3)
    assert plan["plan_hash"] not in (done["plan_hash"], None)  # one blob more is another plan
    assert done["plan_hash"] == published.record["plan_hash"]
    there = {layer["title"]: layer["there"] for layer in plan["image"]["layers"]}
    assert there == {"base": True, "environment": True, "server": True, "model": None}
    assert plan["forecast"]["seconds"]["train"] > published.record["seconds"]["train"]  # more rows, and a margin
    said = project.run("plan", "flights").require(0).out
    assert "3 blobs measured by earlier runs" in said
    assert "against the champion, v1" in said
    _another_label(project)
    record = project.retrain("--json").require(0).json
    assert (record["run_key"], record["plan_hash"]) == (plan["run_key"], plan["plan_hash"])
    for entry in record["egress"]:  # what the plan has not told does not go
        assert any(
            entry["what"].startswith(one["what"]) and entry["destination"] == one["destination"]
            and entry["bytes"] <= (one["most_bytes"] or entry["bytes"])
            for one in plan["leaves"]
        ), entry  # fmt: skip
    assert record["validation"]["drift"]["champion"] == "v1"
    more = record["validation"]["bytes_read"] - plan["validation"]["bytes_to_read"]
    assert abs(more) <= 4 << 10, "small gaps between columns; the known blobs were not even opened"


def _another_label(project: Project) -> None:
    """Ask for another label for a while: the champion answers the old question, which plan and comparison tell."""
    settings = project.root / "models/flights/model.toml"
    before = settings.read_text()
    settings.write_text(before.replace("label_above = 15", "label_above = 30"))
    lost = {
        "why": "the champion was trained to predict something else: another value of target.label_above in model.toml"
    }
    assert project.run("plan", "flights", "--json").require(0).json["lost"] == lost | {"then": "fail"}
    refused = project.run("compare", "flights", "1", "1").require(GateFailed.exit_code).complaint
    assert "flights version 1 was trained to predict something else" in refused
    settings.write_text(before)


def test_an_unknown_model_is_bad_usage(new_project: NewProject) -> None:
    assert "models" in new_project("planned wrongly").run("plan", "flights_", "--json").require(2).complaint
