"""What is told of the Prefect server, and what the plan says of messages: no login, and only what `[notify]` tells."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from flows.running.asking import prefect_check
from flows.running.environment import prepare
from insitu.planning.exits import exits_of
from insitu.runs import open_run


def test_the_login_in_the_address_of_the_server_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://ann:secret@127.0.0.1:1/api")
    check = prefect_check(tmp_path)
    assert "http://127.0.0.1:1/api gives no answer" in check.found
    assert "secret" not in str(asdict(check))


@pytest.mark.parametrize(
    ("tell", "when"),
    [('["failed", "published"]', ["failed or published"]), ('["published"]', ["published"]), ("[]", [])],
)
def test_the_plan_says_of_messages_when_they_go(make_project: Callable[..., Path], tell: str, when: list[str]) -> None:
    project = make_project()
    for month in ("01", "02"):
        blob = project / f"var/blobs/flights/month={month}/flights.parquet"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(b"flights")
    with (project / "deployments/sites/local.toml").open("a") as file:
        file.write(f'\n[notify]\ntell = {tell}\nslack = {{ env = "NOT_NEEDED" }}\n')
    run = open_run(project, "flights", "local")
    assert [one.when for one in exits_of(run, ()) if one.what == "message"] == when


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:1/api"])
def test_only_a_temporary_server_leaves_automations_to_the_one_that_has_their_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(os, "environ", {"PREFECT_API_URL": address} if address else {})
    prepare(tmp_path)
    assert os.environ.get("PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED") == (None if address else "false")
