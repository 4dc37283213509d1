"""The services of a site, and how `insitu up` runs them: Prefect server, workers, watcher, MLflow UI."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from flows.running.environment import LOGGERS
from flows.running.server import Server, held_note
from insitu import telemetry
from insitu.errors import BackendUnavailable, InsituError, UsageError
from insitu.network import use_network
from insitu.settings import MlflowModels, SiteSettings
from insitu.supervisor import Service, Supervisor
from insitu.wiring import service_keys, service_login

_START_S = 120.0
_ANYWHERE = "0.0.0.0"  # noqa: S104 - compared with, not bound to

Say = Callable[[str], None]


def board(project: Path) -> Path:
    """Return the file that says what is up; it counts while the server's note is held."""
    return project / "var" / "services.json"


def run_services(project: Path, settings: SiteSettings, say: Say) -> None:
    """Run the services of a site until Ctrl-C, or until one dies again and again; all of them end together.

    Raises:
        SettingsError: A secret is not where the settings say.
        UsageError: They run already.
        BackendUnavailable: The server does not start, the deployments are refused, or a service cannot be kept up.
    """
    use_network(settings.network)
    logs = project / "var" / "logs"
    with held_note(project) as note:
        settings = _with_free_ports(settings)
        environ = environment(project, settings)
        url = environ["PREFECT_API_URL"]
        services = {service.name: service for service in beside_the_server(settings, environ)}
        keeper = Supervisor(project, logs, board(project), say)
        try:
            say(f"Prefect server starts at {url.removesuffix('/api')}")
            keeper.start(server_of(settings, environ))
            _wait_for(f"{url}/health", keeper, logs / "server.txt")
            note(Server(url, settings.name, os.getpid()))
            _deploy(project, settings.name, environ, say)
            for service in services.values():
                keeper.start(service)
            say(_greeting(project, settings, url))
            keeper.go_on()
        finally:
            # The server last: the others tell it how they ended. The workers after the watcher, which would start anew
            # what they put back.
            workers = [name for name in services if name.startswith("worker")]
            keeper.stop([name for name in services if name not in workers], workers)


def run_service(project: Path, settings: SiteSettings, name: str) -> None:
    """Become one service of a site, for a supervisor that runs each by itself; does not return.

    Raises:
        UsageError: The site has no such service.
        SettingsError: A secret is not where the settings say.
    """
    use_network(settings.network)
    environ = environment(project, settings, os.environ.get("PREFECT_API_URL"))
    found = {service.name.partition("-")[0]: service for service in beside_the_server(settings, environ)}
    kept = ExitStack()  # never closed: the server holds the note on
    if name == "server":
        found[name] = server_of(settings, environ)
        note = kept.enter_context(held_note(project, outlives=True))
        note(Server(environ["PREFECT_API_URL"], settings.name, os.getpid()))
        board(project).unlink(missing_ok=True)  # of an `insitu up` that was killed
    if name not in found:
        wanted = f"one of server, {', '.join(found)}"
        raise UsageError(f"the site {settings.name} has no service {name}", wanted=wanted)
    service = found[name]
    os.chdir(project)
    os.execve(service.command[0], list(service.command), dict(service.environ))  # noqa: S606 - our own command


def server_of(settings: SiteSettings, environ: Mapping[str, str]) -> Service:
    """Return the Prefect server of the site; raise `SettingsError`."""
    ours = settings.services
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", ours.host, "--port", str(ours.port)]
    return Service("server", command, {**environ, **_server_variables(settings, environ)})


