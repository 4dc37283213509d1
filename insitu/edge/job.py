"""The edge job: run the user's training command, then judge what it left on the holdout.

Started as `python -m insitu.edge.job JOB_FOLDER PARENT_PID`; the folder holds `spec.json`. It leaves there

    log.txt       what the command printed, capped
    output/       what the command left: model/, model.onnx, metrics.json, plots
    golden.json   rows of the holdout with the model's answers: stays on site
    result.json   aggregates: metrics, differences, curves, sizes        (success)
    failure.json  why there is no result, without any value of the data  (failure)
"""

from __future__ import annotations

import json
import platform
import resource
import shutil
import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import IO, Any

from insitu import telemetry
from insitu.attached import end_with
from insitu.edge.command import FITS, train
from insitu.edge.isolation import raise_loopback, reach, use_proxy
from insitu.errors import InsituError, TrainingFailed
from insitu.files import drop_hidden, file_digests, replace_file

EXAMPLES = ("input_example.json", "input_example.npz", "serving_input_example.json")


def main(folder: Path, parent_pid: int) -> int:
    """Run the job in *folder* for the process *parent_pid*; return the exit code."""
    end_with(parent_pid)
    telemetry.switch_off()
    raise_loopback()
    try:
        use_proxy()
        result = run(folder, json.loads((folder / "spec.json").read_text()))
    except Exception as exc:
        (folder / "result.json").unlink(missing_ok=True)  # the command could have left one
        failure = (
            exc if isinstance(exc, InsituError) else TrainingFailed(f"the edge job broke with {type(exc).__name__}")
        )
        told = failure.to_json()
        if failure is not exc or exc.__cause__:
            # The message of a foreign exception may quote a row: it stays in the log on site, its class goes out.
            with open(folder / "log.txt", "a") as log:
                traceback.print_exc(file=log)
            told["next_action"] = failure.next_action or f"the traceback is in {folder / 'log.txt'}"
        replace_file(folder / "failure.json", json.dumps(told).encode())
        return 1
    finally:
        shutil.rmtree(folder / FITS, ignore_errors=True)  # rows as the model saw them
    replace_file(folder / "result.json", json.dumps(result).encode())
    return 0


def run(folder: Path, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Train and evaluate; raise `InsituError`."""
    with open(folder / "log.txt", "wb", buffering=0) as log:
        overlap, residency = _look_for_overlap(folder, spec, log), None
        if spec["command"]:
            progress(log, 0.05, "training")
            train(folder, spec, log)
            drop_examples(folder / "output" / "model")
            drop_hidden(folder / "output")
            (folder / "result.json").unlink(missing_ok=True)  # the command could have left one
            scanned = file_digests(folder / "output")
            residency = _look_for_leaks(folder, spec, log)
        progress(log, 0.7, "evaluating on the holdout")
        # Imported here: scikit-learn and MLflow are not needed while the command runs.
        from insitu.edge.evaluate import evaluate

        result = evaluate(folder, spec) | {"overlap": overlap, "residency": residency}
        drop_hidden(folder / "output")  # byte code of a model that has been loaded
        if residency and file_digests(folder / "output") != scanned:
            raise TrainingFailed(
                "what the training command left was changed after it was searched for records",
                next_action="let the command end what it starts, and write nothing when the model is loaded",
            )
        progress(log, 1.0, "done")
    # The command's peak or, for a holdout larger than that, our own.
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    return result | {
        "environment": _environment(),
        **reach(),
        "claimed": _claimed_metrics(folder / "output" / "metrics.json"),
        "files": file_digests(folder / "output" / "model"),
        # ru_maxrss counts kilobytes on Linux and bytes on macOS (getrusage(2)).
        "peak_memory_bytes": peak * (1 if sys.platform == "darwin" else 1024),
    }


def _look_for_overlap(folder: Path, spec: Mapping[str, Any], log: IO[bytes]) -> dict[str, int] | None:
    """Return what `require_apart` does, before time is spent on training; None where nobody is to look."""
    if (limit := spec.get("max_overlap", 1.0)) >= 1:
        return None
    from insitu.edge.data import open_part
    from insitu.edge.overlap import require_apart

    progress(log, 0.02, "looking for rows of the holdout in the training part")
    return require_apart(open_part(folder, spec, "train"), open_part(folder, spec, "holdout"), limit)


def _look_for_leaks(folder: Path, spec: Mapping[str, Any], log: IO[bytes]) -> dict[str, Any] | None:
    """Return what `require_no_leak` does, before anything loads what was trained; None where nobody is to look."""
    if not spec.get("residency", {}).get("scan"):
        return None
    from insitu.edge.leaks import require_no_leak

    progress(log, 0.6, "looking for records in what was trained")
    return require_no_leak(folder, spec)


def progress(log: IO[bytes], fraction: float, text: str) -> None:
    """Write one progress line; `insitu.training` reads them."""
    log.write(f"::progress {fraction:.2f} {text}\n".encode())


def drop_examples(model: Path) -> None:
    """Remove the rows that MLflow keeps beside a model when it is saved with an input example."""
    for name in EXAMPLES:
        (model / name).unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    """Return the version of Python and of every package that is installed here, by name."""
    packages = {dist.metadata["Name"].lower(): dist.version for dist in distributions()}
    return {"python": platform.python_version()} | dict(sorted(packages.items()))


def _claimed_metrics(path: Path) -> dict[str, float]:
    """Return what the script says of itself: recorded, never trusted."""
    try:
        claimed = json.loads(path.read_text())
        return {str(k): float(v) for k, v in claimed.items() if isinstance(v, int | float)}
    except (OSError, ValueError, AttributeError):
        return {}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
