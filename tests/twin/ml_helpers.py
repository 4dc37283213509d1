"""The workspace of the twin, asked with Microsoft's own client."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from azure.ai.ml import MLClient, Output, command
from azure.identity import ClientSecretCredential
from twin_helpers import MANAGEMENT

from insitu.twin.estate import Estate

_numbers = count()
ENDED = ("Completed", "Failed", "Canceled")


def new_name(word: str) -> str:
    """Return a name that nothing of the estate has."""
    return f"{word}-{next(_numbers)}-{time.time_ns():x}"


def client_of(estate: Estate, **changes: str) -> MLClient:
    """Return a client of the workspace, signed in as the site's principal."""
    names = estate.names
    return MLClient(
        _credential(estate, **changes), names.subscription, names.group, names.workspace, show_progress=False
    )


def token_of(estate: Estate, scope: str = MANAGEMENT) -> str:
    """Return a token of the site's principal."""
    return _credential(estate).get_token(scope).token


def job_of(estate: Estate, folder: Path, script: str, **options: Any) -> Any:
    """Return a command job that runs *script*."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(script)
    options.setdefault("name", new_name("job"))
    options.setdefault("experiment_name", "twin")
    return command(
        compute=estate.names.target,
        environment="insitu-train:1",
        code=str(folder),
        command=options.pop("command", "python main.py"),
        outputs={"summary": Output(type="uri_folder")},
        **options,
    )


def wait_for(client: MLClient, name: str, *states: str, timeout_s: float = 60) -> str:
    """Return the job's state as soon as it is one of *states*, which by default are those that it ends in."""
    return until(lambda: _word(client.jobs.get(name).status), lambda word: word in (states or ENDED), timeout_s)


def until(look: Callable[[], Any], is_right: Callable[[Any], bool], timeout_s: float = 60) -> Any:
    """Look again and again; return what was right."""
    deadline = time.monotonic() + timeout_s
    while not is_right(found := look()):
        assert time.monotonic() < deadline, f"{found} after {timeout_s} s"
        time.sleep(0.2)
    return found


def _credential(estate: Estate, **changes: str) -> ClientSecretCredential:
    values = {"client_id": estate.names.client, "client_secret": estate.client_secret.read_text(), **changes}
    return ClientSecretCredential(estate.names.tenant, **values)


def _word(status: Any) -> str:
    return str(getattr(status, "value", status))
