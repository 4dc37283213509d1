"""Which shared libraries of this system a set of binaries needs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from insitu.errors import ImageFailed

# Loaded by name at run time, or wanted by wheels that were built against an older glibc.
_ALWAYS = (
    *("libdl.so.2", "libm.so.6", "librt.so.1", "libpthread.so.0", "libutil.so.1"),
    *("libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1", "libnss_files.so.2", "libnss_dns.so.2"),
)
_FOUND = re.compile(r"^\s+(\S+) => (/.+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_LOADER = re.compile(r"^\s+(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_MISSING = re.compile(r"^\s+(\S+) => not found$", re.MULTILINE)
_AT_ONCE = 100


@dataclass(frozen=True)
class Libraries:
    """What the loader found: library files by the name that binaries ask for, and the loader itself."""

    files: dict[str, Path] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    loader: str = ""


def libraries_of(binaries: Sequence[Path]) -> Libraries:
    """Return what *binaries* load, directly or not; raise `ImageFailed` without `ldd`."""
    files: dict[str, Path] = {}
    missing: set[str] = set()
    loader = ""
    for start in range(0, len(binaries), _AT_ONCE):
        text = _ldd(binaries[start : start + _AT_ONCE])
        files.update((name, Path(path)) for name, path in _FOUND.findall(text))
        missing.update(_MISSING.findall(text))
        loader = loader or next(iter(_LOADER.findall(text)), "")
    return Libraries(files, frozenset(missing - files.keys()), loader)


def _ldd(binaries: Sequence[Path]) -> str:
    try:
        command = ["ldd", *map(str, binaries)]
        done = subprocess.run(command, capture_output=True, env={"LC_ALL": "C"}, check=False)
    except FileNotFoundError as exc:
        raise ImageFailed("cannot find ldd", next_action="install it: on Debian it is in libc-bin") from exc
    return done.stdout.decode(errors="surrogateescape")


def always_wanted(beside: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the libraries that every image gets, as far as they are in the folders of *beside*."""
    folders = sorted({path.parent for path in beside})
    for name in _ALWAYS:
        for folder in folders:
            if (folder / name).exists():
                yield name, folder / name
                break
