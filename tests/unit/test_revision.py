"""The git commit of a model's files: that of the last change to them, and none where it would be wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from insitu.revision import revision_of


def git(project: Path, *words: str) -> str:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(project), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(project: Path, name: str, text: str) -> str:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    git(project, "add", name)
    git(project, "commit", "-qm", name)
    return git(project, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    clone = tmp_path / "a clone"
    clone.mkdir()
    git(clone, "init", "-q")
    commit(clone, "checks/m.json", "{}")
    commit(clone, "models/m/train.py", "1")
    return clone


def revision(project: Path, *more: str) -> str | None:
    return revision_of(project, ("models/m", "checks/m.json"), ("models/m/train.py", "checks/m.json", *more))


def test_it_is_the_last_commit_of_these_files_whatever_is_committed_elsewhere(project: Path) -> None:
    wanted = git(project, "rev-parse", "HEAD")
    assert commit(project, "README.md", "about") != wanted
    assert revision(project) == wanted
    assert revision(project) != commit(project, "checks/m.json", "[]") == revision(project)


@pytest.mark.parametrize("path", ["models/m/train.py", "models/m/model.toml"])
def test_files_that_are_not_as_they_were_committed_have_none(project: Path, path: str) -> None:
    commit(project, "models/m/model.toml", "a = 1")
    assert revision(project)
    (project / path).write_text("changed")
    assert revision(project) is None
    git(project, "add", path)
    assert revision(project) is None


def test_files_that_git_does_not_know_have_none(project: Path) -> None:
    (project / ".gitignore").write_text("*.bin\n")
    (project / "models/m/weights.bin").write_text("1")
    assert revision(project)
    assert revision(project, "models/m/weights.bin") is None


def test_outside_a_clone_there_is_none(tmp_path: Path) -> None:
    assert revision(tmp_path) is None
