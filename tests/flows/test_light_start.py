"""The command answers at once because nothing heavy is imported before a command needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flow_helpers import INSITU, PublishedRun

HEAVY = ("prefect", "mlflow", "pandas", "numpy", "pyarrow", "great_expectations", "polars", "pydantic", "sklearn")


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, insitu.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_help_names_the_commands_and_the_exit_codes() -> None:
    done = subprocess.run([str(INSITU), "--help"], capture_output=True, text=True, check=True)
    for part in ("retrain", "history", "show", "score", "demo", "Exit codes"):
        assert part in done.stdout


def test_the_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(INSITU), "--help"], capture_output=True, text=True, check=True
    )
    imported = {line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (("history", "flights"), ()),
        (("show", "flights"), ()),
        (("why", "month=01/flights.parquet"), ()),
        (("waivers", "list", "flights"), ()),
        (("plan", "flights"), ("numpy", "pyarrow", "polars", "pandas", "mlflow")),  # MLflow knows the champion
    ],
)
def test_looking_imports_nothing_heavy_that_it_does_not_need(
    published: PublishedRun, command: tuple[str, ...], needed: tuple[str, ...]
) -> None:
    done = published.project.run(*command, PYTHONPROFILEIMPORTTIME="1").require(0)
    imported = {line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in done.err.splitlines()}
    assert {"pydantic", *needed} <= imported
    assert imported.isdisjoint(set(HEAVY) - {"pydantic", *needed})
