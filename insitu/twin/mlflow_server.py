"""A real MLflow tracking server, which keeps runs and metrics of the workspace: `python -m insitu.twin.mlflow_server`.

Only MLflow's own web application is started, without its page, its workers and its queue: a twin must start fast.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from insitu.twin.programs import Program, free_port, start


def start_mlflow(folder: Path, artifacts: str) -> tuple[Program, int]:
    """Start a server whose database lies in *folder*; return it and its loopback port.

    Args:
        artifacts: Where runs say that their files are.
    """
    port = free_port()
    command = [sys.executable, "-m", "insitu.twin.mlflow_server", str(port), str(folder / "runs.db"), artifacts]
    program = start("MLflow", command, folder / "mlflow.log", environ={"MLFLOW_DISABLE_TELEMETRY": "true"})
    program.wait_for(port)
    return program, port


def serve(port: int, database: str, artifacts: str) -> None:
    """Serve until the process ends."""
    # The variables in which `mlflow server` hands its options to the application.
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{database}"
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = artifacts
    os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "false"
    from mlflow.server import app
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, app, threaded=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], sys.argv[3])
