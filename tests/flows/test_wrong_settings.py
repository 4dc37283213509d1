"""Settings and names that cannot be meant: all problems at once, exit 2, and no work."""

from __future__ import annotations

import pytest
from flow_helpers import NOBODY_HOME, NewProject, Project, PublishedRun


@pytest.fixture
def project(new_project: NewProject, request: pytest.FixtureRequest) -> Project:
    return new_project(request.node.name)


def test_the_problems_of_both_files_are_listed_before_any_work(project: Project) -> None:
    site = project.root / "deployments" / "sites" / "local.toml"
    site.write_text(site.read_text().replace("reserve_memory_mb", "reserve_memmory_mb"))
    model = project.root / "models" / "flights" / "model.toml"
    text = model.read_text().replace("timeout_s = 900", 'timeout_s = "900"').replace("margin = 0.3", "margn = 0.3")
    model.write_text(text)
    told = project.retrain(PREFECT_API_URL=NOBODY_HOME).require(2).complaint
    assert told.startswith("E-CONF 3 problems")
    for part in (
        "sites/local.toml:",
        "reserve_memmory_mb",
        "flights/model.toml:",
        "timeout_s",
        "margn",
        "did you mean",
    ):
        assert part in told
    assert {path.name for path in project.var.iterdir()} == {"blobs", "images"}
    assert [path.name for path in (project.var / "images").iterdir()] == [".cache"], "layers that were put there before"


def test_a_misspelt_variable_is_an_error(published: PublishedRun) -> None:
    told = published.project.retrain(INSITU_MODEL__GATE__MARGN="0.1", INSITU_SITE_REGISTRY="x").require(2).complaint
    assert "INSITU_MODEL__GATE__MARGN" in told
    assert "INSITU_SITE_REGISTRY" in told


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["flihgts"], ["models/flihgts", "did you mean flights?"]),
        (["flights", "--site", "locl"], ["locl", "did you mean local?"]),
        (["flights", "--batch", "/there/is/none.json"], ["/there/is/none.json", "cannot be read"]),
    ],
    ids=["model", "site", "batch file"],
)
def test_an_unknown_name_is_answered_with_the_nearest_one(
    published: PublishedRun, arguments: list[str], wanted: list[str]
) -> None:
    told = published.project.run("retrain", *arguments, PREFECT_API_URL=NOBODY_HOME).require(2).complaint
    for part in wanted:
        assert part in told


def test_a_server_outside_of_the_site_is_refused_before_it_is_told_anything(project: Project) -> None:
    cloud = "https://api.prefect.cloud/api/accounts/1/workspaces/2"
    complaint = project.retrain(PREFECT_API_URL=cloud).require(2).complaint
    assert "Prefect Cloud" in complaint
    assert "found:  api.prefect.cloud" in complaint
