"""What the documentation tells people to type does what it says, in one project, in the order of the pages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import REPO, Block, blocks
from flow_helpers import NewProject, Project, PublishedRun

RUN = [block for block in blocks() if block.exit_codes]


@pytest.fixture(scope="module")
def reader(new_project: NewProject, published: PublishedRun) -> Project:
    """A project whose first run is done, as after `make retrain`, with the environment where the pages have it."""
    project = new_project("a reader of the docs", like=published.project)
    (project.root / ".venv").symlink_to(sys.prefix)
    shutil.copy(REPO / "README.md", project.root)
    return project


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.place)
def test_commands_of_a_page_end_as_it_says(reader: Project, block: Block) -> None:
    environ = {**reader.environ, "PATH": f"{Path(sys.prefix) / 'bin'}:{reader.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", f"set -e\n{block.text}"],
        cwd=reader.root, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (block.exit_codes or ()), f"{block.place}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
