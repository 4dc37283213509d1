"""The project is the nearest folder upwards with models and sites; a model has one run at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from insitu.errors import RunUnderWay, UsageError
from insitu.leases import only_run
from insitu.project import find_project
from insitu.settings import load_site
from insitu.wiring import open_site

HOLDER = """
import sys, time
from pathlib import Path
from insitu.leases import only_run
from insitu.settings import load_site
from insitu.wiring import open_site

project = Path(sys.argv[1])
with only_run(open_site(project, load_site(project, "local", {})).state, "flights", "a run"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("start", [".", "models", "models/flights", "deployments/sites"])
def test_the_project_is_found_from_inside(make_project: Callable[..., Path], start: str) -> None:
    project = make_project()
    assert find_project(project / start) == project


def test_the_nearest_of_two_projects_counts(make_project: Callable[..., Path]) -> None:
    make_project()
    inner = make_project(name="project/inner")
    assert find_project(inner / "models") == inner


def test_a_relative_start_gives_an_absolute_project(
    make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(name="my project")
    monkeypatch.chdir(project / "models")
    assert find_project(Path()) == project


@pytest.mark.parametrize("folders", [[], ["models"], ["deployments/sites"], ["models", "deployments"]])
def test_half_a_project_is_none(tmp_path: Path, folders: list[str]) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UsageError, match="not inside an insitu project") as caught:
        find_project(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "--project" in str(caught.value)


def test_a_project_that_was_named_is_that_folder_or_none(make_project: Callable[..., Path]) -> None:
    project = make_project()
    assert find_project(project, named=True) == project
    with pytest.raises(UsageError, match="models is not an insitu project"):
        find_project(project / "models", named=True)


def test_a_second_run_of_a_model_is_kept_out_until_the_first_process_is_gone(
    make_project: Callable[..., Path],
) -> None:
    project = make_project()
    site = open_site(project, load_site(project, "local", {}))
    with subprocess.Popen([sys.executable, "-c", HOLDER, project], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunUnderWay, match="flights") as caught, only_run(site.state, "flights", "another run"):
            raise AssertionError("two at once")
        assert caught.value.winner
        assert (caught.value.winner["pid"], caught.value.winner["run_key"]) == (holder.pid, "a run")
        with only_run(site.state, "another", "a run"):
            pass
        holder.kill()
    with only_run(site.state, "flights", "another run") as lease:
        assert lease.held.epoch == 2
