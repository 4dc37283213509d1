"""CSV blobs, parsed while they stream by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

import pyarrow as pa
import pyarrow.csv as pc

from insitu.batch import Blob
from insitu.errors import DataError
from insitu.ports import BlobStore
from insitu.settings import ReadingSettings
from insitu.tables.forms import form_of
from insitu.tables.inference import HEAD_BYTES, misfit, types_of
from insitu.tables.records import BLOCK_BYTES, NoEnd, longest_bytes, records, too_long, until_rows
from insitu.tables.shapes import Part, Shape, unreadable
from insitu.tables.unpacking import TextFile

# What pandas takes for missing, quoted or not, so that GX on pandas sees the same nulls.
_NULLS = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"]
_NULLS += ["N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
_KIND = "CSV"
_MISFIT = re.compile(r"CSV column #(\d+): Row #(\d+): ")


def shape_of(store: BlobStore, blob: Blob, reading: ReadingSettings) -> Shape:
    """Read the header and the first rows of *blob*; raise `DataError`, `BlobChanged`."""
    instants = {name: pa.string() for name, kind in reading.types.items() if kind == "timestamp"}
    with closing(TextFile(store, blob, reading, HEAD_BYTES // 4)) as file:
        tables = list(until_rows(_Parser(blob, reading, instants).tables(file, HEAD_BYTES)))
        if not tables:
            raise unreadable(blob, _KIND, "no text" if blob.size_bytes else "0 bytes", "a header, and rows")
        schema = types_of(blob, tables[-1], reading.types)
    _require_declared(blob, schema.names, reading)
    return Shape(blob, schema, None, file.bytes_read, (Part(blob, "the text", None, schema),))


def read(
    store: BlobStore, part: Part, schema: pa.Schema, names: Sequence[str], reading: ReadingSettings
) -> Iterator[tuple[pa.Table, int]]:
    """Yield the rows in pieces, with the columns *names* as *schema* has them, and the bytes read for each.

    Raises:
        DataError: A row cannot be parsed, or a value does not fit its type.
        BlobChanged: The blob is not the pinned version any more.
    """
    types = {name: schema.field(name).type for name in names} or {schema.names[0]: pa.string()}  # to count the rows
    bytes_read = 0
    with closing(TextFile(store, part.blob, reading)) as file:
        for rows in _Parser(part.blob, reading, types, part.schema.names, list(types)).tables(file):
            yield rows.select(list(names)), file.bytes_read - bytes_read
            bytes_read = file.bytes_read


class _Parser:
    """Parses the blocks of a CSV blob one after the other.

    Each block is parsed with a row at its end that has one field too many: it is counted and left
    out. It is not seen when a quote before it is still open: then the block ends within a row.
    """

    def __init__(
        self,
        blob: Blob,
        reading: ReadingSettings,
        types: Mapping[str, pa.DataType],
        names: Sequence[str] = (),
        asked: Sequence[str] = (),
    ) -> None:
        self._blob, self._reading, self._types, self._asked = blob, reading, types, list(asked)
        self._delimiter = form_of(blob).delimiter or reading.delimiter
        self._names, self._rows, self._is_first = list(names), 0, True
        self._odd: list[pc.InvalidRow] = []

    def tables(self, text: Iterable[bytes], block_bytes: int = BLOCK_BYTES) -> Iterator[pa.Table]:
        """Yield the rows of each block; raise `DataError`."""
        try:
            yield from records(text, self._parse, longest_bytes(self._reading), block_bytes)
        except NoEnd:
            raise too_long(self._blob, self._where(1), self._reading) from None

    def _parse(self, text: bytes, is_last: bool) -> tuple[pa.Table, int] | None:
        end = len(text) if is_last else _likely_end(text)
        if end:
            try:
                return self._complete_rows(text[:end]), end
            except DataError:
                if is_last or end == _certain_end(text, self._delimiter):
                    raise
        end = _certain_end(text, self._delimiter)
        return (self._complete_rows(text[:end]), end) if end else None

    def _complete_rows(self, text: bytes) -> pa.Table:
        """Return the rows of *text*; raise `DataError` also when the last one is not complete."""
        self._odd = []
        try:
            self._names = self._names or _header(text, self._delimiter)
            rows = self._read(text + f"{self._ending}\n".encode())
        except pa.ArrowInvalid as exc:
            raise self._explained(exc) from None
        if not self._odd:
            found = f"{self._where(max(rows.num_rows, 1))} has a quote that is not closed"
            raise unreadable(self._blob, _KIND, found, "every quote closed")
        if len(self._odd) > 1:
            raise self._other_length()
        self._rows, self._is_first = self._rows + rows.num_rows, False
        return rows

    def _read(self, text: bytes) -> pa.Table:
        names = None if self._is_first else self._names
        return pc.read_csv(
            pa.BufferReader(text),
            read_options=pc.ReadOptions(block_size=len(text), use_threads=False, column_names=names),
            parse_options=_parse_options(self._delimiter, self._on_other_length),
            convert_options=pc.ConvertOptions(
                column_types=self._types,
                include_columns=self._asked,
                null_values=_NULLS,
                strings_can_be_null=True,
                true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
                check_utf8=False,  # the file has seen to it
            ),
        )

    def _on_other_length(self, row: pc.InvalidRow) -> str:
        self._odd.append(row)
        return "skip" if row.text == self._ending else "error"

    @property
    def _ending(self) -> str:
        return self._delimiter * len(self._names)

    def _explained(self, error: pa.ArrowInvalid) -> DataError:
        """Return the error in our words: Arrow's quote the row."""
        if self._odd and self._odd[-1].text != self._ending:
            return self._other_length()
        if found := _MISFIT.search(str(error)):
            name = self._names[int(found[1])]
            where = self._where(int(found[2]) - self._is_first)
            return misfit(self._blob, name, self._types[name], where, admits_text=True)
        return unreadable(self._blob, _KIND, "a row that cannot be parsed", "a header, and rows like it")

    def _other_length(self) -> DataError:
        row = next((row for row in self._odd if row.text != self._ending), self._odd[0])
        return DataError(
            f"blob {self._blob.name} has a row with another number of fields",
            found=f"{row.actual_columns} fields in {self._where(row.number - self._is_first)}",
            wanted=f"{row.expected_columns} fields, as in the header",
            next_action="mend the row; [data.reading] delimiter in model.toml is what separates fields",
        )

    def _where(self, row: int) -> str:
        """Return the place of a row, counted from 1 after those that are done."""
        return f"row {self._rows + row + 1:,} (the header is row 1)"


