"""Events are there once the caller has been told so, whatever becomes of the store's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from azurite import Azurite
from relay_helpers import Relay
from stack_hub import StackHub

from insitu.twin.sas import Key

Events = Callable[[], list[dict[str, Any]]]
CALL = {"model": "flights", "batch": "2013-10"}


def test_every_request_names_the_version_that_a_hub_speaks(relay: Relay, hub: StackHub) -> None:
    relay.ready(CALL)
    relay.ask("GET", "/health")
    assert hub.requests == {"2019-07-07": 1}


def test_a_signature_that_may_create_and_nothing_else_is_enough(
    start: Callable[..., Relay], state: dict[str, str], emulator: Azurite, events: Events
) -> None:
    sas = Key(emulator.account, emulator.key).container_sas(state["container"], permissions="c")
    relay = start(RELAY_STATE_SAS=f"?{sas}")
    assert [relay.ready(CALL).status for _ in range(2)] == [201, 200]
    assert len(events()) == 1
    assert sas.split("sig=")[1] not in relay.log.read_text()


def test_an_answer_that_is_lost_after_the_write_makes_no_second_event(
    relay: Relay, hub: StackHub, events: Events
) -> None:
    hub.lose_answers["PUT"] = 1
    assert relay.ready(CALL).status == 200
    assert len(events()) == 1
    assert sum(hub.requests.values()) == 2


def test_a_store_in_trouble_is_asked_again(relay: Relay, hub: StackHub, events: Events) -> None:
    hub.fail_with = [503, 429]
    assert relay.ready(CALL).status == 201
    assert len(events()) == 1


def test_without_the_store_nothing_is_promised(relay: Relay, hub: StackHub, events: Events) -> None:
    hub.fail_with = [500] * 3
    answer = relay.ready(CALL)
    assert (answer.status, answer["error"], answer.headers["Retry-After"]) == (503, "not-now", "5")
    assert events() == []
    assert relay.ready(CALL).status == 201
    assert len(events()) == 1


def test_a_store_that_refuses_is_told_to_who_has_the_key(
    start: Callable[..., Relay], state: dict[str, str], emulator: Azurite, events: Events
) -> None:
    sas = Key(emulator.account, emulator.key).container_sas(state["container"], permissions="r")
    relay = start(RELAY_STATE_SAS=sas)
    assert relay.ready(CALL).status == 503
    answer = relay.check()
    assert (answer.status, answer["ready"], answer["store"]) == (503, False, "AuthorizationPermissionMismatch")
    assert relay.ask("GET", "/ready").status == 401


def test_to_ask_whether_it_is_ready_leaves_no_event(relay: Relay, events: Events) -> None:
    answers = [relay.check() for _ in range(2)]
    assert answers == [{"ready": True, "store": "ok", "runs": "none"}] * 2
    assert events() == []
