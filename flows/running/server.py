"""Where the Prefect server of `insitu up` is, and how its clients log in."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path
from urllib.parse import urlsplit

from insitu.errors import BackendUnavailable, InsituError, UsageError, naming_write_errors
from insitu.settings import load_site
from insitu.wiring import service_login

_LOOK_S, _GONE_S, _END_S = 2.0, 6.0, 15.0
_CLOUD = ".prefect.cloud"
_URL, _LOGIN = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"


@dataclass(frozen=True)
class Server:
    """A Prefect server of this project.

    Attributes:
        url: Of its API.
        site: Whose services it belongs to: they know how to log in.
        pid: Of `insitu up`.
    """

    url: str
    site: str
    pid: int


def running_server(project: Path) -> Server | None:
    """Return the Prefect server that `insitu up` runs for this project now."""
    try:
        with open(_note(project)) as note:
            flock(note, LOCK_SH | LOCK_NB)
        return None  # nobody holds the note: whatever it says is of a server that is gone
    except BlockingIOError:
        text = _note(project).read_text()
        return Server(**json.loads(text)) if text else None
    except FileNotFoundError:
        return None


def require_on_site(url: str) -> None:
    """Raise `UsageError` where *url* is that of Prefect Cloud."""
    host = urlsplit(url).hostname or ""
    if f".{host}".endswith(_CLOUD):
        raise UsageError(
            "the Prefect server is Prefect Cloud: it would keep parameters, logs and artifacts outside of the site",
            found=host,
            wanted="a server at the site, such as that of `insitu up`",
            next_action="take PREFECT_API_URL out of the environment or of Prefect's profile",
        )


def use_server(project: Path, environ: MutableMapping[str, str]) -> bool:
    """Let Prefect's clients use the server that *environ* names, else that of `insitu up`; return whether there is one.

    Raises:
        SettingsError: The login is not where the site's settings say.
        UsageError: It is Prefect Cloud.
    """
    require_on_site(environ.get(_URL, ""))
    server = running_server(project)
    if server and environ.setdefault(_URL, server.url) == server.url and _LOGIN not in environ:
        environ[_LOGIN] = service_login(load_site(project, server.site, os.environ).services)
    return _URL in environ


def end_with_server(project: Path, tell: Callable[[InsituError], None]) -> None:
    """End this process when the `insitu up` whose server it uses has ended: Prefect's clients try for minutes.

    It gets SIGTERM, as if somebody had stopped it, and some seconds to end its job; *tell* is called before.
    """
    server = running_server(project)
    if server is None or os.environ.get(_URL) != server.url:
        return

    def watch() -> None:
        gone_s = 0.0
        while gone_s < _GONE_S:
            time.sleep(_LOOK_S)
            now = running_server(project)
            gone_s = 0.0 if now and now.url == server.url else gone_s + _LOOK_S
        error = BackendUnavailable(
            "the services of this project have been stopped, and with them the Prefect server of this run",
            next_action="start the run again: it goes on after its last finished step",
        )
        tell(error)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_END_S)
        os._exit(error.exit_code)

    threading.Thread(target=watch, name="server?", daemon=True).start()


@contextmanager
def held_note(project: Path, *, outlives: bool = False) -> Iterator[Callable[[Server], None]]:
    """Yield what writes the note of the server, which counts for as long as the block lasts.

    Args:
        project: The project's folder.
        outlives: It counts until the program that this process becomes by `exec` has ended.

    Raises:
        UsageError: Somebody else holds it.
    """
    path = _note(project)
    with naming_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        note = open(path, "a")  # noqa: SIM115 - closed below
    with note:
        try:
            flock(note, LOCK_EX | LOCK_NB)
        except BlockingIOError as exc:
            server = running_server(project)
            found = f"{server.url.removesuffix('/api')}, process {server.pid}" if server else "they are starting"
            raise UsageError(
                "the services of this project run already", found=found, next_action="see `insitu up --status`"
            ) from exc
        note.truncate(0)
        os.set_inheritable(note.fileno(), outlives)

        def write(server: Server) -> None:
            note.write(json.dumps(asdict(server)))
            note.flush()

        yield write
        note.truncate(0)


def _note(project: Path) -> Path:
    return project / "var" / "prefect-server.json"
