"""Real projects in paths with spaces, one real Prefect server, and a run that was published."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from flow_helpers import (
    KILLED,
    REPO,
    CrashStory,
    NewProject,
    Project,
    PublishedRun,
    put_month,
)
from loopback import wait_until
from planted import leaks, planted
from prefect_server import PrefectServer, prefect_server
from warm_commands import warm_commands

ROWS = 1500
MONTHS = (1, 2, 3)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long story goes on in the background: ask for its end last."""
    items.sort(key=lambda item: "crash_story" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def _start_the_long_story_early(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # its file has a process of its own; here every process would start it
    if any("crash_story" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("crash_story")


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the projects are; the path has spaces."""
    return tmp_path_factory.mktemp("whole flows with spaces")


@pytest.fixture(scope="session")
def surroundings() -> dict[str, str]:
    """The environment of a person who has set nothing for insitu, Prefect or MLflow."""
    ours = ("INSITU_", "PREFECT_", "MLFLOW_", "DO_NOT_TRACK", "GX_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, surroundings: dict[str, str]) -> Iterator[PrefectServer]:
    """One server for all: a temporary one per run takes seconds."""
    home = tmp_path_factory.mktemp("prefect")
    with prefect_server(home, surroundings) as ours:
        yield ours


@pytest.fixture(scope="session")
def extract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The blobs of four months, a sample of the real flights with some planted tokens."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from insitu.demo import _read_flights, blob_name

    folder, flights = tmp_path_factory.mktemp("extract"), _read_flights()
    for month in (*MONTHS, 4):
        rows = flights.filter(pc.equal(flights["month"], month))
        drawn = np.sort(np.random.default_rng(month).choice(len(rows), ROWS, replace=False))
        path = folder / blob_name(month)
        path.parent.mkdir(parents=True)
        pq.write_table(planted(rows.take(drawn)), path, compression="zstd")
    return folder


@pytest.fixture(scope="session")
def door(workshop: Path, server: PrefectServer, surroundings: dict[str, str]) -> Iterator[Path]:
    """That of a process which retrains at once, on our server."""
    environ = surroundings | {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(server.home)}
    with tempfile.TemporaryDirectory(prefix="warm-") as folder, warm_commands(Path(folder) / "door", environ) as ours:
        yield ours  # the path of a socket has to be short


@pytest.fixture(scope="session")
def new_project(
    workshop: Path, extract: Path, server: PrefectServer, surroundings: dict[str, str], layer_cache: Path, door: Path
) -> Iterator[NewProject]:
    """Make a project: the repository's own models, suites and sites, and some months of data.

    A project with `like` is a copy of that one, with all its state.
    """
    environ = surroundings | {"PREFECT_API_URL": server.url, "PREFECT_HOME": str(server.home)}
    made: list[Project] = []

    def make(name: str, like: Project | None = None) -> Project:
        root = workshop / name
        if like:
            made.append(like.copy(root))
            return made[-1]
        for folder in ("deployments", "models", "data_checks"):
            shutil.copytree(REPO / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        model = root / "models" / "flights"
        shutil.copy(Path(__file__).parent / "rehearse.py", model)
        settings = (model / "model.toml").read_text()
        assert '"train.py"' in settings
        assert "margin = 0.01" in settings  # a sample is too small to be sure of less
        settings = settings.replace('"train.py"', '"rehearse.py"').replace("margin = 0.01", "margin = 0.3")
        (model / "model.toml").write_text(settings)
        shutil.copytree(layer_cache, root / "var" / "images" / ".cache" / "layers", copy_function=os.link)
        made.append(Project(root, environ, door))
        for month in MONTHS:
            put_month(made[-1], extract, month)
        return made[-1]

    yield make
    held = leaks((project.root for project in made), server.home)
    for project in made:
        shutil.rmtree(project.root, ignore_errors=True)
    assert held == {}


@pytest.fixture(scope="session")
def published(new_project: NewProject) -> PublishedRun:
    """An undisturbed run from nothing to a published image."""
    project = new_project("an undisturbed run")
    points = project.root.parent / "crash points"
    done = project.retrain("--json", INSITU_CRASH_LOG=str(points), PYTHONHASHSEED="0").require(0)
    return PublishedRun(project, done, done.json, points.read_text().split("\n")[:-1])


@pytest.fixture(scope="session")
def validated(new_project: NewProject) -> Project:
    """A project whose run was killed when training was next: copies of it start there."""
    project = new_project("validated")
    project.retrain(INSITU_CRASH_AT="train:before").require(KILLED)
    return project


@pytest.fixture(scope="session")
def crash_story(new_project: NewProject, published: PublishedRun) -> Iterator[Future[CrashStory]]:
    """The story of all crash points, told in the background: it takes minutes."""
    project = new_project("killed at every point")

    def tell() -> CrashStory:
        starts, left = [], []
        for point in list(dict.fromkeys(published.points)):
            # Another seed: skl2onnx writes the order of a set into its export.
            starts.append((point, project.retrain(INSITU_CRASH_AT=point, PYTHONHASHSEED="1")))
            wait_for_end_of_jobs(project)
            left.append((point, project.job_processes()))
        return CrashStory(project, starts, left, project.retrain("--json", PYTHONHASHSEED="1"))

    with ThreadPoolExecutor(1) as background:
        yield background.submit(tell)


def wait_for_end_of_jobs(project: Project) -> None:
    """Give what a killed command left five seconds to go."""
    with suppress(AssertionError):  # the caller looks for itself
        wait_until(lambda: not project.job_processes(), 5, "the end of the edge job")


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[Project], Path]:
    """Write the manifest that the last run of a project pinned."""

    def write(project: Project) -> Path:
        path = tmp_path / "batch.json"
        path.write_text(json.dumps(project.kept("snapshot")[-1]["value"]["batch"]))
        return path

    return write
