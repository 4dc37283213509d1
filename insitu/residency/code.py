"""Code that leaves a site with a job: text of a sensible size, without data and without secrets.

Azure ML keeps the code of every job in the cloud: a data file that lies beside `train.py`, or a key in it, would stay
there for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

from insitu.errors import EgressRefused

MOST_BYTES, MOST_FILES = 1_000_000, 2_000
"""Of one file, and of a snapshot: the service takes no more files, and no script has more bytes."""

_SECRETS: Mapping[str, re.Pattern[bytes]] = {
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a storage key": re.compile(rb"AccountKey=[A-Za-z0-9+/]{40,}"),
    "a shared access signature": re.compile(rb"[?&]sig=[A-Za-z0-9%+/]{30,}"),
    "a token": re.compile(rb"\beyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}\.|\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    "a password in an address": re.compile(rb"://[^/\s:@'\"{}$]+:(?![A-Z_*.]+@)[^/\s@'\"{}$]{3,}@"),
}
_SEPARATORS = (b",", b";", b"\t", b"|")
_DATA_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".dat", ".data")
_MOST_ROWS = 10


def require_code(files: Mapping[str, Path]) -> None:
    """Raise `EgressRefused` for the first problems of *files*, by the name that each has in the snapshot."""
    problems = list(_problems(files))
    if problems:
        raise EgressRefused(
            f"the code of the model must not leave the site as it is: {problems[0]}",
            found="; ".join(problems[1:5]) or None,
            wanted=f"at most {MOST_FILES} files of text below {MOST_BYTES:,} bytes, without data and secrets",
            next_action="take that out of the folder of the model; nothing was sent",
        )


def _problems(files: Mapping[str, Path]) -> Iterator[str]:
    if len(files) > MOST_FILES:
        yield f"{len(files):,} files"
    for name, path in files.items():
        yield from (f"{name} holds {what}" for what in _in(name, path))


def _in(name: str, path: Path) -> Iterable[str]:
    if (size := path.stat().st_size) > MOST_BYTES:
        return [f"{size:,} bytes"]
    content = path.read_bytes()
    if b"\0" in content:
        return ["what is no text"]
    found = [what for what, pattern in _SECRETS.items() if pattern.search(content)]
    if not name.endswith(".py") and _rows(content, 1 if name.lower().endswith(_DATA_ENDINGS) else 2) > _MOST_ROWS:
        found.append("rows of a table")
    return found


def _rows(content: bytes, separators: int) -> int:
    """Return the most lines, one after the other, that have equally many of a separator, *separators* at least."""
    lines, most = content.splitlines(), 0
    for separator in _SEPARATORS:
        counts = [line.count(separator) for line in lines]
        runs = (len(list(run)) for count, run in groupby(counts) if count >= separators)
        most = max(most, *runs, 0)
    return most
