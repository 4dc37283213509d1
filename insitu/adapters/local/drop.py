"""A folder of bundles, for machines without a way to the registry: `latest.json` in it names the one to take.

A bundle is there whole before the pointer names it, and the one before stays, so a machine that fetches meanwhile gets
what it began with. Nobody is asked: what verifies and runs the bundle is elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from insitu.bundles import export_bundle
from insitu.errors import DeployFailed
from insitu.files import replace_file
from insitu.ports import Release
from insitu.settings import BundleTarget as Settings

_POINTER = "latest.json"


@dataclass(frozen=True)
class BundleDrop:
    """`Target`: a folder that other machines fetch bundles of one model from."""

    model: str
    settings: Settings

    @property
    def address(self) -> str:
        """The pointer's path."""
        return str(self.settings.folder / _POINTER)

    def serves(self) -> str | None:
        """Return the digest that the pointer names, if its bundle is there."""
        there = self._pointer()
        return str(there["digest"]) if there and (self.settings.folder / there["bundle"]).is_file() else None

    def put(self, release: Release) -> None:
        """Write the bundle, then the pointer; remove bundles of the model but this one and the one before."""
        folder, there = self.settings.folder, self._pointer()
        name = f"{self.model}-{release.version}-{release.digest.removeprefix('sha256:')[:12]}.bundle"
        made = export_bundle(release.images, release.digest, folder / name, (release.version, "latest"))
        told = {"model": self.model, "version": release.version, "digest": release.digest}
        earlier = there and (there.get("before") if there["bundle"] == name else there["bundle"])
        pointer = {**told, "bundle": name, "size_bytes": made.size_bytes, "before": earlier}
        replace_file(folder / _POINTER, json.dumps(pointer, indent=1).encode())
        for old in folder.glob(f"{self.model}-*.bundle"):
            if old.name not in (name, pointer["before"]):
                old.unlink(missing_ok=True)

    def _pointer(self) -> dict[str, Any] | None:
        path = self.settings.folder / _POINTER
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            found = {}
        if found.get("model") != self.model or not isinstance(found.get("bundle"), str):
            raise DeployFailed(
                f"{path} is not the pointer of {self.model}",
                found=f"one of {found['model']}" if found.get("model") else "something else",
                next_action="name another folder for this model, or remove that file",
            )
        return found
