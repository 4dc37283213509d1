"""Who may call the relay, what a call may say, and what becomes of it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from loopback import wait_until
from relay_helpers import CALL, KEY, Relay, signed

from insitu.relay import FOLDER

Events = Callable[[], list[dict[str, Any]]]
REPO = Path(__file__).parents[2]


def test_a_signed_call_becomes_one_event(relay: Relay, events: Events) -> None:
    answer = relay.ready({"model": "flights", "container": "flights", "prefix": "year=2013/", "batch": "2013-10"})
    assert (answer.status, answer["created"], answer["run"]) == (201, True, None)
    (event,) = events()
    assert event.pop("received").endswith("Z")
    assert event == {
        "blob": f"events/flights/{answer['event']}.json",
        "version": 1,
        "event": "data-ready",
        "id": answer["event"],
        "site": "hub",
        "model": "flights",
        "container": "flights",
        "prefix": "year=2013/",
        "batch": "2013-10",
    }


def test_a_call_may_hold_the_key_itself(relay: Relay, events: Events) -> None:
    assert relay.with_key().status == 201
    assert [event["model"] for event in events()] == ["flights"]


def test_a_key_can_be_replaced_without_a_pause(start: Callable[..., Relay]) -> None:
    newer = "a-key-that-comes-after-the-first-one-0002"
    relay = start(RELAY_KEY=f"{newer} {KEY}")
    assert [relay.with_key(key=key).status for key in (KEY, newer, newer[:-1], f"{newer} {KEY}")] == [
        201,
        201,
        401,
        401,
    ]


class Caller(NamedTuple):
    """Headers of somebody who is not let in."""

    headers: Callable[[bytes], Mapping[str, str]]
    why: str


UNWELCOME = {
    "nobody": Caller(lambda _: {}, "X-Relay-Signature or X-Relay-Key"),
    "another key": Caller(lambda _: {"X-Relay-Key": KEY[:-1] + "2"}, "X-Relay-Signature or X-Relay-Key"),
    "a longer key": Caller(lambda _: {"X-Relay-Key": KEY + "2"}, "X-Relay-Signature or X-Relay-Key"),
    "signed with another key": Caller(lambda body: signed("POST", "/ready", body, key=KEY[::-1]), "X-Relay-Signature"),
    "signature of another body": Caller(lambda body: signed("POST", "/ready", body + b" "), "X-Relay-Signature"),
    "signature of another method": Caller(lambda body: signed("GET", "/ready", body), "X-Relay-Signature"),
    "signature of another path": Caller(lambda body: signed("POST", "/health", body), "X-Relay-Signature"),
    "signature of another key for once": Caller(lambda body: signed("POST", "/ready", body, "a"), "X-Relay-Signature"),
    "an old signature": Caller(lambda body: signed("POST", "/ready", body, ago_s=400), "X-Relay-Timestamp"),
    "a signature of tomorrow": Caller(lambda body: signed("POST", "/ready", body, ago_s=-86400), "X-Relay-Timestamp"),
    "a signature without a moment": Caller(
        lambda body: {"X-Relay-Signature": signed("POST", "/ready", body)["X-Relay-Signature"]}, "X-Relay-Signature"
    ),
    "a bad signature beside the key": Caller(
        lambda _: {"X-Relay-Key": KEY, "X-Relay-Signature": "sha256=00"}, "X-Relay-Signature"
    ),
}


def test_nobody_else_is_let_in(relay: Relay, events: Events) -> None:
    body, found = json.dumps(CALL).encode(), {}
    for name, who in UNWELCOME.items():
        answer = relay.ask("POST", "/ready", body, {"Content-Type": "application/json", **who.headers(body)})
        found[name] = (answer.status, answer["error"], who.why in answer["wanted"])
    assert found == dict.fromkeys(UNWELCOME, (401, "unknown-caller", True))
    assert events() == []


def test_a_relay_that_wants_signatures_takes_no_key(start: Callable[..., Relay], events: Events) -> None:
    relay = start(release={"signed_only": True})
    assert (relay.with_key().status, relay.ready().status) == (401, 201)
    assert len(events()) == 1


WRONG: dict[str, tuple[object, str]] = {
    "no JSON": (b"hush", "one JSON object"),
    "no UTF-8": (b'{"model": "\xff"}', "one JSON object in UTF-8"),
    "no object": (["hush"], "one JSON object"),
    "null": (None, "one JSON object"),
    "no model": ({"batch": "hush"}, "model: "),
    "a model that the site does not have": ({"model": "hush"}, "model: a model of this site"),
    "a model that is no text": ({"model": ["flights"]}, "model: "),
    "rows": ({"model": "flights", "rows": [["hush", 1]]}, "no keys but model, container, prefix, batch"),
    "a key of every object": (b'{"model": "flights", "__proto__": {"hush": 1}}', "no keys but"),
    "a container that cannot be": ({"model": "flights", "container": "Hush"}, "container: 3 to 63"),
    "a way out": ({"model": "flights", "prefix": "a/../hush"}, "prefix: "),
    "a path from the top": ({"model": "flights", "prefix": "/hush"}, "prefix: "),
    "a control character": ({"model": "flights", "prefix": "hush\u0007"}, "prefix: "),
    "a long prefix": ({"model": "flights", "prefix": "hush" * 65}, "prefix: "),
    "a batch with a line": ({"model": "flights", "batch": "hush\nhush"}, "batch: "),
    "a batch that is null": ({"model": "flights", "batch": None}, "batch: "),
}


def test_a_wrong_call_is_refused_and_nothing_of_it_is_repeated(relay: Relay, events: Events) -> None:
    found = {}
    for name, (call, wanted) in WRONG.items():
        answer = relay.ready(call)
        found[name] = (answer.status, answer["error"], answer["wanted"].startswith(wanted), "hush" in answer.text)
    assert found == dict.fromkeys(WRONG, (400, "bad-call", True, False))
    assert "hush" not in relay.log.read_text()
    assert events() == []


def test_only_json_is_taken(relay: Relay) -> None:
    assert relay.ready(Content_Type="text/plain").status == 415


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_before_it_has_come(relay: Relay, events: Events, chunked: bool) -> None:
    with socket.create_connection(("127.0.0.1", int(relay.place))) as caller:
        head = b"POST /ready HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\n"
        body = b"1388\r\n" + b"x" * 5000 if chunked else b""
        caller.sendall(
            head + (b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 4097") + b"\r\n\r\n" + body
        )
        answer = caller.makefile("rb").read()  # to the end: the relay hangs up
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"too-large" in answer
    assert events() == []


def test_callers_that_hang_up_in_the_middle_take_no_place(relay: Relay, events: Events) -> None:
    head = b"POST /ready HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{"
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", int(relay.place))) as caller:
            caller.sendall(head)
    wait_until(lambda: relay.log.read_text().count('"path":"/ready"') == 50)  # 400, or 503: many at once
    assert relay.ready().status == 201
    assert len(events()) == 1


def test_there_is_nothing_else(relay: Relay) -> None:
    elsewhere = [("GET", "/"), ("POST", "/health"), ("GET", "/release.json"), ("GET", "/ready/x")]
    assert [relay.ask(method, path).status for method, path in elsewhere] == [404] * 4
    assert relay.ask("PUT", "/ready").status == 405


def test_calls_that_say_the_same_of_a_batch_are_one_event(relay: Relay, events: Events) -> None:
    call = {"model": "flights", "batch": "2013-10"}
    first, again, plain = relay.ready(call), relay.ready(call), relay.with_key(call)
    assert [one.status for one in (first, again, plain)] == [201, 200, 200]
    assert first["event"] == again["event"] == plain["event"]
    assert not again["created"]
    relay.ready({"model": "prices", "batch": "2013-10"})
    relay.ready({"model": "flights", "batch": "2013-11"})
    assert len(events()) == 3


def test_calls_with_the_same_idempotency_key_are_one_event_unless_they_say_something_else(
    relay: Relay, events: Events
) -> None:
    first, again = relay.ready(once="call-1"), relay.ready(once="call-1")
    assert first["event"] == again["event"]
    other = relay.ready({"model": "flights", "prefix": "a/"}, once="call-1")
    assert (other.status, len(events())) == (201, 2)
    assert relay.ready(once="a b").status == 400


def test_a_signed_call_that_is_played_again_is_no_further_event(relay: Relay, events: Events) -> None:
    body = json.dumps(CALL).encode()
    headers = {"Content-Type": "application/json", **signed("POST", "/ready", body)}
    assert [relay.ask("POST", "/ready", body, headers).status for _ in range(3)] == [201, 200, 200]
    assert len(events()) == 1


def test_calls_with_the_key_that_name_no_batch_are_events_of_their_own(relay: Relay, events: Events) -> None:
    assert [relay.with_key().status for _ in range(2)] == [201, 201]
    assert len(events()) == 2


def test_of_calls_at_the_same_time_one_creates_the_event(relay: Relay, events: Events) -> None:
    call = {"model": "flights", "batch": "2013-10"}
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda _: relay.ready(call), range(16)))
    assert sorted(answer.status for answer in answers) == [200] * 15 + [201]
    assert len(events()) == 1


def test_health_tells_release_and_site(relay: Relay) -> None:
    answer = relay.ask("GET", "/health")
    assert (answer.status, answer) == (200, {"status": "ok", "site": "hub", "digest": "d" * 64, "lacking": []})


@pytest.mark.parametrize(
    ("settings", "lacking"),
    [
        ({"RELAY_KEY": ""}, "RELAY_KEY"),
        ({"RELAY_KEY": "short"}, "at least 32 characters"),
        ({"RELAY_STATE_KEY": ""}, "one of the application settings RELAY_STATE_SAS and RELAY_STATE_KEY"),
        ({"RELAY_STATE_KEY": "a", "RELAY_STATE_SAS": "sig=b"}, "one of the application settings"),
        ({"release": {"digest": ""}}, "release.json"),
    ],
)
def test_a_relay_that_lacks_something_says_what_and_takes_no_call(
    start: Callable[..., Relay], events: Events, settings: dict[str, Any], lacking: str
) -> None:
    relay = start(**settings)
    health = relay.ask("GET", "/health")
    assert (health.status, health["status"]) == (503, "incomplete")
    assert lacking in health["lacking"][0]
    assert relay.ready().status == 503
    assert events() == []


def test_it_listens_on_the_pipe_that_iis_hands_to_it(start: Callable[..., Relay], events: Events) -> None:
    relay = start(pipe=True)
    assert relay.ready().status == 201
    assert len(events()) == 1


def test_its_log_holds_what_happened_and_no_key(relay: Relay) -> None:
    call = {"model": "flights", "prefix": "patient-4711/", "batch": "label-of-a-batch"}
    event = relay.ready(call)["event"]
    relay.with_key({"model": "flights"}, key="k" * 40)
    relay.ask("GET", "/patient-4711?name=hush")
    lines = [json.loads(line) for line in relay.log.read_text().splitlines()]
    told = [(line["method"], line["path"], line["status"]) for line in lines if "method" in line]
    assert told == [("POST", "/ready", 201), ("POST", "/ready", 401), ("GET", "-", 404)]
    assert event in relay.log.read_text()
    assert not any(word in relay.log.read_text() for word in (KEY, "k" * 40, "patient", "label-of", "hush", "sha256="))


def test_it_ends_when_it_is_told_to(relay: Relay) -> None:
    relay.process.terminate()
    assert relay.process.wait(30) == 0


def test_every_file_is_in_the_words_of_its_node(node: Path) -> None:
    for file in sorted((REPO / FOLDER).glob("*.js")):
        subprocess.run([str(node), "--check", str(file)], check=True)


def test_the_call_of_the_documentation_works(relay: Relay, events: Events, tmp_path: Path) -> None:
    if not (shutil.which("openssl") and shutil.which("curl")):
        pytest.skip("openssl or curl is not installed")
    (tmp_path / "relay.key").write_text(KEY + "\n")
    script = (REPO / "docs" / "relay.md").read_text().partition("```bash\n")[2].partition("```")[0]
    environ = {"PATH": os.environ["PATH"], "relay": f"http://127.0.0.1:{relay.place}"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["created"] is True
    assert [event["batch"] for event in events()] == ["2013-10"]
