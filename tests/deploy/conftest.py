"""A project with two published versions, made without training."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from deploy_helpers import FILES, REPO, Estate


@pytest.fixture(autouse=True)
def _no_variables_of_insitu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("INSITU_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published") / "project"
    for file in FILES:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / file, root / file)
    estate = Estate(root)
    estate.arrive(1)
    estate.next_version(2)
    estate.next_version(3)
    return root


@pytest.fixture
def estate(_published: Path, tmp_path: Path) -> Estate:
    """Two published versions; the second is champion."""
    shutil.copytree(_published, tmp_path / "project")
    return Estate(tmp_path / "project")
