"""Run the scoring server: `python -m insitu_serving [--host H] [--port P | --uds PATH]`.

Environment: INSITU_MODEL (folder), INSITU_METADATA (JSON over `metadata.json`), INSITU_THREADS,
INSITU_MAX_BODY_BYTES.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

import uvicorn

from .app import ScoringApp
from .runtimes import load_metadata, load_runtime

_MAX_BODY_BYTES = 16 << 20
_GRACE_S = 10
_LOOK_S = 0.5


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

    app = ScoringApp(
        metadata,
        lambda: load_runtime(folder, metadata),
        failed,
        max_body_bytes=int(os.environ.get("INSITU_MAX_BODY_BYTES", _MAX_BODY_BYTES)),
    )
    config = uvicorn.Config(
        app,
        host=args.host,
        port=args.port,
        uds=args.uds,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = uvicorn.Server(config)
    server.run()
    if failures:
        sys.stderr.write(f"the model cannot be loaded: {failures[0]}\n")
    return 1 if failures else 0


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main())
