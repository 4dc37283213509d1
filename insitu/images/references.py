"""How people name an image: `oci:FOLDER:TAG` or `HOST/REPOSITORY:TAG`, with `@sha256:…` in the place of a tag."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from insitu.errors import UsageError

_NAME = re.compile(r"(?P<place>.+?)(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>\w[\w.-]{0,127}))?", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::\d+)?|\[[0-9A-Fa-f:]+\](?::\d+)?")


@dataclass(frozen=True)
class Place:
    """A repository: a *folder* on this machine, or *host* and *repository*."""

    folder: str = ""
    host: str = ""
    repository: str = ""


def parse_place(text: str) -> Place:
    """Return the repository that *text* names; raise `UsageError`."""
    if folder := text.removeprefix("oci:") if text.startswith("oci:") else "":
        return Place(folder=folder)
    host, slash, repository = text.partition("/")
    is_host = _HOST.fullmatch(host) and ("." in host or ":" in host or host == "localhost")
    if is_host and slash and repository:
        return Place(host=host, repository=repository)
    raise UsageError(
        f"{text!r} names no repository of images",
        wanted="oci:FOLDER, or HOST/REPOSITORY",
        next_action=f"it is a folder: say oci:{text}, then :TAG" if Path(text).is_dir() else None,
    )


def split_reference(text: str) -> tuple[str, str]:
    """Return the repository of an image, and its tag or digest: `latest` where none is named."""
    found = _NAME.fullmatch(text)
    if not found:
        raise UsageError("an image without a name", wanted="oci:FOLDER:TAG, or HOST/REPOSITORY:TAG")
    place, tag = found["place"], found["tag"] or found["digest"] or "latest"
    return (text, "latest") if place == "oci" else (place, tag)  # oci:FOLDER
