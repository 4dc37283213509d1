"""One run in a process that has done before it is asked what can be done: `python -m flows.running.warm PROJECT`.

It reads one line of JSON from standard input, `{"project", "model", "site", "batch", "outcome"}`, runs the flow on the
batch manifest, writes the outcome to that file, and ends.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from flows.running.environment import prepare
from insitu.errors import BlobChanged, BlobNotFound, DataError, RunCancelled, RunTakenOver, RunUnderWay
from insitu.files import replace_file
from insitu.lineage import error_json
from insitu.triggers.work import Outcome, Verdict


def main(project: Path) -> None:
    """Serve one run."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    prepare(project)
    from prefect.client.orchestration import get_client

    from flows.retrain import retrain
    from flows.running.naming import begun_at

    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).setLevel(logging.INFO)
    with get_client(sync_client=True) as client:  # a temporary server takes its time to start
        client.api_healthcheck()
    line = sys.stdin.readline()
    if not line:  # nobody needs us any more
        return
    asked = json.loads(line)
    with begun_at(asked["site"]):
        state: Any = retrain(asked["model"], asked["site"], asked["batch"], return_state=True)
    ended = state.result(raise_on_failure=False)
    outcome = outcome_of_error(ended) if isinstance(ended, BaseException) else outcome_of_record(ended)
    replace_file(Path(asked["outcome"]), json.dumps({"verdict": outcome.verdict, "told": outcome.told}).encode())


def outcome_of_record(record: dict[str, Any]) -> Outcome:
    """Return the outcome of a run that ended with a record."""
    version = (record["model_version"] or {}).get("version")
    verdict: Verdict = "busy" if record["state"] == "Skipped" else "done"  # it may yet fail where it is under way
    return Outcome(verdict, {"state": record["state"], "run_key": record["run_key"], "version": version})


def outcome_of_error(error: BaseException) -> Outcome:
    """Return the outcome of a run that raised."""
    return Outcome(_verdict(error), {"state": "Failed", "error": error_json(error)})


def _verdict(error: BaseException) -> Verdict:
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, BlobChanged | BlobNotFound):
        return "changed"
    if isinstance(error, RunCancelled):
        return "cancelled"
    return "busy" if isinstance(error, RunUnderWay | RunTakenOver) else "failed"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
