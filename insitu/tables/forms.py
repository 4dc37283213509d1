"""The format of a blob, by the end of its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from insitu.batch import Blob


@dataclass(frozen=True)
class Form:
    """How the rows of a blob are written.

    Attributes:
        kind: What people call it; blobs of one kind make a table.
        delimiter: Of a CSV whose name settles it; None where the settings say.
    """

    kind: Literal["Parquet", "CSV", "JSON Lines"]
    delimiter: str | None = None
    gzip: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the types of the columns are found by reading."""
        return self.kind != "Parquet"


_PARQUET = Form("Parquet")
_TEXT = {
    ".csv": Form("CSV"),
    ".tsv": Form("CSV", "\t"),
    ".jsonl": Form("JSON Lines"),
    ".ndjson": Form("JSON Lines"),
}


def form_of(blob: Blob) -> Form:
    """Return the format of *blob*: `.csv`, `.tsv`, `.jsonl`, `.ndjson` and `.gz` of them are text, all else Parquet."""
    name = blob.name.lower()
    for suffix, form in _TEXT.items():
        if name.endswith((suffix, f"{suffix}.gz")):
            return Form(form.kind, form.delimiter, name.endswith(".gz"))
    return _PARQUET