def beside_the_server(settings: SiteSettings, environ: Mapping[str, str]) -> Iterator[Service]:
    """Yield the other services of the site."""
    ours, python = settings.services, sys.executable
    for number in range(1, ours.workers + 1):
        name = "worker" if ours.workers == 1 else f"worker-{number}"
        pool = f"insitu-{settings.name}"  # as in prefect.yaml
        yield Service(name, [python, "-m", "flows.running.worker", pool], environ)
    yield Service("watcher", [python, "-m", "insitu", "watch", "--site", settings.name], environ)
    if isinstance(settings.models, MlflowModels):
        store, where = settings.models.uri, ["--host", ours.mlflow_host, "--port", str(ours.mlflow_port)]
        # Its jobs are for agents and evaluations: seven processes of 280 MB each that nobody here asks for anything.
        lean = {**environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        yield Service(
            "mlflow", [python, "-m", "mlflow", "server", "--backend-store-uri", store, *where, "--workers", "1"], lean
        )


def environment(project: Path, settings: SiteSettings, api_url: str | None = None) -> dict[str, str]:
    """Return the variables of every service; without *api_url* the server is the one that the settings describe."""
    home, ours = project / "var" / "prefect", settings.services
    host = "127.0.0.1" if ours.host == _ANYWHERE else ours.host
    return {
        **os.environ,
        **telemetry.SWITCHES,
        "INSITU_PROJECT": str(project),
        "PREFECT_API_URL": api_url or f"http://{host}:{ours.port}/api",
        "PREFECT_API_AUTH_STRING": service_login(ours),
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(LOGGERS),
        "PREFECT_WORKER_QUERY_SECONDS": str(ours.poll_s),
        "PYTHONUNBUFFERED": "1",
    }


def _deploy(project: Path, site: str, environ: Mapping[str, str], say: Say) -> None:
    """Put pools and deployments into the server; raise what that raises. A process of its own: this one stays small."""
    command = [sys.executable, "-m", "insitu", "deploy", "flows", "--site", site, "--json"]
    done = subprocess.run(command, env=environ, cwd=project, capture_output=True, text=True, check=False)
    for line in done.stderr.splitlines():
        if line.startswith("warning:"):
            say(line)
    if done.returncode:
        with suppress(ValueError, KeyError, TypeError):
            raise InsituError.from_json(json.loads(done.stdout)["error"])
        raise InsituError("the deployments could not be made", found=done.stderr.strip()[-500:])


def _server_variables(settings: SiteSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the server alone is told; the address of the UI may be set from outside, as behind a proxy."""
    key, database = service_keys(settings.services)
    origins = {f"http://{host}:{settings.services.port}" for host in ("127.0.0.1", "localhost", settings.services.host)}
    told = {
        "PREFECT_SERVER_API_AUTH_STRING": environ["PREFECT_API_AUTH_STRING"],
        "PREFECT_SERVER_ENCRYPTION_KEY": key,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(sorted(origins)),
        # The second UI asks an outside host for its configuration.
        "PREFECT_SERVER_UI_V2_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }
    if database:
        told["PREFECT_API_DATABASE_CONNECTION_URL"] = database
    return told | {name: environ[name] for name in ("PREFECT_SERVER_CORS_ALLOWED_ORIGINS",) if name in environ}


def _greeting(project: Path, settings: SiteSettings, url: str) -> str:
    ours = settings.services
    registry = ""
    if isinstance(settings.models, MlflowModels):
        registry = f"  MLflow UI http://{ours.mlflow_host}:{ours.mlflow_port}"
    where = f"$(cat {ours.login.file})" if ours.login.file else f"${ours.login.env}"
    return "\n".join([
        f"ready: Prefect UI {url.removesuffix('/api')}{registry}  logs {project / 'var' / 'logs'}",
        f"the UI asks for USER:PASSWORD: it is in {ours.login.file or ours.login.env}",
        f'for Prefect\'s own commands: export PREFECT_API_URL={url} PREFECT_API_AUTH_STRING="{where}"',
        "start a run there, or in another terminal: insitu retrain flights   (Ctrl-C ends all)",
    ])  # fmt: skip


def _wait_for(url: str, keeper: Supervisor, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not _answers(url):
        keeper.require_running()
        if time.monotonic() > deadline:
            raise BackendUnavailable("the Prefect server does not start", next_action=f"see its log: {log}")
        time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 - an http address of this machine
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _with_free_ports(settings: SiteSettings) -> SiteSettings:
    """Return the settings with ports that are free: two projects run side by side."""
    ours = settings.services
    mlflow_port = _free_port(ours.mlflow_host, ours.mlflow_port)
    ports = {"port": _free_port(ours.host, ours.port), "mlflow_port": mlflow_port}
    return settings.model_copy(update={"services": ours.model_copy(update=ports)})


def _free_port(host: str, wished: int) -> int:
    """Return *wished* when it is free, else any free port."""
    for port in (wished, 0):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
            try:
                sock.bind((host, port))
            except OSError:
                continue
            return int(sock.getsockname()[1])
    raise UsageError(
        f"{host} is no address of this machine", next_action="mend services.host or mlflow_host of the site"
    )