def _parse_options(delimiter: str, on_other_length: Callable[[pc.InvalidRow], str]) -> pc.ParseOptions:
    return pc.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_other_length)


def _header(text: bytes, delimiter: str) -> list[str]:
    """Return the names in the first row; raise `ArrowInvalid`."""
    options = pc.ReadOptions(block_size=len(text), use_threads=False)
    names = pc.open_csv(
        pa.BufferReader(text), read_options=options, parse_options=_parse_options(delimiter, lambda _: "skip")
    ).schema.names
    return list(names)


def _likely_end(text: bytes) -> int:
    """Return where the last row ends, if quotes stand around fields only; 0 when no row ends."""
    end = text.rfind(b"\n") + 1
    is_open = text.count(b'"', 0, end) % 2
    while end and is_open:
        nearer = text.rfind(b"\n", 0, text.rfind(b'"', 0, end)) + 1
        is_open ^= text.count(b'"', nearer, end) % 2
        end = nearer
    return end


def _certain_end(text: bytes, delimiter: str) -> int:
    """Return where the last row ends, whatever the fields hold; slower."""
    quoted = re.compile(rb'(?:\A|[\r\n%b])"(?:[^"]+|"")*+("?)' % re.escape(delimiter.encode()))
    fields = [(field.start(), field.end() if field[1] else len(text)) for field in quoted.finditer(text)]
    newline = text.rfind(b"\n")
    for start, end in reversed(fields):
        if newline >= end:
            break
        if newline > start:
            newline = text.rfind(b"\n", 0, start + 1)
    return newline + 1


def _require_declared(blob: Blob, names: Sequence[str], reading: ReadingSettings) -> None:
    if missing := sorted(set(reading.types) - set(names)):
        raise DataError(
            f"blob {blob.name} has no column {', '.join(missing)}",
            wanted="the columns that types under [data.reading] declares",
            next_action="mend [data.reading] in model.toml, or the data",
        )
