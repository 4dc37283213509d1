"""The base layer, from scratch: this CPython, the C libraries that it loads, and four small files.

Half the size of the smallest distribution with a Python, without a registry, a daemon or root.
The Python may be pyenv's, a distribution's, or a standalone build: it is taken apart by what
`sysconfig` says and put together again under `/opt/python`.

On the base of somebody else the same Python is a layer above: with its loader beside its libraries, so that
neither meets those of the base, whatever C library that has.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from insitu.errors import ImageFailed
from insitu.images.bytecode import Sources, bytecode
from insitu.images.layers import Entry, Recipe, key_of
from insitu.images.libraries import Libraries, always_wanted, libraries_of

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON_HOME = "opt/python"
INTERPRETER = f"{PYTHON_HOME}/bin/{PYTHON}"
LIBRARY_FOLDER = f"{PYTHON_HOME}/lib"
USER = "10001:10001"

_STDLIB = f"{LIBRARY_FOLDER}/{PYTHON}"
_LEFT_OUT_FOLDERS = {
    *("__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"),
    *("site-packages", "dist-packages"),
}
_LEFT_OUT_FILES = ("_tkinter.", "_test", "_ctypes_test.", "_xxtestfuzz.", "xxlimited", "turtle.py")
_LEFT_OUT_AT_TOP = {"sitecustomize.py", "usercustomize.py", "EXTERNALLY-MANAGED"}

_SYSTEM_FILES = (
    Entry("etc/passwd", b"root:x:0:0:root:/:/sbin/nologin\ninsitu:x:10001:10001::/tmp:/sbin/nologin\n"),
    Entry("etc/group", b"root:x:0:\ninsitu:x:10001:\n"),
    Entry("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n"),
    Entry("tmp", mode=0o1777),
)


# What a base may have in the places that are ours: an insitu image as a base, or manylinux, which has /opt/python.
_OURS_ALONE = (Entry(f"{PYTHON_HOME}/.wh..wh..opq", b""), Entry("opt/insitu/.wh..wh..opq", b""))


def base_recipe(work: Path) -> Recipe:
    """Return how to make the base layer; raise `ImageFailed` when this Python cannot be copied."""
    return Recipe("base", _key(), lambda: [*_SYSTEM_FILES, *_entries(work, _loader().lstrip("/"))])


def python_recipe(work: Path) -> Recipe:
    """Return how to make the layer of this Python on the base of somebody else; see `base_recipe`.

    The base keeps its users and its loader: /lib64 is a link there as often as not, and a folder of ours in its place
    would take the libraries from the base's own programs.
    """
    ours = (*_OURS_ALONE, Entry("tmp", mode=0o1777))
    return Recipe("python", key_of("python", _key()), lambda: [*ours, *_entries(work, own_loader())])


def own_loader() -> str:
    """Return where the loader is in an image on the base of somebody else."""
    return f"{LIBRARY_FOLDER}/{Path(_loader()).name}"


def _loader() -> str:
    return _libraries()[0].loader


def _key() -> str:
    """Stand for the bytes of some 1,500 files by their sizes and times: listing takes 5 ms."""
    return key_of(
        "base", sys.version, [_stamp(str(one)) for one in (_interpreter(), *_stdlib_files(), *_libraries()[1])]
    )


def _stamp(path: str) -> tuple[str, int, int]:
    found = os.stat(path)  # noqa: PTH116  of 640 files for each image: a path takes four times as long
    return path, found.st_size, found.st_mtime_ns


def _entries(work: Path, loader: str) -> Iterator[Entry]:
    files = map(Path, _stdlib_files())
    yield Entry(INTERPRETER, _interpreter(), mode=0o755)
    yield Entry(loader, Path(_loader()).resolve(), mode=0o755)
    for name, path in sorted(_libraries()[0].files.items()):
        yield Entry(f"{LIBRARY_FOLDER}/{name}", path.resolve())
    stdlib = _stdlib()
    names = {path.relative_to(stdlib).as_posix(): path for path in files}
    for name, path in names.items():
        yield Entry(f"{_STDLIB}/{name}", path.resolve())
    python_names = tuple(sorted(name for name in names if name.endswith(".py")))
    yield from bytecode([Sources(stdlib, _STDLIB, python_names, _key())], work / "bytecode")


def _interpreter() -> Path:
    """Return the real interpreter, outside any virtual environment."""
    path = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    if not path.is_file():
        raise ImageFailed("cannot find this Python's interpreter", found=str(path))
    return path


def _stdlib() -> Path:
    return Path(sysconfig.get_path("stdlib")).resolve()


def _stdlib_files() -> list[str]:
    """Return the files of the standard library that a server can use, in name order."""
    top = str(_stdlib())  # text, since each image lists them: paths are four times as slow
    found = []
    for folder, folders, names in os.walk(top):
        folders[:] = [n for n in folders if n not in _LEFT_OUT_FOLDERS and not n.startswith("config-")]
        out = _LEFT_OUT_AT_TOP if folder == top else ()
        found += [f"{folder}/{name}" for name in names if _wanted(name) and name not in out]
    return sorted(filter(os.path.isfile, found))


def _wanted(name: str) -> bool:
    return not name.startswith(_LEFT_OUT_FILES) and not name.endswith((".pyc", ".a", ".exe"))


@cache
def _libraries() -> tuple[Libraries, tuple[Path, ...]]:
    """Return what the interpreter and its extension modules load, and the files to watch for changes."""
    binaries = [_interpreter(), *(Path(name) for name in _stdlib_files() if name.endswith(".so"))]
    needed = libraries_of(binaries)
    if not needed.loader:
        raise ImageFailed(
            "cannot tell which loader this Python uses",
            wanted="a dynamically linked CPython on Linux",
            next_action="run insitu with a distribution's, pyenv's or uv's CPython",
        )
    files = dict(always_wanted(needed.files.values())) | needed.files
    libraries = Libraries(files, needed.missing, needed.loader)
    return libraries, (Path(needed.loader), *(files[name] for name in sorted(files)))


def library_names() -> frozenset[str]:
    """Return the names of the shared libraries that the base layer has."""
    found, _ = _libraries()
    return frozenset(found.files) | {Path(found.loader).name}
