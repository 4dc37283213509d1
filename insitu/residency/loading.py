"""Which files of a model run code when it is loaded: a list of what is known not to, and all else by name.

A pickle calls whatever it names. ONNX, safetensors, arrays without Python objects, tables, and skops files whose types
are those of the numeric libraries do not.
"""

from __future__ import annotations

import io
import json
import mmap
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from insitu.errors import TrainingFailed
from insitu.residency.decoding import arrays, media, onnx, pickles, streams, tables
from insitu.residency.decoding.files import ViewFile

_PLAIN = frozenset({"", ".csv", ".json", ".md", ".svg", ".toml", ".txt", ".yaml", ".yml"})
"""Endings of text that nothing imports; `MLmodel` has none."""
_TRUSTED = re.compile(r"(?:builtins|collections|datetime|numpy|pandas|scipy|sklearn)\.[\w.]+\Z")
_CALLING = re.compile(r"builtins\.(?:eval|exec|compile|open|getattr|setattr|__import__|breakpoint)\Z")
_MOST_SCHEMA_BYTES = 64 << 20


def require_no_code(folder: Path, role: str) -> None:
    """Raise `TrainingFailed`, which names the files, unless nothing of the model in *folder* runs when it is loaded."""
    found = [f"{name} ({why})" for name, why in code_in(folder)]
    if found:
        raise TrainingFailed(
            f"the {role} would run code when it is loaded",
            found=", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else ""),
            wanted="ONNX, safetensors, or skops of known types: residency.pickle = false in model.toml",
            next_action='save it with mlflow.sklearn.save_model(..., serialization_format="skops") or as ONNX',
        )


def code_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each file of *folder* that may run code when it is loaded, and why, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            yield path.relative_to(folder).as_posix(), "a link"
        elif path.is_file() and (why := _why(path)):
            yield path.relative_to(folder).as_posix(), why


def _why(path: Path) -> str | None:
    if not path.stat().st_size:
        return None
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return _of_bytes(path.suffix.lower(), data)
    except Exception as exc:  # noqa: BLE001 - hostile bytes make the readers of formats raise anything
        return f"damaged: {type(exc).__name__}"


def _of_bytes(suffix: str, data: memoryview) -> str | None:
    """Return why a file may run code, None where it is of a kind that does not."""
    if pickles.is_pickle(data):
        return "a pickle"
    if streams.kind_of(data):
        return "packed: what is in it is not looked at, and joblib's files are pickles"
    if bytes(data[:4]) == b"PK\x03\x04":
        return _of_zip(data)
    if arrays.is_npy(data):
        return "a pickle in an array of objects" if b"'O'" in bytes(data[:512]) or b"|O" in bytes(data[:512]) else None
    harmless = (arrays.is_safetensors, onnx.is_onnx, tables.is_arrow_table, media.is_png, media.is_pdf, media.is_media)
    if any(is_one(data) for is_one in harmless) or (suffix in _PLAIN and _is_text(data)):
        return None
    return "Python code" if suffix in (".py", ".pyc") else "of no kind that is known to be harmless"


def _is_text(data: memoryview) -> bool:
    bytes(data).decode("utf-8")
    return True


def _of_zip(data: memoryview) -> str | None:
    """A zip is harmless as skops with types that are known, or as npz without objects."""
    with zipfile.ZipFile(io.BufferedReader(ViewFile(data))) as archive:
        names = archive.namelist()
        if "schema.json" in names:
            if archive.getinfo("schema.json").file_size > _MOST_SCHEMA_BYTES:
                return "skops with a schema that is too large"
            strange = sorted(set(_types(json.loads(archive.read("schema.json")))))
            return f"skops with {', '.join(strange[:3])}" if strange else None
        if names and all(name.endswith(".npy") for name in names):
            with_objects = any(b"'O'" in archive.open(name).read(512) for name in names)
            return "a pickle in an array of objects" if with_objects else None
    return "a zip that is neither skops nor npz"


def _types(schema: Any) -> Iterator[str]:
    """Yield the types and functions of a skops schema that are not those of the numeric libraries."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pending += node.values()
            if "__class__" in node and "__module__" in node:
                name = f"{node['__module__']}.{node['__class__']}"
                if not _TRUSTED.match(name) or _CALLING.match(name):
                    yield name
        elif isinstance(node, list):
            pending += node
