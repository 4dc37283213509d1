"""Where settings come from: a TOML file, and environment variables that override it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from insitu.errors import Problem, SettingsError
from insitu.settings.toml_lines import KeyPath, first_repetition, key_lines, line_of
from insitu.settings.words import Slot, holds_text, nearest, slot_at

ENVIRONMENT = "environment"
# Variables of ours that are no settings: the training contract, the project folder, the crash tests.
OTHER_VARIABLES = (
    "INSITU_BATCH",
    "INSITU_OUTPUT",
    "INSITU_PARAMS",
    "INSITU_PROJECT",
    "INSITU_THREADS",
    "INSITU_CRASH_AT",
    "INSITU_CRASH_LOG",
)


@dataclass(frozen=True)
class Source:
    """The values of one settings object, and where each was written.

    Attributes:
        file: The TOML file, relative to the project.
        prefix: How the variables begin that override it, such as "INSITU_SITE__".
        values: Nested tables, overrides applied.
        lines: The line of each key in the file.
        variables: The variable that set a key, for those that came from one.
    """

    file: str
    prefix: str
    values: dict[str, Any]
    lines: dict[KeyPath, int]
    variables: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> tuple[str, int | None, str]:
        """Return file, line and key of *path*, as people would look for it."""
        for size in range(len(path), 0, -1):
            if variable := self.variables.get(path[:size]):
                return ENVIRONMENT, None, variable + dotted(("", *path[size:]))
        return self.file, line_of(self.lines, path), dotted(path)

    def spelled(self, path: KeyPath, like: KeyPath) -> str:
        """Return *path* the way *like* is written: as a variable or as a dotted key."""
        if self.place(like)[0] == ENVIRONMENT:
            return variable_name(self.prefix, path)
        return dotted(path)


def read_source(project: Path, file: Path, model: type[BaseModel], environ: Mapping[str, str], prefix: str) -> Source:
    """Read *file* and apply the variables that begin with *prefix*.

    Raises:
        SettingsError: The file cannot be read, is not UTF-8, or is not TOML.
    """
    name = file.relative_to(project).as_posix()
    text = text_of(file, name)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # also numbers too long and nesting too deep to read
        raise failure([_syntax_problem(name, text, str(exc))]) from exc
    source = Source(name, prefix, values, key_lines(text))
    for variable in sorted(environ):
        if variable.startswith(prefix):
            _override(source, variable, environ[variable], model)
    return source


def misspelt_variables(environ: Mapping[str, str], known: tuple[str, ...]) -> list[Problem]:
    """Return a problem for each INSITU_ variable that nothing reads: it would be ignored in silence."""
    groups = tuple({name[: name.index("__") + 2] for name in known})
    unread = [
        name
        for name in sorted(environ)
        if name.startswith("INSITU_") and not name.startswith(groups) and name not in OTHER_VARIABLES
    ]
    wanted = f"a variable that begins with {' or '.join(sorted(groups))}, or one of {', '.join(OTHER_VARIABLES)}"
    meant = {name: nearest(name, (*known, *OTHER_VARIABLES)) for name in unread}
    return [
        Problem(ENVIRONMENT, None, name, "an unknown variable", wanted, did_you_mean(meant[name])) for name in unread
    ]


def failure(problems: list[Problem]) -> SettingsError:
    """Return the one error that reports all *problems*, each once."""
    once = tuple(dict.fromkeys(problems))
    return SettingsError(
        f"{len(once)} problem{'s' if len(once) > 1 else ''} in the settings; nothing was started",
        problems=once,
    )


def did_you_mean(word: str | None) -> str | None:
    """Return the question that offers *word*, or None when there is nothing to offer."""
    return f"did you mean {word}?" if word else None


def dotted(path: KeyPath) -> str:
    """Return a path as people write it: `train.command[1]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path[1:])
    return "".join([*map(str, path[:1]), *parts])


def variable_name(prefix: str, path: KeyPath) -> str:
    """Return the name of the variable that overrides the key at *path*."""
    return prefix + "__".join(map(str, path)).upper()


def toml_value(text: str) -> Any:
    """Return what *text* means as a TOML value, or the text itself when it is none."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text


def text_of(file: Path, name: str) -> str:
    """Return the text of *file*, which people know as *name*; raise `SettingsError`."""
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise failure([Problem(name, None, "", exc.strerror or "unreadable", "a file to read")]) from exc
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")  # editors on Windows write both
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        found = f"byte 0x{content[exc.start]:02x}, which is not UTF-8"
        raise failure([Problem(name, line, "", found, "text saved as UTF-8")]) from exc


def _syntax_problem(name: str, text: str, message: str) -> Problem:
    if message.startswith("Cannot") and (repetition := first_repetition(text)):
        path, first, second = repetition
        return Problem(name, second, dotted(path), f"written again, first in line {first}", "each key once")
    position = re.search(r"line (\d+)", message)
    line = int(position[1]) if position else len(text.splitlines()) or 1
    hint = "text stands in quotes; true and false are lower case" if "Invalid value" in message else None
    return Problem(name, line, "", f"not TOML: {message}", "TOML, see https://toml.io", hint)


def _override(source: Source, variable: str, text: str, model: type[BaseModel]) -> None:
    """Set the key that *variable* names; keys are found whatever their case."""
    table: Any = source.values
    path: KeyPath = ()
    *outer, last = variable.removeprefix(source.prefix).split("__")
    for part in outer:
        path += (_key(table, part),)
        if not isinstance(table.get(path[-1]), dict):
            table[path[-1]] = {}
            source.variables[path] = variable
        table = table[path[-1]]
    path += (_key(table, last),)
    slot: Slot | None = slot_at(model, path)
    table[path[-1]] = text if holds_text(slot) else toml_value(text)
    source.variables[path] = variable


def _key(table: Mapping[str, Any], part: str) -> str:
    return next((key for key in table if key.upper() == part.upper()), part.lower())
