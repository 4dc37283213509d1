"""From the name of a site or a model to its settings, or to every problem at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from insitu.errors import Problem, SettingsError
from insitu.settings.problems import problems_of, unknown_key
from insitu.settings.sources import did_you_mean, failure, misspelt_variables, read_source, variable_name
from insitu.settings.words import NAME_FIELD, nearest, paths_of

Settings = TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True)
class Kind(Generic[Settings]):
    """One kind of settings.

    Attributes:
        model: What the values become.
        layout: Where the files are, relative to the project; the star stands for the name.
        prefix: How the variables begin that override a key.
    """

    model: type[Settings]
    layout: str
    prefix: str

    def file(self, name: str) -> str:
        """Return the path of *name*'s file, relative to the project."""
        return self.layout.replace("*", name)

    def names(self, project: Path) -> tuple[str, ...]:
        """Return the names that exist under *project*, in order."""
        before, after = self.layout.split("*")
        files = sorted(path.relative_to(project).as_posix() for path in project.glob(self.layout))
        return tuple(file.removeprefix(before).removesuffix(after) for file in files)

    def variables(self) -> tuple[str, ...]:
        """Return the variable of every declared key."""
        return tuple(variable_name(self.prefix, path) for path in paths_of(self.model))


def load(
    kind: Kind[Settings],
    project: Path,
    name: str,
    environ: Mapping[str, str],
    known_variables: tuple[str, ...],
) -> Settings:
    """Return the settings *name*, from its file and the variables that override it.

    Raises:
        SettingsError: All problems of the file and of the INSITU_ variables.
    """
    project = project.absolute()
    problems = misspelt_variables(environ, known_variables)
    with collecting(problems):
        file = project / _known(kind, project, name)
        source = read_source(project, file, kind.model, environ, kind.prefix)
        if NAME_FIELD in source.values:
            problems.append(unknown_key(source, kind.model, (NAME_FIELD,)))
        values = source.values | {NAME_FIELD: name}
        try:
            settings = kind.model.model_validate(values, context={"project": project})
        except ValidationError as exc:
            raise failure(problems_of(source, kind.model, exc)) from exc
    if problems:
        raise failure(problems)
    return settings


@contextmanager
def collecting(problems: list[Problem]) -> Iterator[None]:
    """Append the problems of a `SettingsError` instead of raising it."""
    try:
        yield
    except SettingsError as exc:
        problems.extend(exc.problems)


def _known(kind: Kind[Settings], project: Path, name: str) -> str:
    """Return the file of *name*, which must be one of the names that exist and so never a path."""
    names = kind.names(project)
    if name not in names:
        wanted = f"one of {', '.join(names)}" if names else f"a file {kind.layout}; there is none yet"
        hint = did_you_mean(nearest(name, names))
        raise failure([Problem(kind.file(name), None, "", "no such file", wanted, hint)])
    return kind.file(name)
