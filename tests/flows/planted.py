"""Tokens in the data of every project of these tests, and the search for them in all that may leave a site.

No test asks for it: the outputs of all commands are looked at when they end, and what projects and Prefect's server
hold is looked at when the last test has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from plants import Plant, held_by

if TYPE_CHECKING:
    import pyarrow as pa

TOKENS: tuple[str, int] = ("Ada-Lovelace-1815", 918273645)
_ROWS_OF_A_MONTH = 2  # as many as the suite admits
_SOFTWARE_BYTES = 2_000_000
"""Layers beyond that are software: those of models are smaller here."""


def planted(rows: pa.Table, many: int = _ROWS_OF_A_MONTH) -> pa.Table:
    """Return *rows* with a name in the first *many*, and a number in the very first: it tells flights apart."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for column, token, last in (("tailnum", TOKENS[0], many), ("flight", TOKENS[1], 1)):
        first = pa.array([index < last for index in range(len(rows))])
        values = pc.if_else(first, pa.scalar(token, rows.schema.field(column).type), rows[column])
        rows = rows.set_column(rows.schema.get_field_index(column), column, values)
    return rows


def require_silence(*told: str) -> None:
    """Fail when what a command printed has a token in it."""
    assert not [token for token in TOKENS if any(str(token) in text for text in told)]


def leaks(projects: Iterable[Path], *others: Path) -> dict[str, list[Plant]]:
    """Return which tokens lie, in some form, in what is no private place of a site, by file: it should be none.

    Args:
        projects: Folders of projects: registry, images and logs are searched.
        others: Folders that are searched as they are.
    """
    public = [root / "var" / name for root in projects for name in ("mlflow", "images/flights", "logs")]
    seen, found = set[str](), dict[str, list[Plant]]()
    for path in _files([*public, *others]):
        content = path.read_bytes()
        if (digest := sha256(content).hexdigest()) not in seen and (held := held_by(content, TOKENS)):
            found[str(path)] = held
        seen.add(digest)
    return found


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for path in folder.rglob("*"):
            is_database = ".db" in path.name
            if path.is_file() and (is_database or path.stat().st_size < _SOFTWARE_BYTES):
                yield path
