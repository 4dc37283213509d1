"""Where the keys of a TOML text stand: `tomllib` gives values without positions.

A key inside an inline table or an array stands where the key stands that holds it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

KeyPath = tuple[str | int, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_SPACE = re.compile(r"\s*")
_HEADER = re.compile(rf"\[\[?[ \t]*({_KEY})[ \t]*\]\]?")
_ASSIGNMENT = re.compile(rf"({_KEY})[ \t]*=")
# Strings and comments are taken whole, so that what looks like a key or a bracket inside is none.
_TOKEN = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}'''
    r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[^"'\#\[\]{}\n]+|.""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every key and table of *text*; of broken text, as many as can be told."""
    lines: dict[KeyPath, int] = {}
    for path, line in _statements(text):
        lines.setdefault(path, line)
    for path, line in list(lines.items()):
        for size in range(1, len(path)):
            lines.setdefault(path[:size], line)
    return lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of *path*, else of the nearest table around it, else 1."""
    around = (path[:size] for size in range(len(path), 0, -1))
    return next((lines[outer] for outer in around if outer in lines), 1)


def first_repetition(text: str) -> tuple[KeyPath, int, int] | None:
    """Return the first key that is written twice, with both lines, or None."""
    seen: dict[KeyPath, int] = {}
    for path, line in _statements(text):
        if path in seen:
            return path, seen[path], line
        seen[path] = line
    return None


def _statements(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Yield the full path and the line of every table header and every `key =`."""
    table: KeyPath = ()
    position = _after(_SPACE, text, 0)
    while position < len(text):
        line = text.count("\n", 0, position) + 1
        if header := _HEADER.match(text, position):
            table = _path(header[1])
            yield table, line
        elif assignment := _ASSIGNMENT.match(text, position):
            yield table + _path(assignment[1]), line
        rest = header.end() if header else position
        position = _after(_SPACE, text, _end_of_statement(text, rest))


def _end_of_statement(text: str, position: int) -> int:
    """Return where the line ends that is not inside a string or a bracket."""
    depth = 0
    for token in _TOKEN.finditer(text, position):
        if token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            return token.end()
    return len(text)


def _path(key: str) -> KeyPath:
    """Return the parts of a dotted key; `tomllib` knows the rules of quoting."""
    try:
        inner: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return (key,)
    parts = []
    while isinstance(inner, dict):
        ((part, inner),) = inner.items()
        parts.append(part)
    return tuple(parts)


def _after(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
