"""Reading a scoring request: seven ways to write a table down, one table.

An error names columns and types, and never holds a value of the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Table = dict[str, list[Any]]
"""Values by column name, in the order of the model's columns; all lists are equally long."""

KEYS = ("input_data", "data", "dataframe_split", "dataframe_records", "inputs", "instances")
_NAME_CHARACTERS = 80
_NUMBERS, _WHOLE, _NAN = frozenset({float, int, type(None)}), frozenset({int, float}), float("nan")


class BadRequest(Exception):
    """The request is not a table that the model takes; *code* says in which way."""

    def __init__(self, code: str, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.column = column[:_NAME_CHARACTERS] if column is not None else None

    def to_json(self) -> dict[str, Any]:
        """Return the error as the server answers it."""
        column = {} if self.column is None else {"column": self.column}
        return {"code": self.code, "message": self.message, **column}


@dataclass(frozen=True)
class Column:
    """A column of the model's signature; *type* is one of MLflow's names."""

    name: str
    type: str
    required: bool = True


def parse(body: bytes, columns: Sequence[Column]) -> Table:
    """Return the table that *body* holds.

    Raises:
        BadRequest: Not JSON, not one of the known forms, or not the model's columns and types.
    """
    return checked(_table(_content(body), [column.name for column in columns]), columns)


def checked(table: Table, columns: Sequence[Column]) -> Table:
    """Return *table* with the model's columns in their order, as their types; raise `BadRequest`."""
    known = {column.name for column in columns}
    for name in table:
        if name not in known:
            raise BadRequest("unknown_column", "the model has no such column", name)
    return {column.name: _checked(column, table) for column in columns if _given(column, table)}


def rows_of(table: Table) -> int:
    """Return how many rows *table* has."""
    return len(next(iter(table.values()), ()))


def _content(body: bytes) -> Any:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("not_json", "the body is not JSON") from None
    given = [key for key in KEYS if isinstance(request, dict) and key in request]
    if len(given) != 1:
        raise BadRequest("unknown_form", f"wanted a JSON object with exactly one of {', '.join(KEYS)}")
    if request.get("params"):
        raise BadRequest("unknown_form", "the model takes no params")
    return request[given[0]]


def _table(content: Any, names: Sequence[str]) -> Table:
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        return _from_split(content, names)
    if isinstance(content, dict):
        return _from_columns(content)
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return _from_records(content, names)
    if isinstance(content, list):
        return _from_rows(content, names)
    raise BadRequest("unknown_form", "wanted rows, records, or columns with their values")


def _from_split(content: dict[str, Any], names: Sequence[str]) -> Table:
    given = content.get("columns", names)
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise BadRequest("unknown_form", "columns must be a list of names")
    if len(set(given)) < len(given):
        raise BadRequest("duplicate_column", "columns names one column twice")
    return _from_rows(content["data"], given)


def _from_rows(rows: list[Any], names: Sequence[str]) -> Table:
    if any(not isinstance(row, list) or len(row) != len(names) for row in rows):
        raise BadRequest("wrong_shape", f"every row must be a list of {len(names)} values")
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def _from_records(records: list[dict[str, Any]], names: Sequence[str]) -> Table:
    """Take a column as given when any record has it; where one lacks it, its value is missing."""
    given = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in given or names}


def _from_columns(content: dict[str, Any]) -> Table:
    lists = list(content.values())
    if not all(isinstance(values, list) for values in lists) or len(set(map(len, lists))) > 1:
        raise BadRequest("wrong_shape", "every column must be a list, all of one length")
    return content


def _given(column: Column, table: Table) -> bool:
    if column.name not in table and column.required:
        raise BadRequest("missing_column", f"the model wants this column, of type {column.type}", column.name)
    return column.name in table or not column.required


def _checked(column: Column, table: Table) -> list[Any]:
    values = table.get(column.name) or [None] * rows_of(table)
    try:
        return _CASTS[column.type](values)
    except (TypeError, ValueError, OverflowError):
        message = f"wanted values of type {column.type}"
        raise BadRequest("wrong_type", message, column.name) from None


def floats(values: list[Any]) -> list[Any]:
    """Return numbers as floats, and what is missing as NaN; raise `TypeError`."""
    if not _NUMBERS.issuperset(map(type, values)):
        raise TypeError
    return [_NAN if value is None else float(value) for value in values]


def integers(bits: int) -> Callable[[list[Any]], list[Any]]:
    """Return what takes whole numbers of *bits* bits, and raises `TypeError` or `ValueError` for others."""
    limit = 1 << (bits - 1)

    def cast(values: list[Any]) -> list[Any]:
        if not _WHOLE.issuperset(map(type, values)):
            raise TypeError
        whole = [int(value) for value in values]
        if whole != values or any(not -limit <= value < limit for value in whole):
            raise ValueError
        return whole

    return cast


def only(*types: type) -> Callable[[list[Any]], list[Any]]:
    """Return what takes values of *types*, and raises `TypeError` for others."""
    known = frozenset(types)

    def cast(values: list[Any]) -> list[Any]:
        if not known.issuperset(map(type, values)):
            raise TypeError
        return values

    return cast


def _times(values: list[Any]) -> list[Any]:
    return [None if value is None else datetime.fromisoformat(value) for value in values]


_CASTS: Mapping[str, Callable[[list[Any]], list[Any]]] = {
    "boolean": only(bool),
    "integer": integers(32),
    "long": integers(64),
    "float": floats,
    "double": floats,
    "string": only(str, type(None)),
    "datetime": _times,
}

TYPES = frozenset(_CASTS)
