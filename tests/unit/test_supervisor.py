"""Services that belong together: restarted when one dies, given up when it dies again and again, ended as one."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import wait_until

from insitu.errors import BackendUnavailable
from insitu.supervisor import PAUSES_S, WINDOW_S, Service, Supervisor, pause_before_restart

SLEEPS = "import time; time.sleep(60)"
DIES = "raise SystemExit(7)"
NOTES_ITS_END = """
import pathlib, signal, sys, time

def end(*_):
    with open("ends", "a") as ends:
        ends.write(sys.argv[1] + " ")
    sys.exit()

signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""
HAS_A_DEAF_CHILD = """
import os, pathlib, signal, subprocess, sys, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited by the child
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
signal.signal(signal.SIGTERM, signal.SIG_DFL)
pathlib.Path("child").write_text(f"{child.pid}\\n")
time.sleep(60)
"""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def keeper(tmp_path: Path, said: list[str]) -> Iterator[Supervisor]:
    keeper = Supervisor(tmp_path, tmp_path / "logs", tmp_path / "board.json", said.append, pauses_s=(0.1, 0.1))
    yield keeper
    keeper.stop()


def service(name: str, code: str) -> Service:
    return Service(name, [sys.executable, "-c", code, name], dict(os.environ))


def on_board(keeper: Supervisor, name: str) -> dict[str, object]:
    return next(one for one in json.loads(keeper.board.read_text()) if one["name"] == name)


def test_pauses_grow_and_only_deaths_of_late_count() -> None:
    assert [pause_before_restart([1000.0] * deaths, 1000.0) for deaths in (1, 2, 3, 4)] == [*PAUSES_S, None]
    assert pause_before_restart([0.0, 1.0, 2.0, WINDOW_S + 5], WINDOW_S + 5) == PAUSES_S[0]


def test_a_service_that_is_killed_is_started_again_and_the_board_says_so(keeper: Supervisor, said: list[str]) -> None:
    keeper.start(service("sleeper", SLEEPS))
    first = on_board(keeper, "sleeper")
    os.killpg(int(str(first["pid"])), signal.SIGKILL)

    def is_back() -> bool:
        keeper.require_running()
        return on_board(keeper, "sleeper")["restarts"] == 1

    wait_until(is_back, 20, "the restart")
    second = on_board(keeper, "sleeper")
    assert (second["state"], second["pid"] != first["pid"]) == ("up", True)
    assert "sleeper.txt" in said[0]


def test_a_service_that_dies_again_and_again_ends_all_and_its_log_is_named(keeper: Supervisor, tmp_path: Path) -> None:
    keeper.start(service("doomed", DIES))
    with pytest.raises(BackendUnavailable) as raised:
        keeper.go_on()
    assert "doomed" in raised.value.what
    assert raised.value.found == "exit code 7, 3 times"
    assert str(tmp_path / "logs" / "doomed.txt") in str(raised.value.next_action)


def test_services_end_in_groups_and_leave_nothing_behind(keeper: Supervisor, tmp_path: Path) -> None:
    for name in ("last", "first", "second"):
        keeper.start(service(name, NOTES_ITS_END))
    keeper.start(service("parent", HAS_A_DEAF_CHILD))
    wait_until(lambda: all((tmp_path / name).exists() for name in ("first", "second", "last")), 20, "their start")
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), 20, "the child")
    keeper.stop(["first", "parent"], ["second"])
    assert (tmp_path / "ends").read_text().split() == ["first", "second", "last"]
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: is_gone(child), 10, "the end of the child")
    assert not keeper.board.exists()


def is_gone(pid: int) -> bool:
    try:
        return ")\x20Z" in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
