"""Reads a YAML file and remembers where its keys stand; what YAML itself lets pass in silence is a problem."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from insitu.errors import Problem
from insitu.settings.sources import Source, dotted, failure, text_of
from insitu.settings.toml_lines import KeyPath

_MERGE = "<<"


def read_yaml(project: Path, file: Path) -> Source:
    """Return what *file* holds; no variable overrides it.

    Raises:
        SettingsError: The file cannot be read, is not UTF-8, is not YAML, holds a key twice, or is no table.
    """
    name = file.relative_to(project).as_posix()
    loader = yaml.SafeLoader(text_of(file, name))
    try:
        root = loader.get_single_node()
        if problems := list(_repetitions(name, root)):
            raise failure(problems)
        values = loader.construct_document(root) if root else None
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise failure([_syntax_problem(name, exc)]) from exc
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise failure([Problem(name, 1, "", "no table", "keys and their values")])
    return Source(name, "", values, dict(_lines(root)))


def _lines(node: yaml.Node | None, path: KeyPath = ()) -> Iterator[tuple[KeyPath, int]]:
    """Yield the path and the line, from 1, of every key and item; of what is merged in, where it is written."""
    if isinstance(node, yaml.MappingNode):
        below = [(key.value, key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        below = [(number, item, item) for number, item in enumerate(node.value)]
    else:
        below = []
    for part, place, value in below:
        yield (*path, part), place.start_mark.line + 1
        yield from _lines(value, (*path, part))


def _repetitions(name: str, node: yaml.Node | None, path: KeyPath = ()) -> Iterator[Problem]:
    """Yield a problem for each key that a table has twice: YAML keeps the last one."""
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _repetitions(name, item, (*path, number))
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen and key.value != _MERGE:
                found = f"written again, first in line {seen[key.value]}"
                yield Problem(name, line, dotted((*path, key.value)), found, "each key once")
            seen.setdefault(key.value, line)
            yield from _repetitions(name, value, (*path, key.value))


def _syntax_problem(name: str, error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).partition("\n")[0]
    hint = "a cron line stands in quotes" if "alias" in (getattr(error, "context", None) or what) else None
    return Problem(name, mark.line + 1 if mark else 1, "", f"not YAML: {what}", "YAML", hint)
