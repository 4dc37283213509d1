"""One flow run of a worker, in this process: `python -m flows.running.engine PID` ends with the process PID."""

from __future__ import annotations

import runpy
import sys

from insitu.attached import end_with


def run(parent_pid: int) -> None:
    """Do the flow run that PREFECT__FLOW_RUN_ID names, as Prefect's engine does; end when *parent_pid* has ended."""
    end_with(parent_pid)
    sys.argv = ["prefect.engine"]
    sys.modules.pop("prefect.engine", None)  # or `runpy` warns
    sys.path[:0] = [""]  # flows are found from the working folder, as with `python -m`
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run(int(sys.argv[1]))
