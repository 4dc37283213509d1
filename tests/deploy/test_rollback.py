"""Back to an earlier version: alias, tag and deployments go together, and what gave way stays away."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from deploy_helpers import Estate

from insitu.cli import main
from insitu.errors import SignatureRefused
from insitu.journal import Journal
from insitu.lineage import close, finished
from insitu.runs import open_run
from insitu.waivers import WAIVED


def test_alias_and_tag_go_back_and_the_next_challenger_meets_the_version_that_is_in_place(estate: Estate) -> None:
    assert (estate.champion, estate.tagged("latest")) == ("2", estate.tagged("2"))
    told = estate.insitu("rollback", "flights", "--name", "Ann", "--reason", "late flights look early")
    assert (told["was"], told["to"], told["digest"]) == ("2", "1", estate.tagged("1"))
    assert (told["who"], told["reason"]) == ("Ann", "late flights look early")
    assert (estate.champion, estate.tagged("latest"), estate.tagged("2")) == (
        "1",
        estate.tagged("1"),
        estate.tagged("2"),
    )
    assert estate.insitu("show", "flights")["model_version"]["version"] == "1"
    estate.arrive(4)
    assert estate.judged().journal.entry("gate")["value"]["champion"] == "1"


def test_given_again_it_goes_back_no_further_and_forward_only_when_told_so(estate: Estate) -> None:
    third = estate.next_version(4)
    assert estate.insitu("rollback", "flights")["to"] == "2"
    again = estate.insitu("rollback", "flights")
    assert (again["was"], again["to"], estate.champion) == (None, "2", "2")
    assert estate.insitu("rollback", "flights", "--to", "v1")["was"] == "2"
    assert estate.insitu("rollback", "flights", "--to", "3")["digest"] == third
    assert estate.champion == "3"
    assert estate.insitu("rollback", "flights")["was"] is None  # 3 is in place by a rollback, too


def test_a_reason_that_is_given_again_is_not_dropped_in_silence(estate: Estate) -> None:
    estate.insitu("rollback", "flights", "--name", "Ann", "--reason", "late flights look early")
    again = ["rollback", "flights", "--name", "Bob", "--reason", "another reason", "--project", str(estate.root)]
    done = CliRunner().invoke(main, again)
    assert done.exit_code == 0
    assert "your reason is not put on record" in done.stderr
    assert "late flights look early" in done.stderr
    same = CliRunner().invoke(main, [*again[:-3], "late flights look early", *again[-2:]])
    assert (same.exit_code, "not put on record" in same.stderr) == (0, False)


def test_where_nobody_asks_approve_says_how_the_latest_run_ended(estate: Estate) -> None:
    wrong = estate.insitu("approve", "flights", "--name", "Ann", "--reason", "good", exit_code=2)["error"]
    assert wrong["what"] == "no run of flights asks for approval"
    assert wrong["found"].endswith("is Promoted")
    assert "without asking" in wrong["next_action"]


def test_a_version_that_gave_way_never_comes_back_by_itself(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, registry_host: str
) -> None:
    run = open_run(estate.root, "flights", "local")
    estate.insitu("rollback", "flights")
    assert finished(run)  # a restart, a replay: nothing is left to do
    assert not estate.release(run).champion  # the layout was cleared, say
    monkeypatch.setenv("INSITU_SITE__REGISTRY", registry_host)
    elsewhere = open_run(estate.root, "flights", "local")
    assert not estate.release(elsewhere).champion
    assert elsewhere.site.registry("flights").resolve("2")
    latest = elsewhere.site.registry("flights").resolve("latest")  # other tests use this registry, too
    assert latest is None or latest[0].digest != estate.tagged("2")
    monkeypatch.delenv("INSITU_SITE__REGISTRY")
    assert (estate.champion, estate.tagged("latest")) == ("1", estate.tagged("1"))
    # A version of fresh data is another one.
    assert estate.next_version(4) == estate.tagged("latest")
    assert estate.champion == "3"


def test_a_rollback_that_was_killed_is_gone_on_with(estate: Estate) -> None:
    third = estate.next_version(4)
    for point in ("rollback:ordered", "rollback:alias"):
        command = [sys.executable, "-m", "insitu", "rollback", "flights", "--project", str(estate.root)]
        done = subprocess.run(command, env={**os.environ, "INSITU_CRASH_AT": point}, capture_output=True, check=False)
        assert done.returncode == -9, done.stderr
    told = estate.insitu("rollback", "flights")
    assert (told["was"], told["to"], told["order"]) == ("3", "2", "rollbacks/flights/1.json")
    assert (estate.champion, estate.tagged("latest"), estate.tagged("3")) == ("2", estate.tagged("2"), third)
    assert [path.name for path in sorted((estate.root / "var/state/rollbacks/flights").iterdir())] == [
        "1-done.json",
        "1.json",
    ]


def ordered_and_killed(estate: Estate) -> None:
    command = [sys.executable, "-m", "insitu", "rollback", "flights", "--project", str(estate.root)]
    environ = {**os.environ, "INSITU_CRASH_AT": "rollback:ordered"}
    assert subprocess.run(command, env=environ, capture_output=True, check=False).returncode == -9


def test_an_order_of_another_champion_is_not_gone_on_with(estate: Estate) -> None:
    ordered_and_killed(estate)  # from 2 to 1
    third = estate.next_version(4)
    assert estate.champion == "3"
    told = estate.insitu("rollback", "flights")
    assert (told["was"], told["to"], told["order"]) == ("3", "1", "rollbacks/flights/2.json")
    site = open_run(estate.root, "flights", "local").site
    assert site.withdrawals("flights").withdrawn() == {"2", "3"}
    assert (estate.champion, estate.tagged("3")) == ("1", third)


def test_a_run_that_is_ended_while_it_is_published_to_one_more_registry_can_be_rolled_back(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, registry_host: str
) -> None:
    monkeypatch.setenv("INSITU_SITE__REGISTRY", registry_host)
    close(open_run(estate.root, "flights", "local"), "Unfinished")  # as a start does it, before it does anything
    monkeypatch.delenv("INSITU_SITE__REGISTRY")
    told = estate.insitu("rollback", "flights")
    assert (told["was"], told["to"], estate.champion) == ("2", "1", "1")


def test_history_and_show_tell_of_it(estate: Estate) -> None:
    estate.insitu("rollback", "flights", "--name", "Ann", "--reason", "late")
    first, second = estate.insitu("history", "flights")
    assert "rollback" not in first
    assert (second["rollback"]["to"], second["rollback"]["who"]) == ("1", "Ann")
    assert estate.insitu("show", "flights", "2")["rollback"]["reason"] == "late"


def test_what_cannot_be_is_said_and_changes_nothing(estate: Estate) -> None:
    wrong = estate.insitu("rollback", "flights", "--to", "7", exit_code=2)
    assert wrong["error"]["found"] == "versions 1, 2"
    estate.insitu("rollback", "flights", "--to", "1")
    estate.next_version(4)
    estate.insitu("rollback", "flights")
    wrong = estate.insitu("rollback", "flights", "--reason", " ", exit_code=2)
    assert "a reason" in wrong["error"]["what"]
    assert (estate.champion, estate.tagged("latest")) == ("1", estate.tagged("1"))


def test_a_version_whose_waiver_does_not_count_any_more_stays_where_it_is(estate: Estate) -> None:
    key = estate.insitu("show", "flights", "1")["run_key"]
    find = {"what": "rows", "file": "model/m", "estimator": None, "columns": [], "count": 1}
    waiver = {"record": "waivers/flights/1.json", "digest": "sha256:gone"}
    Journal(open_run(estate.root, "flights", "local").site.state, "flights", key).keep(
        WAIVED, [{**find, "waiver": waiver}]
    )
    latest = estate.tagged("latest")
    wrong = estate.insitu("rollback", "flights", exit_code=1)["error"]
    assert wrong["code"] == "E-LEAK"
    assert "its waiver is gone" in wrong["found"]
    assert (estate.champion, estate.tagged("latest")) == ("2", latest)
    assert "rolled back" not in str(estate.insitu("history", "flights"))


def test_an_order_that_nobody_signed_is_refused(estate: Estate) -> None:
    estate.insitu("rollback", "flights")
    file = estate.root / "var/state/rollbacks/flights/1.json"
    envelope = json.loads(file.read_text())
    file.write_text(json.dumps(envelope | {"payload": envelope["payload"][:-8] + "AAAAAAA="}))
    run = open_run(estate.root, "flights", "local")
    with pytest.raises(SignatureRefused):
        run.site.withdrawals("flights").withdrawn()
    with pytest.raises(SignatureRefused):
        estate.release(run)
    assert (estate.champion, estate.tagged("latest")) == ("1", estate.tagged("1"))
