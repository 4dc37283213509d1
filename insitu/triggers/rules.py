"""When the new blobs of a prefix are a batch: a marker, a manifest, a count, or quiet.

All times are those of the store that holds the blobs, or of the site's state: no clock of this machine decides.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from insitu.batch import Blob
from insitu.errors import BlobChanged, BlobNotFound
from insitu.ports import BlobStore
from insitu.settings import TriggerSettings

_CHUNK_BYTES = 4 << 20
_LONGEST_NAME = 880  # Azure Stack Hub's limit; Azure's is 1,024
_ODD_PART = re.compile(r"^[-\s]|[.\s]$")
_HIDDEN_KINDS = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Group:
    """What lies under one prefix and is in no batch yet.

    Attributes:
        prefix: Ends with "/", or is empty.
        new: Data blobs, in name order; at least one.
        control: The prefix's marker or manifest, when it is new, too.
        sealed: Names under the prefix that are in a batch already.
        quiet_s: Seconds without any change of `new`, as far as was looked.
    """

    prefix: str
    new: tuple[Blob, ...]
    control: Blob | None = None
    sealed: frozenset[str] = frozenset()
    quiet_s: float = 0.0


@dataclass(frozen=True)
class Ready:
    """A batch: its blobs, what completed it, and why in words."""

    prefix: str
    blobs: tuple[Blob, ...]
    control: Blob | None
    why: str


def judge(group: Group, rule: TriggerSettings, store: BlobStore) -> Ready | str:
    """Return the batch that *group* is, or what it waits for; of a manifest's blobs the bytes may be read."""
    match rule.rule:
        case "marker":
            return _by_marker(group, rule)
        case "manifest":
            return _by_manifest(group, rule, store)
        case "files":
            return _by_count(group, rule)
    return _when_quiet(group, rule.quiet_s, f"nothing new for {rule.quiet_s:g} s")


def prefix_of(name: str, depth: int | None) -> str:
    """Return the folders of *name*, at most *depth* of them, with a slash at the end; empty when it has none."""
    folders = name.split("/")[:-1][:depth]
    return "".join(f"{folder}/" for folder in folders)


def control_name(rule: TriggerSettings) -> str | None:
    """Return what a marker or manifest is called, below its prefix."""
    return {"marker": rule.marker, "manifest": rule.manifest}.get(rule.rule)


def is_data(name: str, pattern: str, rule: TriggerSettings) -> bool:
    """Tell whether the blob is one to train on: it fits the model's *pattern*, and is no marker or manifest."""
    return fnmatchcase(name, pattern) and name.rpartition("/")[2] != control_name(rule)


def strangeness(name: str) -> str | None:
    """Return what is wrong with a name that looks like another, or that tools stumble over; None when nothing is."""
    if any(unicodedata.category(char) in _HIDDEN_KINDS for char in name):
        return "has characters that cannot be seen"
    if "\\" in name:
        return "has a backslash"
    if len(name) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} characters"
    if any(_ODD_PART.search(part) for part in name.split("/")):
        return "has a part that begins with - or a space, or ends with a dot or a space"
    if not unicodedata.is_normalized("NFC", name):
        return "has letters in a form (not NFC) that looks like another name"
    return None


def _by_marker(group: Group, rule: TriggerSettings) -> Ready | str:
    """A marker counts for the blobs that are as old as it or older: one that came first says nothing."""
    if group.control is None:
        if group.sealed:
            why = f"came after the batch of its prefix, and nothing more for {rule.quiet_s:g} s"
            late = _when_quiet(group, rule.quiet_s, why)
            return late if isinstance(late, Ready) else f"another {rule.marker}, or {late}"
        return f"{group.prefix}{rule.marker}"
    newer = [blob.name for blob in group.new if blob.last_modified > group.control.last_modified]
    if newer:
        return f"a {rule.marker} that is newer than {newer[0]}" + (f" and {len(newer) - 1} more" if newer[1:] else "")
    return Ready(group.prefix, group.new, group.control, f"{group.control.name} says that it is complete")


