"""Contenders on the same blobs, in turns, each in a process of its own, and the table of what they took."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import ROOT
from bench.kit.place import Place
from bench.kit.task import Task
from bench.kit.watch import Taken, watched
from bench.kit.wire import counting
from data_checks.child import FRUGAL
from insitu.batch import Batch

BENCH = ROOT / "var" / "bench"
_PEERS_PYTHON = BENCH / "venv" / "bin" / "python"
_SLOW_S = 30  # who takes longer runs twice at most
_HEADS = ("contender", "rounds", "work s, min / median", "x limit", "total s", "CPU s", "RSS MB", "PSS MB", "wire MB")


@dataclass(frozen=True)
class Contender:
    """One way to check the data.

    Attributes:
        name: What options and rows call it.
        module: Its module of `bench.peers`.
        label: What the table calls it.
        sets: The data sets that it runs on.
        needs_peers: Whether it runs with the packages of `requirements-bench.lock`.
        known: How many blobs of the batch have statistics already; None when nothing is known.
    """

    name: str
    module: str
    label: str
    sets: tuple[str, ...] = ("parquet",)
    needs_peers: bool = False
    known: int | None = None

    @property
    def python(self) -> str:
        """The interpreter that it runs with."""
        return str(_PEERS_PYTHON) if self.needs_peers else sys.executable


@dataclass
class Race:
    """What contenders took on one batch, of which *needed_mb* are needed; who is broken has run no further."""

    place: Place
    batch: Batch
    contenders: Sequence[Contender]
    needed_mb: float
    taken: dict[str, list[Taken]] = field(default_factory=dict)
    wire_mb: dict[str, float] = field(default_factory=dict)
    pss_mb: dict[str, float] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def has(self, *names: str) -> bool:
        """Tell whether all of *names* ran."""
        return all(name in self.taken for name in names)

    def median_s(self, name: str) -> float:
        """Return the median time of a contender's work."""
        return statistics.median(self._work_s(name))

    def memory_mb(self, name: str) -> float:
        """Return the highest resident memory of a contender's processes in any round."""
        return max(taken.rss_mb for taken in self.taken[name])

    def run(self, rounds: int) -> None:
        """Run everybody in turns, and in an emulator's case once more behind the counting proxy."""
        with self._kept_statistics() as kept:
            for number in range(rounds):
                for each in self.contenders:
                    if number < 2 or not self.has(each.name) or self.taken[each.name][0].total_s < _SLOW_S:
                        self._run(each, kept, f"round {number + 1} of {rounds}")
            if self.place.url:
                self._count(kept)

    def table(self) -> str:
        """Return what everybody took, as Markdown."""
        batch = self.batch
        size = f"{len(batch.blobs)} blobs, {batch.size_bytes / 1e6:.0f} MB, of which {self.needed_mb:.1f} are needed"
        lines = [f"{batch.container}: {size}", "", _cells(_HEADS), _cells("---" for _ in _HEADS)]
        ran = [self._line(each) for each in self.contenders if self.has(each.name)]
        broken = [_cells([each.label, "broken"]) for each in self.contenders if each.name in self.broken]
        return "\n".join(lines + ran + broken)

    def _work_s(self, name: str) -> list[float]:
        return [float(taken.answer["work_s"]) for taken in self.taken[name]]

    def _line(self, each: Contender) -> str:
        name, taken, work_s = each.name, self.taken[each.name], self._work_s(each.name)
        return _cells(
            [
                each.label,
                len(taken),
                f"{min(work_s):.2f} / {self.median_s(name):.2f}",
                f"{self.median_s(name) / self.median_s('limit'):.2f}" if self.has("limit") else "–",
                f"{statistics.median(one.total_s for one in taken):.1f}",
                f"{statistics.median(one.cpu_s for one in taken):.1f}",
                f"{self.memory_mb(name):.0f}",
                f"{self.pss_mb[name]:.0f}" if name in self.pss_mb else "–",
                f"{self.wire_mb[name]:.1f}" if name in self.wire_mb else "–",
            ]
        )

    def _run(self, each: Contender, kept: Mapping[int, Path], what: str) -> None:
        if taken := self._attempt(each, self.place, kept, what):
            self.taken.setdefault(each.name, []).append(taken)

    def _count(self, kept: Mapping[int, Path]) -> None:
        """Count bytes over the wire, and memory as the kernel shares it out, which both take time."""
        with counting(self.place.port) as wire:
            for each in self.contenders:
                before = wire.received_bytes()
                if taken := self._attempt(each, self.place.through(wire.port), kept, "counting bytes", pss=True):
                    self.wire_mb[each.name] = (wire.received_bytes() - before) / 1e6
                    self.pss_mb[each.name] = taken.pss_mb

    def _attempt(
        self,
        each: Contender,
        place: Place,
        kept: Mapping[int, Path],
        what: str,
        *,
        keep: Path | None = None,
        pss: bool = False,
    ) -> Taken | None:
        """Return what a run took, None when it failed; with *keep* it is of the blobs known before."""
        if each.name in self.broken:
            return None
        print(f"{self.batch.container}, {what}: {each.name}", file=sys.stderr)
        batch = Batch.of(self.batch.container, self.batch.blobs[: each.known]) if keep else self.batch
        try:
            return _run(each, place, batch, kept.get(each.known or 0), keep=keep, pss=pss)
        except RuntimeError as exc:
            self.broken[each.name] = str(exc)
            print(f"{each.name}: {exc}", file=sys.stderr)
            return None

    @contextmanager
    def _kept_statistics(self) -> Iterator[dict[int, Path]]:
        """Yield folders with the statistics of as many first blobs as some contender knows."""
        with tempfile.TemporaryDirectory(prefix="kept-", dir=BENCH) as scratch:
            kept: dict[int, Path] = {}
            for each in self.contenders:
                if each.known and each.known not in kept:
                    kept[each.known] = Path(scratch, str(each.known))
                    self._attempt(each, self.place, {}, f"{each.known} blobs before", keep=kept[each.known])
            yield kept


def _run(
    each: Contender, place: Place, batch: Batch, known: Path | None, *, keep: Path | None = None, pss: bool = False
) -> Taken:
    """Run a contender in a process of its own, in which every expectation must hold.

    It finds the statistics of the folder *known*; its own are left in *keep*. Raises `RuntimeError`.
    """
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=BENCH) as scratch:
        folder, work = Path(scratch, "statistics"), Path(scratch, "work")
        shutil.copytree(known, folder) if known else folder.mkdir()
        work.mkdir()
        task = Task(place, batch, place.sas() if place.url else "", folder, work)
        frugal = FRUGAL if each.module == "ours" else {}  # as the flow starts it
        environ = {**os.environ, **frugal, "GX_ANALYTICS_ENABLED": "false"}
        command = [each.python, "-m", "bench.peers", each.module]
        taken = watched(command, json.dumps(task.to_json()), env=environ, cwd=ROOT, pss=pss)
        if keep:
            shutil.copytree(folder, keep)
    if taken.answer["failed"]:
        raise RuntimeError(f"these should hold: {', '.join(taken.answer['failed'])}")
    return taken


def _cells(values: Iterator[object] | Sequence[object]) -> str:
    return f"| {' | '.join(map(str, values))} |"
