"""The services of a local site, one command: Prefect server with UI, worker, MLflow UI."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from typing import TextIO
from urllib.error import URLError
from urllib.request import urlopen

from insitu import telemetry
from insitu.errors import BackendUnavailable, UsageError
from insitu.settings import AzureMlModels, MlflowModels

POOL = "insitu-local"
_START_S = 120.0
_STOP_S = 10.0


def running_api_url(project: Path) -> str | None:
    """Return the address of the Prefect server that `insitu up` runs for this project now."""
    try:
        with open(_note(project)) as note:
            flock(note, LOCK_SH | LOCK_NB)
        return None  # nobody holds the note: whatever it says is of a server that is gone
    except BlockingIOError:
        return _note(project).read_text() or None
    except FileNotFoundError:
        return None


def run_services(project: Path, models: MlflowModels | AzureMlModels, say: Callable[[str], None]) -> None:
    """Run server, worker and MLflow UI until one ends or Ctrl-C; all of them end together.

    Raises:
        UsageError: They run already.
        BackendUnavailable: The server does not start, or a service ends by itself.
    """
    logs = project / "var" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    port, mlflow_port = _free_port(4200), _free_port(5000)
    api_url, mlflow_url = f"http://127.0.0.1:{port}/api", f"http://127.0.0.1:{mlflow_port}"
    environ = _environment(project, api_url)
    prefect, mlflow = [sys.executable, "-m", "prefect"], [sys.executable, "-m", "mlflow"]
    here = ("--host", "127.0.0.1", "--port")
    with _held_note(project) as note, ExitStack() as services:

        def start(name: str, *command: str) -> subprocess.Popen[bytes]:
            return services.enter_context(_service(list(command), environ, logs / f"{name}.txt"))

        server = start("server", *prefect, "server", "start", *here, str(port))
        say(f"Prefect server starts at {api_url.removesuffix('/api')}")
        _wait_for(f"{api_url}/health", server, logs / "server.txt")
        note.write(api_url)
        note.flush()
        _run([*prefect, "work-pool", "create", POOL, "--type", "process", "--overwrite"], environ)
        _run([*prefect, "--no-prompt", "deploy", "--all"], environ)
        running = [server, start("worker", *prefect, "worker", "start", "--pool", POOL)]
        registry = ""
        if isinstance(models, MlflowModels):
            ui = ("server", "--backend-store-uri", models.uri, *here, str(mlflow_port), "--workers", "1")
            running.append(start("mlflow", *mlflow, *ui))
            registry = f"MLflow UI {mlflow_url}  "
        say(f"ready: Prefect UI {api_url.removesuffix('/api')}  {registry}logs {logs}")
        say(f"for Prefect's own commands: export PREFECT_API_URL={api_url}")
        say("start a run there, or in another terminal: insitu retrain flights   (Ctrl-C ends all)")
        while all(process.poll() is None for process in running):
            time.sleep(0.5)
    raise BackendUnavailable("a service ended by itself", next_action=f"see the logs in {logs}")


@contextmanager
def _held_note(project: Path) -> Iterator[TextIO]:
    """Yield the empty note of the server's address, locked: it is worth what its lock says."""
    with open(_note(project), "a") as note:
        try:
            flock(note, LOCK_EX | LOCK_NB)
        except BlockingIOError as exc:
            url = _note(project).read_text().removesuffix("/api")
            raise UsageError("the services of this project run already", found=url or "they are starting") from exc
        note.truncate(0)
        yield note
        note.truncate(0)


def _note(project: Path) -> Path:
    return project / "var" / "prefect-api-url"


def _environment(project: Path, api_url: str) -> dict[str, str]:
    home = project / "var" / "prefect"
    return {
        **os.environ,
        **telemetry.SWITCHES,
        "INSITU_PROJECT": str(project),
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        # The second UI asks an outside host for its configuration.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def _service(command: list[str], environ: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* in a process group of its own for as long as the block lasts."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "insitu.attached", str(os.getpid()), *command],
            env=environ,
            cwd=environ["INSITU_PROJECT"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, sign)
                process.wait(_STOP_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def _run(command: list[str], environ: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, env=environ, cwd=environ["INSITU_PROJECT"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BackendUnavailable(f"{' '.join(command[2:])} failed", found=(done.stderr or done.stdout).strip()[-500:])


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BackendUnavailable("the Prefect server does not start", next_action=f"see its log: {log}")
        time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 - an http address of this machine
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _free_port(wished: int) -> int:
    """Return *wished* when it is free, else any free port: two projects run side by side."""
    for port in (wished, 0):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(sock.getsockname()[1])
    raise AssertionError("port 0 is always free")
