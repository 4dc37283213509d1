"""A client of the OCI distribution protocol, for one repository of one registry."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, urljoin

from urllib3 import BaseHTTPResponse

from insitu.errors import AccessRefused, BackendUnavailable, PublishFailed, UsageError
from insitu.images.blobs import check, copy_verified
from insitu.images.connection import GRACE_S, Connection
from insitu.images.login import Login
from insitu.images.manifest import MANIFEST_TYPE
from insitu.images.referrers import (
    INDEX_TYPE,
    MANIFEST_BYTES,
    Entry,
    described,
    descriptors_of,
    entries_of,
    entry_of,
    fallback_tag,
    index_of,
    is_fallback_tag,
    require_subject,
    subject_of,
)
from insitu.images.uploads import PAUSES_S, Upload
from insitu.ports import Descriptor

CHUNK_BYTES = 16 << 20
_BESIDE = 3
_LIST_ATTEMPTS = 10
_SETTLE = 5
"""How many times as long as this writer the others may take between reading a list and having written it."""
_DOCKER = "application/vnd.docker.distribution.manifest"
_ACCEPT = f"{MANIFEST_TYPE}, {_DOCKER}.v2+json, {INDEX_TYPE}, {_DOCKER}.list.v2+json"
_REPOSITORY = re.compile(r"[a-z0-9]+([._/-]+[a-z0-9]+)*")


@dataclass(frozen=True)
class RegistryImages:
    """One repository of a registry: `ImageRegistry` over HTTP, or over TLS unless *host* is this machine.

    Args:
        host: Name or address, with the port when it is not the scheme's.
        repository: Lower-case path.
        login: Who signs in; None publishes anonymously.
        beside: Names repositories of the registry that may have a blob, so that it need not be sent.
        pauses_s: Between looks for a registry that went away in mid-upload.
        grace_s: How long an answer may trickle.
    """

    host: str
    repository: str
    chunk_bytes: int = field(default=CHUNK_BYTES, compare=False)
    login: Login | None = field(default=None, compare=False, repr=False)
    beside: Callable[[str], Sequence[str]] = field(default=lambda _: (), compare=False, repr=False)
    pauses_s: tuple[float, ...] = field(default=PAUSES_S, compare=False, repr=False)
    grace_s: float = field(default=GRACE_S, compare=False, repr=False)
    _started: dict[str, BaseHTTPResponse] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be a repository, before any request; raise `UsageError`."""
        if not _REPOSITORY.fullmatch(self.repository):
            raise UsageError(
                f"{self.repository!r} is not a repository name",
                wanted="lower-case letters, digits, and . _ - / between them",
            )

    @property
    def name(self) -> str:
        """`host/repository`."""
        return f"{self.host}/{self.repository}"

    def reference(self, tag: str) -> str:
        """Return `host/repository:tag`, or `…@sha256:…` for a digest."""
        return f"{self.name}{'@' if tag.startswith('sha256:') else ':'}{tag}"

    def local_blob(self, digest: str) -> Path | None:
        """Return nothing: the blobs are elsewhere."""
        return None

    def has_blob(self, digest: str) -> bool:
        """Tell whether the repository holds the blob: its first byte, since HEAD may tell of one that is gone."""
        options = {"headers": {"Range": "bytes=0-0"}, "preload_content": False}
        answer = self._connection.ask("GET", f"blobs/{digest}", known=(200, 206, 404, 416), **options)
        with self._connection.body(answer, MANIFEST_BYTES) as body:
            if answer.status != 200:  # else the registry knows no ranges, and the rest is not wanted
                body.whole()
        return answer.status != 404

    def mount_blob(self, descriptor: Descriptor) -> bool:
        """Take the blob over from a repository beside this one; tell whether it is here.

        Where no other may have it, it is taken over from this one itself: a registry that does not have it expects it
        then, so that one request asks for it and begins the upload.
        """
        digest = descriptor.digest
        others = self.beside(digest)[:_BESIDE]
        if others and self.has_blob(digest):
            return True
        for other in others:
            with suppress(PublishFailed, AccessRefused):  # who may not read there sends it
                if self._mounted(digest, other):
                    return True
        if others:
            return False
        try:
            return self._mounted(digest)
        except (PublishFailed, AccessRefused, BackendUnavailable):  # it saves a request, and nothing needs it
            return self.has_blob(digest)

    def _mounted(self, digest: str, other: str = "") -> bool:
        """Ask for the blob of *other*, or of the repository itself; tell whether it is here, whatever is answered."""
        path = f"blobs/uploads/?mount={digest}&from={quote(other or self.repository)}"
        answer = self._connection.ask("POST", path, known=(201, 202), other=other)
        if answer.status == 201:
            return self.has_blob(digest)  # registries take over what is gone
        self._started[digest] = answer
        return False

    def put_blob(self, descriptor: Descriptor, path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Store the file *path* under its digest; see `Upload.run`."""
        started = self._started.pop(descriptor.digest, None)
        Upload(self._connection, descriptor, path, self.chunk_bytes, self.pauses_s, on_bytes, started).run()

    def put_manifest(self, descriptor: Descriptor, content: bytes) -> None:
        """Store a manifest by digest."""
        self._put_manifest(descriptor.digest, descriptor, content)

    def tag(self, tag: str, descriptor: Descriptor, content: bytes) -> None:
        """Point *tag* at the manifest."""
        self._put_manifest(tag, descriptor, content)

    def lock(self, tag: str) -> None:
        """Do nothing: the protocol of registries has no such thing."""

    def resolve(self, reference: str) -> tuple[Descriptor, bytes] | None:
        """Return the manifest that a tag or digest names, verified against its digest."""
        options = {"headers": {"Accept": _ACCEPT}, "preload_content": False}
        answer = self._connection.ask("GET", f"manifests/{reference}", known=(200, 404), **options)
        with self._connection.body(answer, MANIFEST_BYTES) as body:
            content = body.whole()
        if answer.status == 404:
            return None
        digest = f"sha256:{sha256(content).hexdigest()}"
        promised = reference if reference.startswith("sha256:") else answer.headers.get("Docker-Content-Digest")
        self._same_digest(digest, promised)
        media_type = answer.headers.get("Content-Type", MANIFEST_TYPE).partition(";")[0]
        return Descriptor(media_type, digest, len(content)), content

    def fetch_blob(self, descriptor: Descriptor, path: Path) -> None:
        """Write the blob to *path*, verified against its digest; raise `PublishFailed`."""
        answer = self._connection.ask("GET", f"blobs/{descriptor.digest}", known=(200,), preload_content=False)
        with self._connection.body(answer, descriptor.size_bytes) as body:
            copy_verified(cast(BinaryIO, body), descriptor, path)

    def referrers(self, digest: str) -> Sequence[Descriptor]:
        """Return the manifests that refer to *digest*, in digest order."""
        path, entries = f"referrers/{digest}", list[Entry]()
        while path:
            answer = self._connection.ask("GET", path, known=(200, 404), headers={"Accept": INDEX_TYPE})
            if answer.status == 404:  # it has no such API
                return descriptors_of(self._list(digest))
            entries += entries_of(answer.data)
            path = self._next(answer)
        return descriptors_of(entries)

    def attach(self, subject: str, *manifests: tuple[Descriptor, bytes]) -> None:
        """Store manifests that refer to *subject*, and list them where the registry does not do that itself.

        Such a list has no guard against another writer: who writes it from what it was before takes entries away.
        It is looked at again when all who had read it before this one wrote should have written, too.
        """
        unlisted = []
        for descriptor, content in manifests:
            require_subject(subject, content)
            answer = self._put_manifest(descriptor.digest, descriptor, content)
            if answer.headers.get("OCI-Subject") != subject:
                unlisted.append(entry_of(descriptor, content))
        if unlisted:
            self._add_to_list(subject, unlisted)

    def _add_to_list(self, subject: str, unlisted: Sequence[Entry]) -> None:
        settle_s = 0.0
        for attempt in range(_LIST_ATTEMPTS):
            time.sleep(settle_s + attempt * secrets.randbelow(50) / 1000)  # so that two do not go on in step
            began = time.monotonic()
            entries = self._list(subject)
            new = [one for one in unlisted if one not in entries]
            if not new:
                return
            self._put_manifest(fallback_tag(subject), *index_of([*entries, *new]))
            settle_s = _SETTLE * (time.monotonic() - began)
        raise BackendUnavailable(
            f"others keep changing the list of what refers to an image in {self.name}",
            found=f"{_LIST_ATTEMPTS} attempts",
            wanted=fallback_tag(subject),
            next_action="run again",
        )

    def tags(self) -> Sequence[str]:
        """Return the tags in name order, without those that are lists of referrers."""
        path, found = "tags/list?n=1000", set[str]()
        while path:
            answer = self._connection.ask("GET", path, known=(200, 404), actions="pull,metadata_read")
            if answer.status == 404:
                break
            found |= set(answer.json()["tags"] or ())
            path = self._next(answer)
        return sorted(tag for tag in found if not is_fallback_tag(tag))

    def untag(self, tag: str) -> None:
        """Let *tag* name nothing; the manifest stays. A tag that is not there is fine.

        A registry that removes digests alone is given an empty index under the tag, and loses that.
        """
        answer = self._delete(f"manifests/{tag}", (202, 404, 400, 405))
        if answer.status in (202, 404):
            return
        annotations = {"io.insitu.untagged": secrets.token_hex(16)}  # no other tag names the same index
        empty, content = described(
            {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [], "annotations": annotations}
        )
        self._put_manifest(tag, empty, content)
        self._delete(f"manifests/{empty.digest}", (202,))

    def delete(self, digest: str) -> None:
        """Remove a manifest and the tags that name it; the registry frees the blobs. One that is gone is fine."""
        found = self.resolve(digest)
        if found is None:
            return
        if subject := subject_of(found[1]):
            self._unlist(subject, digest)
        self._delete(f"manifests/{digest}", (202, 404))

    def _unlist(self, subject: str, digest: str) -> None:
        entries = self._list(subject)
        left = [one for one in entries if one["digest"] != digest]
        if len(left) < len(entries):
            self._put_manifest(fallback_tag(subject), *index_of(left))

    def _delete(self, path: str, known: tuple[int, ...]) -> BaseHTTPResponse:
        return self._connection.ask("DELETE", path, known=known, actions="pull,push,delete")

    def _list(self, subject: str) -> list[Entry]:
        found = self.resolve(fallback_tag(subject))
        return entries_of(found[1]) if found else []

    def _next(self, answer: BaseHTTPResponse) -> str:
        """Return the path of the next page; empty after the last."""
        link = re.match(r"\s*<([^>]+)>", answer.headers.get("Link", ""))
        here = self._connection.url("")
        following = urljoin(here, link[1]) if link else ""
        return following.removeprefix(here) if following.startswith(here) else ""

    def _put_manifest(self, reference: str, descriptor: Descriptor, content: bytes) -> BaseHTTPResponse:
        check(descriptor, f"sha256:{sha256(content).hexdigest()}", len(content))
        headers = {"Content-Type": descriptor.media_type}
        answer = self._connection.ask("PUT", f"manifests/{reference}", known=(201,), body=content, headers=headers)
        self._same_digest(descriptor.digest, answer.headers.get("Docker-Content-Digest"))
        return answer

    def _same_digest(self, ours: str, theirs: str | None) -> None:
        if theirs and theirs != ours:
            raise PublishFailed(
                f"{self.name} has other bytes than were sent or asked for",
                found=theirs,
                wanted=ours,
                next_action="look for a proxy that rewrites content; no tag was moved",
            )

    @cached_property
    def _connection(self) -> Connection:
        return Connection(self.host, self.repository, self.login, self.grace_s)
