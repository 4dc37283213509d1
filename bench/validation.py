"""Checking blobs where they lie: ours, what people use today, and the limit, on the same bytes.

    python -m bench.validation --only limit,ours --sets parquet --rounds 1      a look, in seconds
    python -m bench.validation --large 50000000                                 and ours on ten times the rows

Every contender runs in a process of its own, in turns with the others, against Azurite on loopback. Bytes over the
wire are counted in a round of their own, behind a proxy, where nothing is timed. For `make bench BENCH=validation`
the variables ROWS, ROUNDS, ONLY, SETS and LARGE say what the options say.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from bench.harness import Row, report
from bench.kit import facts
from bench.kit.place import Place, emulator, in_folder, uploaded
from bench.kit.race import BENCH, Contender, Race

_ALL = ("parquet", "csv", "large")
_BOTH = ("parquet", "csv")
CONTENDERS = (
    Contender("limit", "limit", "limit: ranged reads of those column chunks and decoding (Arrow)", _ALL),
    Contender("ours", "ours", "insitu, cold", _ALL),
    Contender("ours-one-new", "ours", "insitu, 1 blob of 32 new", known=31),
    Contender("ours-none-new", "ours", "insitu, no blob new", known=32),
    Contender("ours-spark", "ours_on_spark", "insitu on Spark local[2]", needs_peers=True),
    Contender("gx-pandas", "gx_pandas", "GX on pandas over azure-storage-blob", _BOTH),
    Contender("gx-blobs", "gx_blobs", "GX `add_pandas_abs`, blob by blob"),
    Contender("gx-duckdb", "gx_duckdb", "GX on DuckDB (httpfs), from a table", _BOTH, needs_peers=True),
    Contender("gx-duckdb-view", "gx_duckdb_view", "GX on DuckDB (httpfs), from a view", _BOTH, needs_peers=True),
    Contender("gx-spark", "gx_spark", "GX on Spark local[2], of files downloaded first", needs_peers=True),
    Contender("pandera", "pandera_polars", "pandera on Polars", needs_peers=True),
    Contender("polars", "polars_scan", "Polars scan, hand-written", _BOTH),
)


def main(argv: Sequence[str] = ()) -> None:
    """Measure and print the tables; all contenders on Azurite go to `var/bench/validation.md` and `.json`, too.

    Exits with 1 when a contender broke.
    """
    asked = _arguments(argv)
    with ExitStack() as stack:
        account = None if asked.store == "folder" else stack.enter_context(emulator())
        races = {name: _race(asked, name, account) for name in asked.sets}
        for name, race in races.items():
            race.run(1 if name == "large" else asked.rounds)
    text = "\n\n".join(race.table() for race in races.values())
    print(text + "\n")
    report("validation", list(_rows(races)), ["great-expectations", "polars", "pyarrow", "pandas"], keep=asked.whole)
    if asked.whole:
        (BENCH / "validation.md").write_text(text + "\n")
    if broken := sorted({name for race in races.values() for name in race.broken}):
        sys.exit(f"broken: {', '.join(broken)}")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.validation")
    parser.add_argument("--rows", type=int, default=os.environ.get("ROWS") or 5_000_000)
    parser.add_argument("--rounds", type=int, default=os.environ.get("ROUNDS") or 3)
    parser.add_argument("--large", type=int, default=os.environ.get("LARGE") or 0, help="rows of the set `large`")
    names = [each.name for each in CONTENDERS]
    parser.add_argument("--only", type=_listed(names), default=os.environ.get("ONLY") or names)
    parser.add_argument("--sets", type=_listed(_ALL), default=os.environ.get("SETS") or ["parquet", "csv"])
    parser.add_argument("--store", choices=["azurite", "folder"], default="azurite")
    asked = parser.parse_args(argv)
    asked.whole = asked.only == names and asked.store == "azurite"
    asked.sets += ["large"] if asked.large and "large" not in asked.sets else []
    return asked


def _listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        if unknown := set(text.split(",")) - set(known):
            raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
        return text.split(",")

    return names


def _race(asked: argparse.Namespace, name: str, account: Place | None) -> Race:
    """Return the contenders of a data set, which is made at its first use and kept."""
    rows = {"parquet": asked.rows, "csv": asked.rows // 5, "large": asked.large}[name]
    blobs, suffix = (8, "csv") if name == "csv" else (32, "parquet")
    folder = BENCH / f"facts-{rows}-{suffix}"
    facts.write(folder, rows, blobs, suffix)
    place, batch = uploaded(account, folder) if account else in_folder(folder)
    contenders = [each for each in CONTENDERS if name in each.sets and each.name in asked.only]
    return Race(place, batch, contenders, facts.needed_bytes(folder) / 1e6)


def _rows(races: Mapping[str, Race]) -> Iterator[Row]:
    """Yield the comparisons that have a target, of the contenders that ran."""
    for name, targets in _TARGETS.items():
        race = races.get(name)
        for other, most in targets:
            ours = "ours-spark" if other == "gx-spark" else "ours"  # both on a cluster
            if race and race.has(ours, other):
                label = next(each.label for each in CONTENDERS if each.name == other)
                yield Row.relative(f"time, {name}", race.median_s(ours), race.median_s(other), label, "s", most)
    parquet = races.get("parquet")
    if parquet and parquet.has("ours"):
        yield from _more_rows(parquet, races.get("large"))


_TARGETS = {
    "parquet": (("limit", 1.5), ("gx-pandas", 1 / 15), ("gx-duckdb", 1 / 3), ("gx-spark", 1 / 4)),
    "csv": (("gx-duckdb-view", 1 / 10),),
}


def _more_rows(parquet: Race, large: Race | None) -> Iterator[Row]:
    """Yield what is compared with something else than another contender's time."""
    if parquet.has("ours-one-new"):
        news, cold = parquet.median_s("ours-one-new"), parquet.median_s("ours")
        yield Row.relative("1 new blob of 32", news, cold, "insitu, cold", "s", 1 / 12)
    if "ours" in parquet.wire_mb:
        read, needed = parquet.wire_mb["ours"], parquet.needed_mb
        yield Row.relative("bytes over the wire", read, needed, "the needed column chunks", "MB", 1.05)
    if parquet.has("limit"):
        yield Row("memory", parquet.memory_mb("ours"), parquet.memory_mb("limit"), "limit", "MB", 600)
    if large and large.has("ours"):
        much, few = large.memory_mb("ours"), parquet.memory_mb("ours")
        yield Row.relative("memory, the larger set", much, few, "the smaller set", "MB", 1.1)


if __name__ == "__main__":
    main(sys.argv[1:])
