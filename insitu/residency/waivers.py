"""What people let pass although a scan does not: which finds a waiver is about, and none beside them.

Pure, and light enough to travel with an edge job; who gave which waiver, and whether it counts, `insitu.waivers` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["records", "unopened", "capacity"]


@dataclass(frozen=True)
class Find:
    """Something in an artifact that keeps it from leaving.

    Attributes:
        what: "rows", "lines", "cells", "unopened" or "capacity".
        file: The file, and the part of it, as the scan names them; empty for the whole artifact.
        estimator: Whose bytes they are; None where nothing says.
        columns: Whose values they are, all of them; empty where nothing says.
        count: How many different ones; of what is unopened, one.
        digest: Hex sha256 of the file; None where nobody knows.
    """

    what: str
    file: str
    estimator: str | None
    columns: tuple[str, ...]
    count: int
    digest: str | None = None

    @property
    def told(self) -> str:
        """One line for people."""
        if self.what == "capacity":
            return f"room for {self.count:,} rows in any encoding"
        if self.what == "unopened":
            return f"{self.file}, which cannot be opened"
        columns = f" of {', '.join(self.columns[:8])}" if self.columns else ""
        return f"{self.count:,} {self.what}{columns} in {self.file}" + (
            f" ({self.estimator})" if self.estimator else ""
        )

    @staticmethod
    def of(value: Mapping[str, Any]) -> Find:
        """Return the find that a run's record tells of."""
        names = Find.__dataclass_fields__
        return Find(**{key: value[key] for key in names if key in value} | {"columns": tuple(value["columns"])})


@dataclass(frozen=True)
class Scope:
    """What a waiver is about; what is None, or empty, does not narrow it.

    Attributes:
        what: Records that a scan finds, what it cannot open, or how much the artifact could hold.
        file: A file that training left, such as `model/model.pkl`, with all that is in it; or one part of it.
        estimator: As the scan names it.
        columns: The only ones whose values may be there.
        digest: Hex sha256 of the file: of these very bytes.
        most: How many records at most; of the capacity, how many rows.
    """

    what: Kind
    file: str | None = None
    estimator: str | None = None
    columns: tuple[str, ...] = ()
    digest: str | None = None
    most: int | None = None

    def covers(self, find: Find) -> bool:
        """Tell whether *find* is wholly what this is about; what nothing is known of is not."""
        kind = find.what if find.what in ("unopened", "capacity") else "records"
        return (
            kind == self.what
            and (self.file is None or find.file == self.file or find.file.startswith(f"{self.file}!"))
            and self.estimator in (None, find.estimator)
            and self.digest in (None, find.digest)
            and (not self.columns or (bool(find.columns) and set(find.columns) <= set(self.columns)))
            and (self.most is None or find.count <= self.most)
        )

    @property
    def told(self) -> str:
        """What it is about, in one line."""
        if self.what == "capacity":
            return f"room for at most {self.most:,} rows in any encoding"
        parts = [
            f"of {', '.join(self.columns)}" if self.columns else "",
            f"in {self.estimator}" if self.estimator else "",
            f"in {self.file}" if self.file else "",
            f"of sha256 {self.digest[:12]}" if self.digest else "",
            f"at most {self.most:,}" if self.most is not None else "",
        ]
        thing = "records" if self.what == "records" else "what cannot be opened"
        return " ".join([thing, *filter(None, parts)])


def root_of(path: str) -> str:
    """Return the file that a part is in."""
    return path.partition("!")[0]
