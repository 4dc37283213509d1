"""From what a JSON schema objects to, to problems that name line, key, found, wanted and the nearest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from prefect.utilities.schema_tools import validate

from insitu.errors import Problem
from insitu.settings.problems import shown
from insitu.settings.sources import Source, did_you_mean
from insitu.settings.toml_lines import KeyPath
from insitu.settings.words import nearest

_TYPES: Mapping[str, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def schema_problems(
    source: Source, path: KeyPath, values: Mapping[str, Any], schema: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield what is wrong with *values*, which stand at *path*: unknown names, and what *schema* does not allow."""
    known = schema.get("properties", {})
    for name in values:
        if name not in known:
            yield _unknown(source, (*path, name), tuple(known))
    for error in validate({n: v for n, v in values.items() if n in known}, dict(schema), ignore_required=True):
        yield from _of_error(source, path, error)


def missing_problems(
    source: Source, path: KeyPath, values: Mapping[str, Any], schema: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield the required names that *values* lacks, for runs that nobody is asked about."""
    for name in schema.get("required", ()):
        if name not in values:
            wanted = in_words(schema["properties"][name])
            yield Problem(*source.place(path), f"no parameter {name}", f"parameters.{name}, {wanted}")


def in_words(schema: Mapping[str, Any]) -> str:
    """Return what *schema* allows, such as "a number, at least 0, at most 1"."""
    if "enum" in schema:
        return " or ".join(json.dumps(choice) for choice in schema["enum"])
    if "anyOf" in schema:  # Prefect adds "or nothing" to what may be left out
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        options = [rest | option for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(in_words(option) for option in options)
    limits = (("minimum", "at least"), ("maximum", "at most"), ("pattern", "matching"))
    said = [f"{word} {schema[key]}" for key, word in limits if key in schema]
    return ", ".join([_TYPES.get(str(schema.get("type")), "another value"), *said])


def _of_error(source: Source, path: KeyPath, error: Any) -> Iterator[Problem]:
    here, schema = (*path, *error.absolute_path), error.schema
    if error.validator == "additionalProperties" and schema.get("additionalProperties") is False:
        known = tuple(schema.get("properties", {}))
        for name in error.instance:
            if name not in known:
                yield _unknown(source, (*here, name), known)
        return
    choices = tuple(str(choice) for choice in schema.get("enum", ()))
    hint = did_you_mean(nearest(str(error.instance), choices))
    yield Problem(*source.place(here), shown(here, error.instance), in_words(schema), hint)


def _unknown(source: Source, path: KeyPath, known: tuple[str, ...]) -> Problem:
    hint = did_you_mean(nearest(str(path[-1]), known))
    return Problem(*source.place(path), "an unknown name", f"one of {', '.join(known)}", hint)