def _by_count(group: Group, rule: TriggerSettings) -> Ready | str:
    count = len(group.sealed | {blob.name for blob in group.new})
    if count < rule.files:
        return f"{rule.files - count} more of {rule.files} blobs"
    return Ready(group.prefix, group.new, None, f"the prefix holds {count} blobs of {rule.files}")


def _when_quiet(group: Group, quiet_s: float, why: str) -> Ready | str:
    if group.quiet_s < quiet_s:
        return f"{quiet_s:g} s without anything new"
    return Ready(group.prefix, group.new, None, why)


def _by_manifest(group: Group, rule: TriggerSettings, store: BlobStore) -> Ready | str:
    if group.control is None:
        return f"{group.prefix}{rule.manifest}" + (" that names what came later" if group.sealed else "")
    named = _named(group.control, group.prefix, store)
    if named is None:
        return f'a {rule.manifest} of the form {{"blobs": [{{"name", "size_bytes", "sha256" or "md5"}}, ...]}}'
    new = {blob.name: blob for blob in group.new}
    missing = [name for name in named if name not in new and name not in group.sealed]
    if missing:
        return f"{len(missing)} of {len(named)} blobs that {rule.manifest} names: {', '.join(missing[:5])}"
    for name, wanted in named.items():
        if problem := _mismatch(name, new.get(name), wanted, store):
            return problem
    blobs = tuple(blob for blob in group.new if blob.name in named)
    if not blobs:
        return f"a {rule.manifest} that names them"
    return Ready(group.prefix, blobs, group.control, f"all {len(named)} blobs are as {group.control.name} says")


def _named(manifest: Blob, prefix: str, store: BlobStore) -> Mapping[str, Mapping[str, Any]] | None:
    """Return what the manifest says of each blob, by its full name; None when it is not of that form."""
    try:
        entries = json.loads(store.read(manifest.name, etag=manifest.etag))["blobs"]
        named = {prefix + str(entry["name"]): entry for entry in entries}
        return named if all(isinstance(entry["size_bytes"], int) for entry in entries) and named else None
    except (ValueError, KeyError, TypeError, BlobChanged, BlobNotFound):
        return None


def _mismatch(name: str, blob: Blob | None, wanted: Mapping[str, Any], store: BlobStore) -> str | None:
    """Return what differs from the manifest; without *blob*, the blob is sealed and only its size is asked for."""
    try:
        found = blob or store.stat(name)
        if found.size_bytes != wanted["size_bytes"]:
            return f"{name} with {wanted['size_bytes']} bytes; it has {found.size_bytes}"
        for kind in ("md5", "sha256") if blob else ():
            if kind in wanted and _digest(kind, found, store) != str(wanted[kind]).lower():
                return f"{name} with the {kind} that the manifest says; it has another"
    except (BlobChanged, BlobNotFound):
        return f"{name}, which changes"
    return None


def _digest(kind: str, blob: Blob, store: BlobStore) -> str:
    """Return the blob's digest: the store's own, or one over its bytes, some MB of which are held at a time."""
    if kind == "md5" and blob.md5:
        return blob.md5
    key = (kind, id(store), blob.name, blob.etag)
    if key not in _digests:
        digest = hashlib.new(kind, usedforsecurity=False)
        for offset in range(0, blob.size_bytes, _CHUNK_BYTES):
            digest.update(store.read(blob.name, etag=blob.etag, offset=offset, length=_CHUNK_BYTES))
        if len(_digests) >= _MOST_DIGESTS:
            _digests.clear()
        _digests[key] = digest.hexdigest()
    return _digests[key]


_MOST_DIGESTS = 10_000
_digests: dict[tuple[str, int, str, str], str] = {}
"""Of blobs whose batch still waits: nobody reads them again at every look."""


def batch_key(model: str, rule: TriggerSettings, prefix: str, blobs: Sequence[Blob]) -> str:
    """Hex sha256 over the model, the rule, and names and ETags of the blobs."""
    said = rule.model_dump(mode="json", include={"rule", "files", "marker", "manifest", "quiet_s", "depth"})
    parts = [model, said, prefix, sorted([blob.name, blob.etag] for blob in blobs)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
