"""What the flow tests share, besides fixtures: projects, the installed command, and an auditor."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from planted import require_silence
from warm_commands import warm_command

INSITU = Path(sys.executable).parent / "insitu"
REPO = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
NOBODY_HOME = "http://127.0.0.1:9/api"
"""An address where no Prefect server is: a command that needs one fails."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output; NaN is no JSON."""
        return json.loads(self.out, parse_constant=_refuse)

    @property
    def flow_run(self) -> str:
        """The id of the Prefect flow run that the command started."""
        return re.findall(r"flow-run/([0-9a-f-]{36})", self.err)[-1]

    def require(self, code: int) -> Done:
        """Return this; fail with what was printed when the exit code is another."""
        assert self.code == code, f"exit code {self.code}, wanted {code}\n{self.out[-3000:]}\n{self.err[-6000:]}"
        return self

    @property
    def complaint(self) -> str:
        """What insitu itself printed about the error: from its code to the end."""
        found = re.search(r"^E-[A-Z]+ .*", self.err, re.MULTILINE | re.DOTALL)
        assert found, self.err[-6000:]
        assert "Traceback" not in found[0]
        return found[0]


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


@dataclass(frozen=True)
class Project:
    """A project folder of its own, and the surroundings in which commands run there."""

    root: Path
    environ: Mapping[str, str] = field(repr=False)
    door: Path | None = None
    """That of a process which does commands at once; see `warm_commands`."""

    @property
    def var(self) -> Path:
        return self.root / "var"

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start the installed command in a folder of the project."""
        return self._start([str(INSITU), *arguments], variables, start_new_session=True)

    def run(self, *arguments: str, **variables: str) -> Done:
        """Run the installed command to its end; a fork of the warm process retrains where that has its settings."""
        if self.door is None or arguments[0] != "retrain" or any(name.startswith("PREFECT_") for name in variables):
            return finish(self.start(*arguments, **variables))
        command, handed = warm_command(self.door, arguments)
        return finish(self._start(command, variables | handed))

    def _start(self, command: list[str], variables: Mapping[str, str], **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.root / "models",
            env={**self.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def retrain(self, *options: str, **variables: str) -> Done:
        return self.run("retrain", "flights", *options, **variables)

    def copy(self, root: Path) -> Project:
        """Return a copy with all its state, which stands on its own at another path."""
        heavy = self.var / "images" / ".cache"
        ignore = shutil.ignore_patterns("scoring", ".cache")
        shutil.copytree(self.root, root, symlinks=True, ignore=ignore)
        twin = replace(self, root=root)
        if heavy.is_dir():
            shutil.copytree(heavy, root / "var" / "images" / ".cache", copy_function=os.link)
        twin._move_mlflow(self.root)
        return twin

    def _move_mlflow(self, old: Path) -> None:
        """MLflow remembers absolute paths: let the copy have those of its own."""
        if not self.mlflow_db.is_file():
            return
        columns = [
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("model_versions", "source"),
            ("model_versions", "storage_location"),
        ]
        with closing(sqlite3.connect(self.mlflow_db)) as db, db:
            for table, column in columns:
                db.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old.as_uri(), self.root.as_uri()))

    @property
    def mlflow_db(self) -> Path:
        return self.var / "mlflow" / "mlflow.db"

    def blob(self, month: int) -> Path:
        return self.var / "blobs" / "flights" / f"month={month:02d}" / "flights.parquet"

    def kept(self, what: str) -> list[Any]:
        """Return what the journals of all runs hold about *what*."""
        return [json.loads(path.read_text()) for path in sorted(self.var.glob(f"state/runs/flights/*/{what}.json"))]

    def job_processes(self) -> list[int]:
        """Return the processes that belong to edge jobs of this project, by their arguments or variables."""
        return self.processes("jobs")

    def processes(self, folder: str) -> list[int]:
        """Return the processes whose arguments or variables name a *folder* of var/."""
        mark = str(self.var / folder).encode()
        return [pid for pid, traces in _processes() if mark in traces]


def _processes() -> Iterator[tuple[int, bytes]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"\nState:\tZ" not in (folder / "status").read_bytes():
                yield int(folder.name), (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue  # it ended meanwhile


def finish(process: subprocess.Popen[str], timeout_s: float = 300) -> Done:
    """Wait for a started command."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    require_silence(out, err)
    return Done(process.returncode, out, err)


@dataclass(frozen=True)
class Audit:
    """What independent eyes see: the registry's tables and the layout's index, not the flow's word."""

    versions: list[str]
    mlflow_runs: int
    champion: list[str]
    tags: list[tuple[str, str]]
    attached: int


def audit(project: Project) -> Audit:
    """Count what *project* holds, without insitu's or MLflow's code."""
    index = project.var / "images" / "flights" / "index.json"
    images = json.loads(index.read_text())["manifests"] if index.is_file() else []
    named = [(one.get("annotations", {}).get("org.opencontainers.image.ref.name"), one["digest"]) for one in images]
    tags = sorted((tag, digest) for tag, digest in named if tag)
    attached = sum(not tag for tag, _ in named)
    if not project.mlflow_db.is_file():
        return Audit([], 0, [], tags, attached)
    with closing(sqlite3.connect(project.mlflow_db)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'model_versions'").fetchone():
            return Audit([], 0, [], tags, attached)
        versions = db.execute("SELECT version FROM model_versions WHERE name = 'flights' ORDER BY version")
        runs = db.execute("SELECT count(*) FROM runs")
        champion = db.execute("SELECT version FROM registered_model_aliases WHERE alias = 'champion'")
        numbers, names = [str(v) for (v,) in versions], [str(v) for (v,) in champion]
        return Audit(numbers, runs.fetchone()[0], names, tags, attached)


def put_month(project: Project, extract: Path, month: int) -> None:
    """Let a month arrive."""
    path = project.blob(month)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(extract / path.parent.name / path.name, path)


@dataclass(frozen=True)
class PublishedRun:
    """A project, and how its one run went: for reading only."""

    project: Project
    done: Done
    record: dict[str, Any]
    points: list[str]


@dataclass(frozen=True)
class CrashStory:
    """A run that was killed at one point after the other, and then let go."""

    project: Project
    starts: list[tuple[str, Done]]
    left: list[tuple[str, list[int]]]
    last: Done


NewProject = Callable[..., Project]
