"""Events become runs at once where there is a Prefect server: one run for one event."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loopback import free_port
from prefect_server import PrefectServer, prefect_server
from relay_helpers import Relay

Events = Callable[[], list[dict[str, Any]]]
CALL = {"model": "flights", "batch": "2013-10"}
LOGIN = "operator:a-password"


def runs_of(prefect: PrefectServer) -> list[dict[str, Any]]:
    """Return every flow run."""
    found: list[dict[str, Any]] = prefect.ask("/flow_runs/filter", {})
    return found


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with prefect_server(tmp_path_factory.mktemp("prefect"), kept, LOGIN) as server:
        yield server


@pytest.fixture
def deployment(prefect: PrefectServer) -> str:
    """Have a deployment of the flow for one model, with nothing run yet; return its id."""
    for run in runs_of(prefect):
        prefect.ask(f"/flow_runs/{run['id']}", method="DELETE")
    flow = prefect.ask("/flows/", {"name": "retrain"})["id"]
    form = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("model", "site")},
        "required": ["model"],
    }
    asked = {"name": "flights", "flow_id": flow, "parameters": {"site": "local"}, "enforce_parameter_schema": True}
    return str(prefect.ask("/deployments/", asked | {"parameter_openapi_schema": form})["id"])


@pytest.fixture
def relay(start: Callable[..., Relay], prefect: PrefectServer) -> Relay:
    return start(PREFECT_API_URL=prefect.url + "/", PREFECT_API_AUTH_STRING=LOGIN)


def test_an_event_starts_one_run_of_the_deployment(
    relay: Relay, prefect: PrefectServer, deployment: str, events: Events
) -> None:
    answers = [relay.ready(CALL) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 200]
    (run,) = runs_of(prefect)
    assert answers[0]["run"] == answers[1]["run"] == run["id"]
    assert run["deployment_id"] == deployment
    assert run["parameters"] == {"model": "flights", "site": "hub"}
    assert run["idempotency_key"] == f"event-{answers[0]['event']}"
    assert run["state_type"] == "SCHEDULED"
    assert len(events()) == 1


def test_another_event_is_another_run(relay: Relay, prefect: PrefectServer, deployment: str) -> None:
    assert relay.ready(CALL)["run"] != relay.ready({"model": "flights", "batch": "2013-11"})["run"]
    assert len(runs_of(prefect)) == 2


def test_a_model_without_a_deployment_keeps_its_event(
    relay: Relay, prefect: PrefectServer, deployment: str, events: Events
) -> None:
    answer = relay.ready({"model": "prices"})
    assert (answer.status, answer["run"]) == (201, None)
    assert (len(events()), runs_of(prefect)) == (1, [])
    assert '"reason":"prefect answered 404"' in relay.log.read_text()
    assert (relay.check().status, relay.check()["runs"]) == (503, "prefect answered 404")


def test_an_event_outlives_a_prefect_server_that_is_gone(start: Callable[..., Relay], events: Events) -> None:
    relay = start(PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    answer = relay.ready(CALL)
    assert (answer.status, answer["run"]) == (201, None)
    assert len(events()) == 1
    assert relay.check()["runs"] == "ECONNREFUSED"


def test_a_wrong_login_keeps_the_event_and_is_told(
    start: Callable[..., Relay], prefect: PrefectServer, events: Events
) -> None:
    relay = start(PREFECT_API_URL=prefect.url, PREFECT_API_AUTH_STRING="operator:another-password")
    assert relay.ready(CALL)["run"] is None
    assert relay.check()["runs"] == "prefect answered 401"
    assert "password" not in relay.log.read_text()
