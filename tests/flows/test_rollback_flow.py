"""The flow `rollback`, as the Prefect UI starts it: what it brings about, and how it says that it cannot."""

from __future__ import annotations

import pytest
from flow_helpers import NewProject, PublishedRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_server import PrefectServer


@pytest.mark.slow
def test_the_flow_says_which_version_is_the_champion_or_why_it_cannot_go_back(
    published: PublishedRun, new_project: NewProject, server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.rollback import rollback

    project = new_project("rolled back from the UI", like=published.project)
    monkeypatch.setenv("INSITU_PROJECT", str(project.root))
    with temporary_settings({PREFECT_API_URL: server.url}):
        there = rollback("flights", name="Ann", reason="a try", to="1", return_state=True)
        wrong = rollback("flights", name="Ann", reason="a try", return_state=True)
    assert (there.name, there.message) == ("Completed", "version 1 is the champion")
    assert (wrong.name, str(wrong.message).splitlines()[0]) == (
        "Failed", "E-USE flights has no earlier version to go back to",
    )  # fmt: skip
    shown = server.ask("/flow_runs/filter", {"flows": {"name": {"any_": ["rollback"]}}})
    assert {one["state"]["message"] for one in shown} == {there.message, wrong.message}
