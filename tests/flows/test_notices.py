"""Who is told how runs end: what `[notify]` says, put into a real Prefect server, and the messages that come."""

from __future__ import annotations

import email
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from flow_helpers import REPO
from loopback import wait_until
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_server import PrefectServer

from flows.deploying.notices import notices
from insitu.errors import SettingsError
from insitu.provisioning import bring_about, plan
from insitu.settings import load_site

ERROR = "E-TRAIN the job failed\n  found:  exit code 3\n  next:   mend the column of-a-person\n"
SETTINGS = """
[notify]
tell = ["failed", "awaiting-approval"]
webhook = {{ file = "{webhook}" }}
slack = {{ file = "{slack}" }}
teams = {{ file = "{teams}" }}
email = {{ file = "{email}" }}
"""


@contextmanager
def inbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the address of somebody who is told, and the messages that came."""
    came: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/", came
    httpd.shutdown()


@contextmanager
def mailbox() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of somebody who is told by e-mail, and the messages that came, as they were sent."""
    came: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for line in self.rfile:
                word = line[:4].upper()
                self.wfile.write({b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(word, b"250 yes\r\n"))
                if word == b"DATA":
                    came.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                    self.wfile.write(b"250 yes\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as post:
        threading.Thread(target=post.serve_forever, daemon=True).start()
        yield f"mailto://127.0.0.1:{post.server_address[1]}?from=insitu@clinic.example&to=ann@clinic.example", came
        post.shutdown()


def ends(server: PrefectServer, kind: str, name: str, message: str | None, site: str = "local") -> str:
    """Let a run of the flow *retrain* at *site* reach a state; return its id."""
    flow = server.ask("/flows/", {"name": "retrain"})["id"]
    given = {"flow_id": flow, "name": "a name", "parameters": {"model": "flights"}, "tags": [f"site:{site}"]}
    run = server.ask("/flow_runs/", given)["id"]
    for state in ({"type": "RUNNING"}, {"type": kind, "name": name, "message": message}):
        server.ask(f"/flow_runs/{run}/set_state", {"state": state, "force": True})
    return str(run)


def site_of(folder: Path, notify: str) -> Path:
    """Have a project whose local site says *notify*."""
    file = folder / "deployments" / "sites" / "local.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((REPO / "deployments" / "sites" / "local.toml").read_text() + notify)
    return folder


def deployed(server: PrefectServer, project: Path, *, only_plan: bool = False) -> dict[str, str]:
    """Do what `insitu deploy flows` does about [notify]; return what there was to do, by part."""
    with temporary_settings({PREFECT_API_URL: server.url}), get_client(sync_client=True) as client:
        parts = list(notices(client, load_site(project, "local", {})))
        done = plan(parts) if only_plan else [bring_about(part) for part in parts]
    return {one.name: one.to_do for one in done}


def ours(server: PrefectServer) -> list[str]:
    return sorted(one["name"] for one in server.ask("/automations/filter", {}) if "insitu [notify]" in one["tags"])


@pytest.mark.slow
def test_a_failure_and_a_question_are_told_and_a_verdict_only_to_those_who_want_it(
    server: PrefectServer, tmp_path: Path
) -> None:
    with (
        inbox() as (url, came),
        inbox() as (slack_url, slack_came),
        inbox() as (teams_url, teams_came),
        mailbox() as (mail_address, mails),
    ):
        addresses = {
            "webhook": url + "secret-of-the-webhook\n", "slack": slack_url, "teams": teams_url, "email": mail_address,
        }  # fmt: skip
        places = {name: tmp_path / name for name in addresses}
        for name, address in addresses.items():
            places[name].write_text(address)
        said = SETTINGS.format(**places)
        project = site_of(tmp_path, said)

        assert set(deployed(server, project, only_plan=True).values()) == {"make it"}
        assert ours(server) == []
        assert set(deployed(server, project).values()) == {"make it"}
        assert ours(server) == ["insitu-local-awaiting-approval", "insitu-local-failed"]
        assert set(deployed(server, project).values()) == {""}  # a second time there is nothing to do
        assert not server.holds("secret-of-the-webhook")

        ends(server, "COMPLETED", "NotPromoted", "Rejected: roc_auc is 0.55, wanted at least 0.6")
        ends(server, "FAILED", "Failed", ERROR, site="clinic")  # the server is shared
        ends(server, "PAUSED", "Paused", None)
        ends(server, "CRASHED", "Crashed", "its process is gone")
        ends(server, "COMPLETED", "AwaitingApproval", "AwaitingApproval: roc_auc is in doubt")
        failed = ends(server, "FAILED", "Failed", ERROR)
        channels = (came, slack_came, teams_came, mails)
        wait_until(lambda: min(map(len, channels)) >= 4, 60, "four messages on each channel")
        told = {message["subject"]: message["text"] for message in came}
        assert sorted(message["subject"] for message in came) == [
            "flights: AwaitingApproval", "flights: Crashed", "flights: Failed E-TRAIN", "flights: Paused",
        ]  # fmt: skip
        assert told["flights: Failed E-TRAIN"].startswith("next: insitu explain E-TRAIN\n")
        assert told["flights: Crashed"].startswith("next: see the log of the run\n")
        assert "insitu approve flights" in told["flights: Paused"]
        assert failed in told["flights: Failed E-TRAIN"]
        assert "insitu approve flights" in told["flights: AwaitingApproval"]
        assert any(message["text"].startswith("*flights: Failed E-TRAIN*") for message in slack_came)
        cards = [message["attachments"][0] for message in teams_came]
        assert {card["contentType"] for card in cards} == {"application/vnd.microsoft.card.adaptive"}
        said_on_cards = {tuple(block["text"] for block in card["content"]["body"]) for card in cards}
        assert said_on_cards == set(told.items())
        letters = [email.message_from_string(mail) for mail in mails]
        assert {letter["Subject"] for letter in letters} == set(told)
        assert {letter["To"] for letter in letters} == {"ann@clinic.example"}
        everything = json.dumps([*came, *slack_came, *teams_came, *mails])
        assert not any(text in everything for text in ("roc_auc", "exit code", "a name", "of-a-person"))

        site_of(tmp_path, said.replace('"failed", ', '"not-promoted", '))
        assert deployed(server, project)["automation insitu-local-failed"] == "remove it"
        ends(server, "COMPLETED", "NotPromoted", "Rejected: roc_auc is 0.55, wanted at least 0.6")
        wait_until(lambda: len(came) >= 5, 60, "the verdict")
        assert (came[4]["subject"], "roc_auc" in came[4]["text"]) == ("flights: NotPromoted", False)

    site_of(tmp_path, "")
    assert set(deployed(server, project).values()) == {"remove it"}
    assert (ours(server), deployed(server, project)) == ([], {})


def test_an_address_that_is_not_there_or_none_is_said(server: PrefectServer, tmp_path: Path) -> None:
    project = site_of(tmp_path, '\n[notify]\nteams = { env = "NOT_SET_ANYWHERE" }\n')
    with pytest.raises(SettingsError, match="NOT_SET_ANYWHERE"):
        deployed(server, project)
    (tmp_path / "address").write_text("ann@example.org")
    with pytest.raises(SettingsError, match="mailto://") as caught:
        deployed(server, site_of(tmp_path, f'\n[notify]\nemail = {{ file = "{tmp_path}/address" }}\n'))
    assert "ann" not in str(caught.value)
