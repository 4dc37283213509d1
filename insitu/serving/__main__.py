"""Run the scoring server: `python -m insitu_serving [--host H] [--port P | --uds PATH]`.

Environment: INSITU_MODEL (folder), INSITU_METADATA (JSON over `metadata.json`), INSITU_THREADS, INSITU_DRAIN_S, and
what `Limits.of` reads.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import uvicorn

from .app import ScoringApp
from .engine import Limits
from .protocol import BoundedProtocol
from .runtimes import load_metadata, load_runtime

_GRACE_S = 10
_LOOK_S = 0.5


class Server(uvicorn.Server):
    """Is not ready from the first signal on, takes requests for *drain_s* more seconds, and ends those in flight."""

    def __init__(self, config: uvicorn.Config, app: ScoringApp, drain_s: float) -> None:
        super().__init__(config)
        self._app, self._drain_s = app, drain_s
        self._until_s: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal ends the wait."""
        self._app.stop()
        if self._drain_s and self._until_s is None:
            self._until_s = time.monotonic() + self._drain_s
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to take no more requests."""
        over = self._until_s is not None and time.monotonic() >= self._until_s
        return await super().on_tick(counter) or over


def main() -> int:
    """Serve until SIGTERM; return 1 when the model cannot be loaded."""
    parser = argparse.ArgumentParser(prog="insitu_serving")
    parser.add_argument("--host", default="0.0.0.0")  # noqa: S104  a container has addresses of its own
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--uds", help="listen on this unix socket instead")
    parser.add_argument("--end-with", type=int, metavar="PID", help="end when this process, the parent, is gone")
    args = parser.parse_args()
    if args.end_with is not None:
        threading.Thread(target=_end_with, args=(args.end_with,), daemon=True).start()
    # uvicorn takes the signal while it serves and hands it on at the end; as process 1 the default
    # action would be to ignore it, anywhere else to die of it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    folder = Path(os.environ.get("INSITU_MODEL", "/opt/insitu/model"))
    metadata = load_metadata(folder, os.environ.get("INSITU_METADATA", ""))
    failures: list[str] = []

    def failed(exc: Exception) -> None:
        failures.append(type(exc).__name__)
        server.should_exit = True

    limits = Limits.of(os.environ)
    app = ScoringApp(metadata, lambda: load_runtime(folder, metadata), failed, limits)
    BoundedProtocol.head_timeout_s = limits.body_timeout_s
    config = uvicorn.Config(
        app,
        host=args.host,
        port=args.port,
        uds=args.uds,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = Server(config, app, float(os.environ.get("INSITU_DRAIN_S", "0")))
    server.run()
    if failures:
        sys.stderr.write(f"the model cannot be loaded: {failures[0]}\n")
    return 1 if failures else 0


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def _end(status: int) -> None:
    """End now: a model that is still at work after the wait for its request would hold the process up for longer."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    try:
        _end(main())
    except SystemExit as exc:
        if exc.code not in (0, None):
            raise
        _end(0)
