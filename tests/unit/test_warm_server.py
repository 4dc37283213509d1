"""A run that is handed over to a warm process: its outputs, signals and exit code are those of a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from loopback import wait_until

from flows.running import handing_over

WARM = """
import os, signal, socket, sys, time
from flows.running.warm_server import WarmServer, prefect_settings

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
worker = os.fork()
if not worker:
    signal.pause()
code = WarmServer(listener, prefect_settings(os.environ)).serve(worker)
if code is None:
    exec(os.environ["CODE"])
    sys.exit(0)
sys.exit(code)
"""
"""A warm process whose runs do what the variable CODE says."""

ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", WARM, str(tmp_path / "s")], env=ENVIRON, start_new_session=True
    ) as run:
        wait_until((tmp_path / "s").exists, 30, "the socket")
        yield run
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def hand_over(folder: Path, code: str, **variables: str) -> subprocess.Popen[str]:
    environ = {**ENVIRON, handing_over.SOCKET: str(folder / "s"), "CODE": code, **variables}
    command = shlex.split(f"{sys.executable} -I -S {handing_over.__file__}")
    return subprocess.Popen(
        command, env=environ, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def ended(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.usefixtures("warm")
def test_a_run_has_the_folder_the_outputs_and_the_exit_code_of_its_own(tmp_path: Path) -> None:
    code = "print(os.getcwd(), os.environ['MORE']); print('oh', file=sys.stderr); sys.exit(7)"
    one, two = (hand_over(tmp_path, code, MORE=more) for more in ("1", "2"))
    assert one.communicate(timeout=30) == (f"{tmp_path} 1\n", "oh\n")
    assert two.communicate(timeout=30) == (f"{tmp_path} 2\n", "oh\n")
    assert (one.returncode, two.returncode) == (7, 7)


@pytest.mark.usefixtures("warm")
def test_sigterm_reaches_the_run_which_may_end_as_it_likes(tmp_path: Path) -> None:
    code = "signal.pthread_sigmask(signal.SIG_BLOCK, [15]); print('on', flush=True); signal.sigwait([15]); sys.exit(5)"
    polite, rude = hand_over(tmp_path, code), hand_over(tmp_path, "print('on', flush=True); time.sleep(60)")
    for run, code_after in ((polite, 5), (rude, -signal.SIGTERM)):
        assert run.stdout
        assert run.stdout.readline() == "on\n"
        run.terminate()
        assert run.wait(30) == code_after


@pytest.mark.usefixtures("warm")
def test_a_run_ends_with_whoever_handed_it_over(tmp_path: Path) -> None:
    run = hand_over(tmp_path, "print(os.getpid(), flush=True); time.sleep(60)")
    assert run.stdout
    pid = int(run.stdout.readline())
    run.kill()
    wait_until(lambda: ended(pid), 20, "the end of the run")


def test_runs_end_with_the_warm_process(tmp_path: Path, warm: subprocess.Popen[bytes]) -> None:
    code = (
        "from insitu.attached import end_with; end_with(os.getppid()); print(os.getpid(), flush=True); time.sleep(60)"
    )
    run = hand_over(tmp_path, code)
    assert run.stdout
    pid = int(run.stdout.readline())
    warm.kill()
    wait_until(lambda: ended(pid), 20, "the end of the run")
    assert run.wait(30) == 1


@pytest.mark.usefixtures("warm")
def test_a_run_that_the_warm_process_does_not_fit_gets_a_fresh_one(tmp_path: Path) -> None:
    for why, run in {
        "settings of its own": hand_over(tmp_path, "", PREFECT_API_URL="http://127.0.0.1:9/api"),
        "FileNotFoundError": hand_over(tmp_path, "", **{handing_over.SOCKET: str(tmp_path / "other")}),
    }.items():
        _, err = run.communicate(timeout=120)
        assert err.startswith("a fresh process does the run: ")
        assert why in err
        assert "Invalid flow run id" in err  # Prefect's engine, which was given none
        assert run.returncode == 1


def test_it_ends_with_its_worker(tmp_path: Path, warm: subprocess.Popen[bytes]) -> None:
    run = hand_over(tmp_path, "print(os.getpid(), flush=True); time.sleep(60)")
    assert run.stdout
    pid = int(run.stdout.readline())
    children = Path(f"/proc/{warm.pid}/task/{warm.pid}/children").read_text().split()
    os.kill(next(int(child) for child in children if int(child) != pid), signal.SIGTERM)
    assert warm.wait(30) == 256 - signal.SIGTERM
    wait_until(lambda: ended(pid), 20, "the end of the run")
