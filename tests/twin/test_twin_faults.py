"""How the twin fails when it is told to."""

from __future__ import annotations

import json
import time

import pytest
import requests
from twin_helpers import ask

from insitu.errors import UsageError
from insitu.twin.estate import Estate
from insitu.twin.faults import Fault


def _blob(estate: Estate) -> str:
    return f"https://{estate.names.hub_arm}/metadata/endpoints?api-version=2015-01-01"


def test_a_status_with_a_pause_is_given_as_often_as_asked_for(estate: Estate) -> None:
    estate.faults.add(Fault("status:429:7", path="/metadata", times=2))

    answers = [ask(estate, "GET", _blob(estate)) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "7"


def test_a_fault_fits_host_path_and_method_only(estate: Estate) -> None:
    estate.faults.add(Fault("status:503", host="*.azurecr.io", times=0))
    estate.faults.add(Fault("status:503", path="^/elsewhere", times=0))
    estate.faults.add(Fault("status:503", method="PUT", times=0))
    estate.faults.add(Fault("status:500", host=estate.names.hub_arm.upper(), method="get", skip=1))

    assert [ask(estate, "GET", _blob(estate)).status_code for _ in range(3)] == [200, 500, 200]


@pytest.mark.parametrize(("when", "tokens"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("kind", ["status:503", "drop", "silence", "garbage"])
def test_before_the_work_nothing_is_done_and_after_it_only_the_answer_is_lost(
    estate: Estate, when: str, tokens: int, kind: str
) -> None:
    names, before = estate.names, estate.directory.issued
    estate.faults.add(Fault(kind, path="/token$", when=when))  # type: ignore[arg-type]
    body = {
        "grant_type": "client_credentials",
        "client_id": names.client,
        "client_secret": estate.client_secret.read_text(),
        "scope": "https://management.azure.com/.default",
    }
    url = f"https://login.microsoftonline.com/{names.tenant}/oauth2/v2.0/token"
    try:
        answer = ask(estate, "POST", url, data=body, timeout=1)
        assert "access_token" not in answer.text
        assert kind in ("status:503", "garbage")
    except (requests.exceptions.ConnectionError, requests.exceptions.ReadTimeout):
        assert kind in ("drop", "silence")

    assert estate.directory.issued - before == tokens
    assert "access_token" in ask(estate, "POST", url, data=body).json()


def test_a_truncated_answer_promises_more_than_it_gives(estate: Estate) -> None:
    estate.faults.add(Fault("truncate"))

    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
        ask(estate, "GET", _blob(estate))


def test_a_slow_answer_is_a_whole_one(estate: Estate) -> None:
    estate.faults.add(Fault("slow:0.3"))
    began = time.monotonic()

    assert ask(estate, "GET", _blob(estate)).json()["authentication"]
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("flaw", ["expired", "foreign", "other-host"])
def test_a_bad_certificate_is_shown_once_and_no_request_follows(estate: Estate, flaw: str) -> None:
    estate.faults.add(Fault(f"certificate:{flaw}", host=estate.names.hub_arm))

    with pytest.raises(requests.exceptions.SSLError):
        ask(estate, "GET", _blob(estate))
    assert list(estate.journal.lines("hub")) == []
    assert ask(estate, "GET", _blob(estate)).ok


@pytest.mark.parametrize("kind", ["status", "status:99", "status:503:", "silent", "certificate:odd", ""])
def test_a_fault_that_does_not_exist_is_answered_with_those_that_do(kind: str) -> None:
    with pytest.raises(UsageError) as caught:
        Fault(kind)

    assert "status:CODE" in str(caught.value)


def test_a_path_that_is_no_pattern_is_refused() -> None:
    with pytest.raises(UsageError, match="regular expression"):
        Fault("drop", path="(")


def test_conditions_hold_until_they_are_cleared(estate: Estate) -> None:
    with pytest.raises(UsageError) as caught:
        estate.set_condition("queue-stock")
    assert "queue-stuck" in str(caught.value)

    estate.set_condition("queue-stuck")
    estate.set_condition("job-state:NotResponding")
    assert estate.faults.holds("queue-stuck")
    assert estate.faults.word("job-state") == "NotResponding"
    assert json.loads(json.dumps(estate.faults.to_json()))["conditions"] == ["job-state:NotResponding", "queue-stuck"]

    estate.clear("queue-stuck")
    assert not estate.faults.holds("queue-stuck")
    estate.clear()
    assert estate.faults.word("job-state") is None
