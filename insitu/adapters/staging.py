"""What travels to the machine of an edge job: code with a manifest, and how stores are opened from there."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import insitu
from insitu.errors import TrainingFailed, naming_write_errors
from insitu.jobstate import MANIFEST
from insitu.settings import AzureStateStore, FolderStore

_ROOTS = ("insitu.edge.remote", "insitu.edge.job", "insitu.edge.proxy")
"""What a job starts."""


def travelling(package: Path) -> list[str]:
    """Return the files of insitu that a job needs, relative to *package*: whatever its roots import of it."""
    found: dict[str, Path] = {}
    left = [*_ROOTS]
    while left:
        module = left.pop()
        if module not in found and (file := _file(package, module)):
            found[module] = file
            left += [*_parents(module), *_imported(file)]
    return sorted(file.relative_to(package).as_posix() for file in found.values())


def _file(package: Path, module: str) -> Path | None:
    path = package.joinpath(*module.split(".")[1:])
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _imported(file: Path) -> Iterator[str]:
    """Yield what a module imports of insitu, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "insitu":
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "insitu")


def stage_code(model_folder: Path, code: Mapping[str, str], folder: Path) -> str:
    """Copy what a job runs into the new *folder*: listed files, no links; return the sha256 of its manifest.

    Raises:
        TrainingFailed: A file of the model is not what it was when the run began.
    """
    package = Path(insitu.__file__).parent
    manifest = {}
    with naming_write_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        for name in travelling(package):
            manifest[f"insitu/{name}"] = _copy(package / name, folder / "insitu" / name)
        for name, digest in code.items():
            manifest[f"model/{name}"] = _copy(model_folder / name, folder / "model" / name)
            if manifest[f"model/{name}"] != digest:
                raise TrainingFailed(
                    f"{name} in {model_folder} was changed after the run had started",
                    next_action="start again: that is a new run",
                )
        text = json.dumps(manifest, indent=1, sort_keys=True).encode()
        (folder / MANIFEST).write_bytes(text)
    return sha256(text).hexdigest()


def _copy(source: Path, target: Path) -> str:
    """Copy a file's bytes and mode; return their sha256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    data = source.read_bytes() if source.is_file() else b""
    target.write_bytes(data)
    if source.is_file():
        target.chmod(source.stat().st_mode)
    return sha256(data).hexdigest()


def on_the_machine(store: Mapping[str, Any], secret: str, ca_bundle: str | None) -> dict[str, Any]:
    """Return how a job opens a store: as this machine does, but with the secret in a file of its own machine."""
    if store["kind"] == "folder":
        return dict(store)
    inner = dict(store["store"])
    kind = "key" if inner.get("key") else "sas"
    return {**store, "store": inner | {kind: {"env": None, "file": secret}, "ca_bundle": ca_bundle}}


def state_spec(state: FolderStore | AzureStateStore) -> dict[str, Any]:
    """Return how this machine opens the site's state, as JSON values; of a secret only where it is."""
    if isinstance(state, FolderStore):
        return {"kind": state.kind, "root": str(state.root)}
    store = state.model_dump(mode="json", exclude={"container"})
    return {"kind": state.kind, "container": state.container, "store": store}
