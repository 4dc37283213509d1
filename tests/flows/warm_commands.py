"""Commands as forks of a process that has imported what a run needs, as a worker's runs are: seconds less for each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from flows.running import handing_over
from flows.running.warm_server import WarmServer, prefect_settings

_ARGUMENTS = "WARM_ARGUMENTS"
_IMPORTED = (
    "alembic.command", "flows.retrain", "matplotlib.figure", "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store", "prefect.flow_engine",
)  # fmt: skip
"""What a run comes to sooner or later."""


class _Commands(WarmServer):
    """What changed since it began does not matter to a test."""

    def _unfit(self, environ: Mapping[str, str]) -> str | None:
        return None if prefect_settings(environ) == self.settings else "other settings for Prefect"


def warm_command(door: Path, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command line, and the variables on top, that let the process behind *door* do `insitu ARGUMENTS`."""
    command = [sys.executable, "-I", "-S", handing_over.__file__]
    return command, {handing_over.SOCKET: str(door), _ARGUMENTS: json.dumps(arguments)}


@contextmanager
def warm_commands(door: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Have a process behind the socket *door*, with the variables that the commands have for Prefect."""
    command = [sys.executable, __file__, str(door)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, start_new_session=True) as warm:
        assert warm.stdout
        try:
            assert warm.stdout.readline() == b"ready\n"
            yield door
        finally:
            os.killpg(warm.pid, signal.SIGTERM)


def _serve(door: str) -> None:
    settings = prefect_settings(os.environ)
    from flows.running.environment import prepare

    prepare(Path.cwd())
    from insitu.cli import main

    for module in _IMPORTED:
        import_module(module)

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(door)
    listener.listen()
    print("ready", flush=True)
    waiting = os.fork()  # in the place of a worker: it ends when the group is told to
    if not waiting:
        signal.pause()
    signal.signal(signal.SIGTERM, lambda *_: None)
    if _Commands(listener, settings).serve(waiting) is None:
        sys.argv = ["insitu", *json.loads(os.environ.pop(_ARGUMENTS))]
        del os.environ[handing_over.SOCKET]
        main()


if __name__ == "__main__":
    _serve(sys.argv[1])
