"""Which version of which blob is in which batch: a set, never a point in time.

It lies in the site's state in 256 documents; all blobs of one prefix are in the same one. A process holds 16 bytes
per known blob and reads only the documents that others have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b, sha256

from insitu.batch import Blob
from insitu.crashpoints import crashpoint
from insitu.errors import BlobChanged
from insitu.ports import BlobStore
from insitu.triggers import documents

Versions = Mapping[str, list[tuple[str, str]]]
"""By name: (version, key of the batch) of each known version, oldest first."""


@dataclass(frozen=True)
class Ledger:
    """The known blobs of one model at one site."""

    state: BlobStore
    folder: str
    _known: dict[str, set[bytes]] = field(default_factory=dict, repr=False)
    _etags: dict[str, str] = field(default_factory=dict, repr=False)

    def refresh(self) -> None:
        """Learn what others have added since the last call."""
        for shard in self.state.list(self.folder):
            if self._etags.get(shard.name) != shard.etag:
                self._load(shard.name)

    def knows(self, prefix: str, name: str, version: str) -> bool:
        """Tell whether this version is in a batch, as of the last `refresh`."""
        known = self._known.get(self._shard(prefix))
        return known is not None and _digest(name, version) in known

    def under(self, prefix: str) -> Versions:
        """Return the known versions of the names of *prefix*, and some of deeper prefixes."""
        found = documents.read(self.state, self._shard(prefix))
        return {
            name: _pairs(versions) for name, versions in (found[0] if found else {}).items() if name.startswith(prefix)
        }

    def all(self) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Yield every name with its versions; one document is held at a time."""
        for shard in list(self.state.names(self.folder)):
            found = documents.read(self.state, shard)
            yield from ((name, _pairs(versions)) for name, versions in (found[0] if found else {}).items())

    def add(self, entries: Iterable[tuple[str, str, str, str]]) -> None:
        """Add (prefix, name, version, batch); what is there already stays as it is."""
        shards: dict[str, list[tuple[str, str, str]]] = {}
        for prefix, *entry in entries:
            shards.setdefault(self._shard(prefix), []).append((entry[0], entry[1], entry[2]))
        for shard, added in sorted(shards.items()):
            documents.change(self.state, shard, partial(_with, added))
            crashpoint("watch:shard-written")

    def _load(self, shard: str) -> None:
        try:
            found = documents.read(self.state, shard)
        except BlobChanged:  # the next refresh sees it
            return
        if found:
            names, etag = found
            self._known[shard] = {_digest(name, version) for name, pairs in names.items() for version, _ in pairs}
            self._etags[shard] = etag

    def _shard(self, prefix: str) -> str:
        return f"{self.folder}{sha256(prefix.encode()).hexdigest()[:2]}.json"


def version_of(blob: Blob, *, is_control: bool = False) -> str:
    """Return what tells versions apart; a marker that is written again with the same bytes is another one."""
    return f"{blob.etag}@{blob.last_modified.isoformat()}" if is_control else blob.etag


def _digest(name: str, version: str) -> bytes:
    return blake2b(f"{name}\0{version}".encode(errors="surrogatepass"), digest_size=16).digest()


def _pairs(versions: list[list[str]]) -> list[tuple[str, str]]:
    return [(version, batch) for version, batch in versions]


def _with(
    added: list[tuple[str, str, str]], found: dict[str, list[list[str]]] | None
) -> dict[str, list[list[str]]] | None:
    """Return the names *found* with what is *added*; None when nothing is new."""
    names, changed = found or {}, False
    for name, version, batch in added:
        versions = names.setdefault(name, [])
        if all(version != known for known, _ in versions):
            versions.append([version, batch])
            changed = True
    return names if changed else None
