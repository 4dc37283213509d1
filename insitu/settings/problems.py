"""From what Pydantic objects to, to problems that name file, line, key, found, wanted and the nearest key."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any, NamedTuple, get_origin

from pydantic import BaseModel, ValidationError

from insitu.errors import Problem
from insitu.settings.sources import ENVIRONMENT, Source, did_you_mean, dotted, toml_value
from insitu.settings.toml_lines import KeyPath
from insitu.settings.words import (
    KIND_FIELD,
    NAME_FIELD,
    Slot,
    choices,
    in_words,
    keys_of,
    nearest,
    paths_of,
    slot_at,
    without_kinds,
)

_SECRET = re.compile(r"password|secret|token|key|\bsas", re.IGNORECASE)
_SHOWN_CHARACTERS = 60


class Clash(NamedTuple):
    """A value that is right by itself and wrong together with others.

    Attributes:
        wanted: What would be right here.
        below: Where, relative to the key that is validated.
        known: Words that this one is probably a misspelling of.
    """

    wanted: str
    below: KeyPath = ()
    known: tuple[str, ...] = ()


class Contradiction(ValueError):
    """Raised by validators of settings models: values that clash, all at once."""

    def __init__(self, *clashes: Clash) -> None:
        self.clashes = clashes
        super().__init__("; ".join(clash.wanted for clash in clashes))


def problems_of(source: Source, model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Return every problem of *source*, in the order of the file; misspelt required keys count once."""
    details = error.errors(include_url=False)
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"]
    meant = {path: _nearest_path(model, path) for path in unknown}
    problems: list[Problem] = []
    for detail in details:
        path = detail["loc"]
        if path in meant:
            problems.append(unknown_key(source, model, path, meant[path]))
        elif detail["type"] == "missing" and path not in meant.values():
            problems.append(_problem(source, without_kinds(model, path), in_words(_slot(model, path))))
        elif detail["type"] == "value_error":
            problems.extend(_objections(source, without_kinds(model, path), detail["ctx"]["error"]))
        elif detail["type"] in ("union_tag_invalid", "union_tag_not_found"):
            problems.append(_ill_typed(source, model, (*path, KIND_FIELD), None))
        elif detail["type"] != "missing":
            problems.append(_ill_typed(source, model, path, detail["input"]))
    return sorted(problems, key=lambda problem: (problem.line is None, problem.line))


def unknown_key(source: Source, model: type[BaseModel], path: KeyPath, meant: KeyPath | None = None) -> Problem:
    """Return the problem of a key that *model* does not know, with the nearest one that it does."""
    if path == (NAME_FIELD,):
        wanted = "no such key: the name is taken from the name of the file or folder"
    else:
        wanted = "one of " + ", ".join(keys_of(_slot(model, path[:-1]).kind))
    path = without_kinds(model, path)
    hint = did_you_mean(source.spelled(without_kinds(model, meant), path)) if meant else None
    value = shown(path, _value_at(source.values, path))
    return Problem(*source.place(path), f"an unknown key, holding {value}", wanted, hint)


def _objections(source: Source, path: KeyPath, error: Exception) -> list[Problem]:
    """Return the problems that one of our own validators raised."""
    clashes = error.clashes if isinstance(error, Contradiction) else (Clash(str(error)),)
    return [
        _problem(source, path + clash.below, clash.wanted, _nearest_word(source, path + clash.below, clash.known))
        for clash in clashes
    ]


def _ill_typed(source: Source, model: type[BaseModel], path: KeyPath, value: Any) -> Problem:
    slot, path = _slot(model, path), without_kinds(model, path)
    hint = _nearest_word(source, path, choices(slot))
    if not hint and source.place(path)[0] != ENVIRONMENT and not _SECRET.search(dotted(path)):
        rewritten = _rewritten(slot, value)
        hint = f"write {rewritten}" if rewritten else None
    return _problem(source, path, in_words(slot), hint)


def _problem(source: Source, path: KeyPath, wanted: str, hint: str | None = None) -> Problem:
    return Problem(*source.place(path), shown(path, _value_at(source.values, path)), wanted, hint)


def _slot(model: type[BaseModel], path: KeyPath) -> Slot:
    return slot_at(model, path) or Slot(Any)


def _nearest_path(model: type[BaseModel], path: KeyPath) -> KeyPath | None:
    """Return the nearest key of the same table, else the key of that name in another table."""
    *table, last = path
    if near := nearest(str(last), keys_of(_slot(model, tuple(table)).kind)):
        return (*table, near)
    return next((other for other in paths_of(model) if other[-1] == last), None)


def _nearest_word(source: Source, path: KeyPath, known: tuple[str, ...]) -> str | None:
    """Offer the known word that is nearest to the value at *path*, or to the key when that holds a table."""
    value = _value_at(source.values, path)
    word = path[-1] if isinstance(value, dict) else value
    return did_you_mean(nearest(str(word), known))


def _rewritten(slot: Slot, value: Any) -> str | None:
    """Return how *value* would be written in the type that is wanted, when that is plain to see."""
    if get_origin(slot.kind) is list and isinstance(value, str):
        return json.dumps(value.split())
    if slot.kind is int and isinstance(value, float) and value.is_integer():
        return str(int(value))
    if slot.kind in (int, float) and isinstance(value, str):
        return value if type(toml_value(value)) is slot.kind else None
    if slot.kind is str and type(value) in (int, float, date):
        return f'"{value}"'
    return None


def _value_at(values: Any, path: KeyPath) -> Any:
    """Return the value at *path*, or None where nothing stands."""
    for part in path:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def shown(path: KeyPath, value: Any) -> str:
    """Return *value* as the file would show it; never a secret, never a long text."""
    if value is None:
        return "nothing"
    if _SECRET.search(dotted(path)):
        return "a value that is not shown"
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, dict) for item in value)):
        return "a table" if isinstance(value, dict) else "a list of tables"
    text = re.sub(r"//[^/@\s]*@", "//***@", json.dumps(value, ensure_ascii=False, default=str))
    text = re.sub(r"\bsig=[^&\s\"]*", "sig=***", text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
