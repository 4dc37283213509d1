"""The environment layer: the serving requirements and all that they require, as installed here.

Nothing is resolved or downloaded: what trained and evaluated the model is what serves it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from insitu.errors import ImageFailed
from insitu.images.base import library_names
from insitu.images.bytecode import Sources, bytecode
from insitu.images.layers import Entry, Recipe, key_of
from insitu.images.libraries import libraries_of

SITE_PACKAGES = "opt/insitu/site-packages"
EXTRA_LIBRARIES = "opt/insitu/lib"

Runtime = Literal["onnx", "pyfunc"]

_SERVER = ("httptools", "numpy", "uvicorn")
_ABOUT_THE_INSTALLATION = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}

# Their `tests` folders are a tenth of the layer, and nothing outside `tests` imports them. Other
# distributions may well import theirs.
_TESTS_UNUSED = {"numpy", "scipy", "scikit-learn", "pandas"}


def serving_requirements(model_folder: Path, runtime: Runtime) -> tuple[str, ...]:
    """Return what the image must install to serve *model_folder* with *runtime*.

    For ONNX that is ONNX Runtime alone. For pyfunc it is what MLflow recorded with the model, with
    `mlflow` replaced by `mlflow-skinny`: loading and predicting need no more.
    """
    if runtime == "onnx":
        return ("onnxruntime", *_SERVER)
    recorded = model_folder / "requirements.txt"
    lines = recorded.read_text().splitlines() if recorded.is_file() else []
    wanted = [line.split("#")[0].strip() for line in lines]
    own = [line for line in wanted if line and not line.startswith("-")]
    return ("mlflow-skinny", "pandas", *_SERVER, *filter(_is_not_mlflow, own))


def _is_not_mlflow(line: str) -> bool:
    return canonicalize_name(_parsed(line).name) not in ("mlflow", "mlflow-skinny")


@dataclass(frozen=True)
class Installed:
    """One installed distribution, reduced to the files that an image wants."""

    name: str
    distribution: Distribution

    @cached_property
    def folder(self) -> Path:
        """The `site-packages` that it is installed in."""
        return Path(str(self.distribution.locate_file(""))).resolve()

    @cached_property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """(name, hash, size) of its files: those of the wheel, whichever tool installed it."""
        rows = csv.reader(io.StringIO(self.distribution.read_text("RECORD") or ""))
        return tuple(sorted((row[0], row[1], row[2]) for row in rows if self._wanted(PurePosixPath(row[0]))))

    def _wanted(self, path: PurePosixPath) -> bool:
        if ".." in path.parts or path.is_absolute() or path.suffix == ".pyc":
            return False
        if path.parent.name.endswith(".dist-info") and path.name in _ABOUT_THE_INSTALLATION:
            return False
        return not (self.name in _TESTS_UNUSED and "tests" in path.parts)

    @cached_property
    def key(self) -> str:
        """What its files depend on."""
        return key_of(self.name, self.distribution.version, self.rows)

    def entries(self) -> Iterator[Entry]:
        """Yield its files, with a RECORD of what was kept; raise `ImageFailed` when one is gone."""
        for name, _, _ in self.rows:
            path = self.folder / name
            if not path.is_file():
                raise ImageFailed(
                    f"{self.name} {self.distribution.version} is damaged: {name} is gone",
                    next_action=f"install {self.name} again",
                )
            yield Entry(f"{SITE_PACKAGES}/{name}", path, 0o755 if os.access(path, os.X_OK) else 0o644)
        record = "".join(f"{','.join(map(_quoted, row))}\n" for row in self.rows)
        info = next(PurePosixPath(n).parent for n, _, _ in self.rows if n.endswith(".dist-info/METADATA"))
        yield Entry(f"{SITE_PACKAGES}/{info}/RECORD", record.encode())

    def sources(self) -> Sources:
        """Return its Python files, to be compiled."""
        names = tuple(name for name, _, _ in self.rows if name.endswith(".py"))
        return Sources(self.folder, SITE_PACKAGES, names, self.key)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\n') else text


def environment_recipe(requirements: Sequence[str], work: Path) -> Recipe:
    """Return how to make the layer; raise `ImageFailed` naming the requirement that is not installed."""
    installed = closure(requirements)
    key = key_of("environment", sys.version, [one.key for one in installed], sorted(library_names()))
    return Recipe("environment", key, lambda: _entries(installed, work))


def _entries(installed: Sequence[Installed], work: Path) -> Iterator[Entry]:
    binaries: list[Path] = []
    seen: set[str] = set()
    for one in installed:
        for entry in one.entries():
            if entry.name not in seen:  # mlflow and mlflow-skinny share files, as some others do
                seen.add(entry.name)
                yield entry
                if isinstance(entry.source, Path) and ".so" in entry.source.suffixes:
                    binaries.append(entry.source)
    compiled: set[str] = set()
    for entry in bytecode([one.sources() for one in installed], work / "bytecode"):
        if entry.name not in compiled:
            compiled.add(entry.name)
            yield entry
    yield from _system_libraries(binaries, [one.folder for one in installed])


def _system_libraries(binaries: Sequence[Path], folders: Sequence[Path]) -> Iterator[Entry]:
    """Yield what the extension modules load from this system and the base does not have."""
    for name, path in sorted(libraries_of(binaries).files.items()):
        bundled = any(path.resolve().is_relative_to(folder) for folder in folders)
        if not bundled and name not in library_names():
            yield Entry(f"{EXTRA_LIBRARIES}/{name}", path.resolve())


def closure(requirements: Sequence[str]) -> tuple[Installed, ...]:
    """Return what *requirements* need, directly or not, as installed here, in name order.

    Raises:
        ImageFailed: A requirement is not installed, is installed in another version, or is
            installed in editable mode, so that its files are elsewhere.
    """
    found: dict[str, Installed] = {}
    followed: set[tuple[str, str]] = set()
    next_action = [(one, "the model") for one in map(_parsed, requirements) if _applies(one, "")]
    while next_action:
        wanted, by = next_action.pop()
        name = canonicalize_name(wanted.name)
        one = found.get(name) or _installed(wanted, by)
        _check(one, wanted, by)
        found[name] = one
        for extra in {"", *wanted.extras} - {e for n, e in followed if n == name}:
            followed.add((name, extra))
            next_action += [(r, name) for r in _requires(one.distribution, extra)]
    return tuple(found[name] for name in sorted(found))


def _parsed(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as exc:
        raise ImageFailed(f"{text!r} is not a requirement", found=str(exc).partition("\n")[0]) from exc


def _requires(of: Distribution, extra: str) -> Iterator[Requirement]:
    """Yield what *of* requires here for *extra* (none: the empty name)."""
    return (one for one in map(Requirement, of.requires or ()) if _applies(one, extra))


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _installed(wanted: Requirement, by: str) -> Installed:
    try:
        return Installed(canonicalize_name(wanted.name), distribution(wanted.name))
    except PackageNotFoundError as exc:
        raise ImageFailed(
            f"{wanted.name} is not installed, but {by} wants it in the image",
            wanted=str(wanted),
            next_action=f"install {wanted} where insitu runs",
        ) from exc


def _check(one: Installed, wanted: Requirement, by: str) -> None:
    version = one.distribution.version
    if not wanted.specifier.contains(version, prereleases=True):
        raise ImageFailed(
            f"{one.name} {version} is installed, but {by} wants another version in the image",
            found=version,
            wanted=str(wanted.specifier),
            next_action=f"install {wanted} where insitu runs",
        )
    origin = json.loads(one.distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        raise ImageFailed(
            f"{one.name} is installed in editable mode, so its files are not in site-packages",
            next_action=f"install {one.name} from a wheel",
        )
