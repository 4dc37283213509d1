"""A small project on disk, and an environment without settings of insitu."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FILES = (
    "deployments/sites/local.toml",
    "models/flights/model.toml",
    "models/flights/train.py",
    "data_checks/flights.json",
)


@pytest.fixture(autouse=True)
def _no_variables_of_insitu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("INSITU_"):
            monkeypatch.delenv(name)


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that lays out a project whose blobs are the given months."""

    def make(*months: int, name: str = "project") -> Path:
        root = tmp_path / name
        for file in FILES:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / file, root / file)
        for month in months:
            path = root / f"var/blobs/flights/month={month:02d}/flights.parquet"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"flights of month %d" % month)
        return root

    return make
