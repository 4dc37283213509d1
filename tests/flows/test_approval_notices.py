"""The automations that are shipped: failures page, people are asked, and verdicts are told to those who want them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml
from flow_helpers import REPO
from loopback import wait_until
from prefect_server import PrefectServer

FOLDER = REPO / "deployments" / "automations"
REASON = "Rejected: roc_auc is 0.55, wanted at least 0.6"


@contextmanager
def inbox() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of somebody who is notified, and the messages that came."""
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/", came
    httpd.shutdown()


def webhook(server: PrefectServer, url: str) -> str:
    """Make a notification block; return its id."""
    kind = server.ask("/block_types/slug/custom-webhook")["id"]
    (schema, *_) = server.ask("/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}})
    data = {"name": "inbox", "url": url, "method": "POST", "json_data": {"text": "{{subject}}\n{{body}}"}}
    block = {"name": "inbox", "data": data, "block_schema_id": schema["id"], "block_type_id": kind}
    return str(server.ask("/block_documents/", block)["id"])


def ends(server: PrefectServer, kind: str, name: str, message: str) -> None:
    """Let a run of the flow *retrain* reach a state."""
    flow = server.ask("/flows/", {"name": "retrain"})["id"]
    parameters = {"model": "flights"}
    run = server.ask("/flow_runs/", {"flow_id": flow, "name": f"flights@{name}", "parameters": parameters})["id"]
    for state in ({"type": "RUNNING"}, {"type": kind, "name": name, "message": message}):
        server.ask(f"/flow_runs/{run}/set_state", {"state": state, "force": True})


@pytest.mark.slow
def test_a_failure_and_a_question_are_told_and_a_verdict_only_to_those_who_want_it(server: PrefectServer) -> None:
    with inbox() as (url, came):
        block = webhook(server, url)
        files = {path.stem: path.read_text().replace("BLOCK_ID", block) for path in FOLDER.glob("*.yaml")}
        made = {name: server.ask("/automations/", yaml.safe_load(text)) for name, text in files.items()}
        try:
            assert {name: one["enabled"] for name, one in made.items()} == {
                "failed": True, "awaiting-approval": True, "not-promoted": False,
            }  # fmt: skip
            ends(server, "COMPLETED", "NotPromoted", REASON)
            ends(server, "COMPLETED", "AwaitingApproval", "AwaitingApproval: in doubt")
            ends(server, "FAILED", "Failed", "E-TRAIN the job failed")
            wait_until(lambda: len(came) >= 2, 60, "two messages")
            assert not any(REASON in text for text in came)  # quiet, as long as nobody wants to know
            assert sorted(text.splitlines()[0] for text in came) == [
                "flights@AwaitingApproval: may the model be published?", "flights@Failed: Failed",
            ]  # fmt: skip
            assert any("E-TRAIN the job failed" in text for text in came)

            server.ask(f"/automations/{made['not-promoted']['id']}", {"enabled": True}, "PATCH")
            ends(server, "COMPLETED", "NotPromoted", REASON)
            wait_until(lambda: any(REASON in text for text in came), 60, "the verdict")
        finally:
            for one in made.values():
                server.ask(f"/automations/{one['id']}", method="DELETE")
