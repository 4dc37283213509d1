"""prefect.yaml is read strictly: what Prefect passes over in silence is named, with its line and what was meant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.deploying.deployments import clock_warnings, entries_of
from flows.deploying.prefect_lint import read_entries
from insitu.errors import SettingsError

REPO = Path(__file__).parents[2]
GOOD = (REPO / "prefect.yaml").read_text()
Mend = Callable[[str, str], Path]


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mend:
    """Return a function that makes the repository's project with another prefect.yaml."""
    for folder in ("flows", "models", "deployments", "data_checks"):
        (tmp_path / folder).symlink_to(REPO / folder)
    monkeypatch.setenv("INSITU_PROJECT", str(tmp_path))

    def change(old: str, new: str) -> Path:
        assert old in GOOD, old
        (tmp_path / "prefect.yaml").write_text(GOOD.replace(old, new, 1))
        return tmp_path

    return change


def test_the_file_of_this_project_has_no_mistake() -> None:
    entries = read_entries(REPO)
    assert [entry.name for entry in entries] == ["retrain/flights", "rollback/back", "watch/new-data"]
    assert clock_warnings(entries) == []


MISTAKES = {
    "a misspelt key": ("    schedules:", "    schedule:", ["did you mean deployments[0].schedules?"]),
    "a misspelt key of an event": (
        "expect:",
        "expects:",
        ["deployments[2].triggers[0].expects", "did you mean deployments[2].triggers[0].expect?"],
    ),
    "events of every kind": ("[insitu.data.ready]", "[]", ["triggers[0].expect", "not empty"]),
    "a misspelt key at the top": ("\ndeployments:", "\ndeployment:", ["did you mean deployments?"]),
    "a missing name": ("  - name: new-data", "  - title: new-data", ["deployments[2].name", "found:  nothing"]),
    "a key that is written twice": ("    tags:", "    tags: []\n    tags:", ["written again, first in line"]),
    "text that is no YAML": ('"0 3 * * *"', "* 3 * * *", ["not YAML", "a cron line stands in quotes"]),
    "an unknown job variable": ("      env: &quiet", "      envs: &quiet", ["job_variables.envs", "did you mean env?"]),
    "a job variable of another type": ('DO_NOT_TRACK: "true"', "DO_NOT_TRACK: true", ["found:  true", "wanted: text"]),
    "an unknown parameter": (
        "      site: local\n    enf",
        "      cite: local\n    enf",
        ["cite", "did you mean site?"],
    ),
    "another value than the choices": (
        "model: flights",
        "model: flight",
        ['found:  "flight"', "did you mean flights?"],
    ),
    "an unknown training parameter": ("            C: 0.1", "            c: 0.1", ["params.c", "did you mean C?"]),
    "a training parameter out of bounds": ("C: 0.1", "C: -0.1", ["params.C", "at least 0.01, at most 1000"]),
    "a run that nobody could give its model": ("      model: flights\n", "", ["no parameter model", '"flights"']),
    "a parameter of an event's run": (
        "        expect:",
        "        parameters: {sight: '{{ event.payload.site }}'}\n        expect:",
        ["triggers[0].parameters.sight", "did you mean site?"],
    ),
    "a variable that is not set": (
        'GX_ANALYTICS_ENABLED: "false"',
        'GX_ANALYTICS_ENABLED: "{{ $INSITU_PROJEKT }}"',
        ["$INSITU_PROJEKT, which is not set", "did you mean INSITU_PROJECT?"],
    ),
    "a template that nothing fills in": ("    tags: [insitu, ", '    tags: ["{{ build.tag }}", ', ["{{ build.tag }}"]),
    "an impossible time": ('"0 3 * * *"', '"0 25 * * *"', ["schedules[0].cron", "five fields of cron"]),
    "an unknown time zone": ("timezone: UTC", "timezone: europe/berlin", ["did you mean Europe/Berlin?"]),
    "two ways to say when": (
        "        interval: 300",
        '        cron: "0 3 * * *"\n        interval: 300',
        ["one of cron"],
    ),
    "a slug that is there already": ("slug: weekly-simpler", "slug: nightly", ["schedules[1].slug", "another name"]),
    "a deployment that is there already": (
        "  # Looks for",
        "  - {name: flights, entrypoint: 'flows/retrain.py:retrain', description: x, work_pool: *pool}\n  # Looks for",
        ["deployments[2].name", "a name that no other deployment of retrain has"],
    ),
    "no word about a collision": ("      collision_strategy: ENQUEUE\n", "", ["concurrency_limit.collision_strategy"]),
    "a collision strategy of no server": ("ENQUEUE", "WAIT", ['"ENQUEUE" or "CANCEL_NEW"']),
    "a pool of no worker": (
        "name: insitu-local",
        "name: insitu-lokal",
        ["insitu-local (processes) or insitu-local-docker"],
    ),
    "a flow that is not there": ("retrain.py:retrain", "retrain.py:retrains", ["a flow of flows/retrain.py"]),
    "a file that is not there": ("flows/retrain.py:", "flows/retrian.py:", ["such as flows/retrain.py"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_line_and_what_is_right(changed: Mend, mistake: str) -> None:
    old, new, told = MISTAKES[mistake]
    with pytest.raises(SettingsError) as caught:
        read_entries(changed(old, new))
    message = caught.value.render()
    assert [part for part in told if part not in message] == [], message
    lines = {problem.line for problem in caught.value.problems}
    changed_from = GOOD[: GOOD.index(old)].count("\n") + 1
    assert any(line and abs(line - changed_from) <= 2 + new.count("\n") for line in lines) or "a run that" in mistake


def test_all_mistakes_are_told_at_once(changed: Mend) -> None:
    project = changed("expect:", "expects:")
    text = (project / "prefect.yaml").read_text()
    (project / "prefect.yaml").write_text(
        text.replace("limit: 1", "limit: 0", 1).replace("active: false", "active: off?", 1)
    )
    with pytest.raises(SettingsError, match="3 problems"):
        read_entries(project)


def test_a_variable_that_is_set_is_filled_in(changed: Mend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_MODEL", "flights")
    project = changed("model: flights", 'model: "{{ $OF_THE_MODEL }}"')
    assert read_entries(project)[0].said.parameters["model"] == "flights"


def test_a_site_without_deployments_of_its_own_gets_those_of_the_local_one(changed: Mend) -> None:
    project = changed("name: insitu-local", "name: insitu-local-docker")
    ours = entries_of(project, "stackhub")
    assert {(entry.site, entry.said.work_pool.name, entry.pool_kind) for entry in ours} == {
        ("stackhub", "insitu-stackhub-docker", "docker")
    }


def test_a_site_with_deployments_of_its_own_gets_no_others(changed: Mend) -> None:
    project = changed(
        "      site: local\n    enforce_parameter_schema: true\n    # Two",
        "      site: stackhub\n    enforce_parameter_schema: true\n    # Two",
    )
    text = (project / "prefect.yaml").read_text()
    (project / "prefect.yaml").write_text(text.replace("work_pool: *pool", "work_pool: {name: insitu-stackhub}", 1))
    assert [entry.name for entry in entries_of(project, "stackhub")] == ["retrain/flights"]
    assert [entry.name for entry in entries_of(project, "local")] == ["rollback/back", "watch/new-data"]


def test_a_schedule_in_a_local_zone_is_told_of_with_the_day_and_what_happens(changed: Mend) -> None:
    entries = read_entries(
        changed('"0 3 * * *"\n        timezone: UTC', '"30 2 * * *"\n        timezone: Europe/Berlin')
    )
    told = clock_warnings(entries, datetime(2026, 12, 1, tzinfo=UTC))
    schedule = "retrain/flights, schedule nightly (30 2 * * *, Europe/Berlin): on"
    assert told == [
        f"{schedule} 2027-03-28 02:30 does not exist: it fires at 01:30",
        f"{schedule} 2027-10-31 02:30 comes twice: it fires once, the first time",
    ]
