"""A project with the site `local` and the example's model, and the command."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from customer_data import Init

from insitu.cli import main

REPO = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith("INSITU_"):
            monkeypatch.delenv(name)
    root = tmp_path / "a project"
    for name in (
        "deployments/sites/local.toml",
        "models/flights/model.toml",
        "data_checks/flights.json",
        "prefect.yaml",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / name, root / name)
    (root / "flows").symlink_to(REPO / "flows")
    monkeypatch.setenv("INSITU_PROJECT", str(root))
    return root


@pytest.fixture
def init(project: Path) -> Init:
    """Run `insitu init`, which must end with the exit code."""

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["init", *arguments])
        assert result.exit_code == code, result.output
        return result

    return run
