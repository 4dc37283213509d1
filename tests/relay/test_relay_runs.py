"""Events become runs at once where there is a Prefect server: one run for one event."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from loopback import free_port, wait_until
from relay_helpers import Relay

Events = Callable[[], list[dict[str, Any]]]
CALL = {"model": "flights", "batch": "2013-10"}
LOGIN = "operator:a-password"


@dataclass(frozen=True)
class Prefect:
    """A real server that wants a login."""

    url: str

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """GET *path*, or POST *body* to it."""
        login = base64.b64encode(LOGIN.encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
        request = Request(self.url + path, None if body is None else json.dumps(body).encode(), headers)
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def runs(self) -> list[dict[str, Any]]:
        """Return every flow run."""
        found: list[dict[str, Any]] = self.ask("/flow_runs/filter", {})
        return found

    def answers(self) -> bool:
        try:
            return bool(self.ask("/health"))
        except (URLError, OSError):
            return False


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environ = kept | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "true"}
    environ |= {"PREFECT_SERVER_API_AUTH_STRING": LOGIN, "PREFECT_API_AUTH_STRING": LOGIN}
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--no-ui",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
    server = Prefect(f"http://127.0.0.1:{port}/api")
    try:
        wait_until(server.answers, 120, "the start of the Prefect server")
        yield server
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def deployment(prefect: Prefect) -> str:
    """Have a deployment of the flow for one model, with nothing run yet; return its id."""
    for run in prefect.runs():
        request = Request(f"{prefect.url}/flow_runs/{run['id']}", method="DELETE")
        request.add_header("Authorization", f"Basic {base64.b64encode(LOGIN.encode()).decode()}")
        urlopen(request, timeout=60).close()
    flow = prefect.ask("/flows/", {"name": "retrain"})["id"]
    form = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("model", "site")},
        "required": ["model"],
    }
    asked = {"name": "flights", "flow_id": flow, "parameters": {"site": "local"}, "enforce_parameter_schema": True}
    return str(prefect.ask("/deployments/", asked | {"parameter_openapi_schema": form})["id"])


@pytest.fixture
def relay(start: Callable[..., Relay], prefect: Prefect) -> Relay:
    return start(PREFECT_API_URL=prefect.url + "/", PREFECT_API_AUTH_STRING=LOGIN)


def test_an_event_starts_one_run_of_the_deployment(
    relay: Relay, prefect: Prefect, deployment: str, events: Events
) -> None:
    answers = [relay.ready(CALL) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 200]
    (run,) = prefect.runs()
    assert answers[0]["run"] == answers[1]["run"] == run["id"]
    assert run["deployment_id"] == deployment
    assert run["parameters"] == {"model": "flights", "site": "hub"}
    assert run["idempotency_key"] == f"event-{answers[0]['event']}"
    assert run["state_type"] == "SCHEDULED"
    assert len(events()) == 1


def test_another_event_is_another_run(relay: Relay, prefect: Prefect, deployment: str) -> None:
    assert relay.ready(CALL)["run"] != relay.ready({"model": "flights", "batch": "2013-11"})["run"]
    assert len(prefect.runs()) == 2


def test_a_model_without_a_deployment_keeps_its_event(
    relay: Relay, prefect: Prefect, deployment: str, events: Events
) -> None:
    answer = relay.ready({"model": "prices"})
    assert (answer.status, answer["run"]) == (201, None)
    assert (len(events()), prefect.runs()) == (1, [])
    assert '"reason":"prefect answered 404"' in relay.log.read_text()
    assert (relay.check().status, relay.check()["runs"]) == (503, "prefect answered 404")


def test_an_event_outlives_a_prefect_server_that_is_gone(start: Callable[..., Relay], events: Events) -> None:
    relay = start(PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api")
    answer = relay.ready(CALL)
    assert (answer.status, answer["run"]) == (201, None)
    assert len(events()) == 1
    assert relay.check()["runs"] == "ECONNREFUSED"


def test_a_wrong_login_keeps_the_event_and_is_told(
    start: Callable[..., Relay], prefect: Prefect, events: Events
) -> None:
    relay = start(PREFECT_API_URL=prefect.url, PREFECT_API_AUTH_STRING="operator:another-password")
    assert relay.ready(CALL)["run"] is None
    assert relay.check()["runs"] == "prefect answered 401"
    assert "password" not in relay.log.read_text()
