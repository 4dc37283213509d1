"""What the leak scan finds, over all estimators of scikit-learn and over packages that hold no data; and what it costs.

make bench BENCH=residency
.venv/bin/python -m bench.residency --corpus 2000       # MB of installed packages; 150 by default
"""

from __future__ import annotations

import hashlib
import site
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from bench.harness import Row, interleaved, report
from bench.kit.census import census
from insitu.residency.decode import Part, parts
from insitu.residency.scan import Scanner, Source
from insitu.residency.sources import Matrix
from insitu.residency.verdict import rule
from insitu.residency.waivers import root_of

_ENTRIES, _COLUMNS = 1_000_000, 12
_SCANNED_BYTES = 64 << 20
_MOST_S_PER_GB = 40.0
_TOLD_BYTES = 5_000_000


def people(rows: int) -> Source:
    """Return records of normal numbers."""
    values = np.random.default_rng(1).normal(size=(rows, _COLUMNS)) * 10 + 100
    return Source([Matrix(("the batch",), tuple("abcdefghijkl"), values)])


def of_estimators() -> Iterator[Row]:
    """Yield how many estimators the scanner gets wrong."""
    found = list(census())
    leaky = [one for one in found if one.values]
    for one in found:
        if one.values or one.ruling.verdict != "clear":
            held = f"{one.ruling.rows_found} rows, {one.ruling.cells_found} values (oracle {one.values})"
            print(f"  {one.name:<34} {one.ruling.verdict:<8} {held} {one.ruling.unopened or ''}")
    blocked, warned = (sum(one.ruling.verdict == verdict for one in leaky) for verdict in ("blocked", "warned"))
    print(f"  {len(found)} fitted, {len(leaky)} keep data: {blocked} blocked, {warned} warned of")
    missed, alarmed = sum(one.is_missed for one in found), sum(one.is_alarmed for one in found)
    yield Row("estimators that keep data, missed", missed, len(leaky), "estimators that keep data", "", 0)
    yield Row("estimators that keep none, blocked", alarmed, len(found) - len(leaky), "estimators that do not", "", 0)


def of_cost() -> Iterator[Row]:
    """Yield what a scan takes, at about a million windows."""
    scanner = Scanner(people(1000))
    rows = round(1000 * _ENTRIES / scanner.index.entries)
    scanner = Scanner(people(rows))
    data = np.random.default_rng(2).integers(0, 256, _SCANNED_BYTES, np.uint8).tobytes()
    pieces = [Part("random", data[start : start + (16 << 20)]) for start in range(0, len(data), 16 << 20)]
    ours, reference = interleaved([lambda: scanner.scan(pieces), lambda: hashlib.sha256(data).digest()])
    gb = _SCANNED_BYTES / 1e9
    print(f"  {scanner.index.entries:,} windows of {rows:,} rows; {gb * 1000 / ours:.0f} MB/s per core")
    yield Row(
        "scanning, parts as they are", ours / gb, reference / gb, "sha256 of the same bytes", "s/GB", _MOST_S_PER_GB
    )
    yield Row("the index", scanner.index.bits_per_entry, 64, "the hashes themselves", "bit", 32)


def of_packages(megabytes: int) -> Iterator[Row]:
    """Yield how many files of installed packages are blocked; each package is one artifact, as a model's folder is."""
    scanner, taken, files, blocked, started = Scanner(people(22_000)), 0, 0, 0, perf_counter()
    root = Path(site.getsitepackages()[0])
    for package in sorted(root.iterdir()):
        if taken > megabytes * 1_000_000:
            break
        held = [path for path in [package, *sorted(package.rglob("*"))] if path.is_file() and not path.is_symlink()]
        begun = perf_counter()
        ruling = rule(scanner.scan(part for path in held for part in parts(str(path.relative_to(root)), path)))
        size, seconds = sum(path.stat().st_size for path in held), perf_counter() - begun
        taken, files = taken + size, files + len(held)
        if ruling.verdict == "blocked":
            shut = {root_of(name) for name in (*dict(ruling.unopened), *(holder.file for holder in ruling.holders))}
            blocked += len(shut)
            print(f"  blocked {', '.join(sorted(shut))}: {ruling.rows_found} rows, {ruling.cells_found} values")
        if size > _TOLD_BYTES:
            rate = f"{size / 1e6:,.0f} MB at {size / 1e6 / seconds:.1f} MB/s"
            print(
                f"  {package.name}: {rate}; so far {files:,} files, {taken / 1e6:,.0f} MB, {blocked} blocked",
                flush=True,
            )
    seconds = perf_counter() - started
    print(f"  {files:,} files, {taken / 1e6:,.0f} MB, opened and scanned at {taken / 1e6 / seconds:.1f} MB/s")
    yield Row("files of packages that are blocked", blocked, files, "files that were scanned", "", 0)


def main(arguments: Sequence[str] = ()) -> None:
    """Run all parts, or the one that is asked for."""
    parser = ArgumentParser()
    parser.add_argument("--corpus", type=int, default=150, help="MB of installed packages")
    parser.add_argument("--only", choices=["estimators", "cost", "packages"])
    chosen = parser.parse_args(arguments)
    benches = {"estimators": of_estimators, "cost": of_cost, "packages": lambda: of_packages(chosen.corpus)}
    made = [row for name, bench in benches.items() if chosen.only in (None, name) for row in bench()]
    report("residency", made, ["numpy", "scikit-learn"], keep=chosen.only is None)


if __name__ == "__main__":
    main(sys.argv[1:])
