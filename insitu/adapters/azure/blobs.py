"""Blobs of a container of Azure Blob Storage, on Azure Stack Hub before all."""

from __future__ import annotations

import os
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import md5
from typing import Any, TypeVar

from insitu.adapters.azure.listing import blob_of, blobs_of, folders_of, marker_of, names_of
from insitu.adapters.azure.service import Answer, Container, Dropped, connect
from insitu.adapters.names import is_blob_name, require_blob_name
from insitu.batch import Blob
from insitu.errors import BackendUnavailable, BlobChanged, BlobExists, BlobNotFound
from insitu.settings import AzureBlobStore

T = TypeVar("T")
_MISSING = ("BlobNotFound", "ResourceNotFound")
_CHANGED = ("ConditionNotMet",)
_EXISTS = ("BlobAlreadyExists",)
_BEYOND = ("InvalidRange",)
_MARK = "x-ms-meta-insituwrite"
_DROPS = 5
_PIECE_BYTES = 32 << 20  # what comes in one piece is not copied again
_CAREFUL_BYTES = 1 << 20  # of a piece, all is lost that came before a connection broke


@dataclass(frozen=True)
class AzureBlobs:
    """A `BlobStore` over one container.

    Safe for threads. It holds no connection and no secret, so it goes to other processes; each process
    has one client per container. Names that are no relative paths, or have hidden parts, are no blobs.

    Attributes:
        page_size: Most blobs that one request lists; 5,000 is the most that a service gives.
    """

    settings: AzureBlobStore
    container: str
    page_size: int = 5000

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Yield the blobs under *prefix*, in name order; one page is held at a time."""
        return (blob for blob in self._pages(prefix, blobs_of) if is_blob_name(blob.name))

    def names(self, prefix: str = "") -> Iterator[str]:
        """Yield the names under *prefix*, in name order."""
        return filter(is_blob_name, self._pages(prefix, names_of))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Yield what names under *prefix* have up to their next slash, in name order."""
        pages = self._pages(prefix, folders_of, delimiter="/")
        return (name for name in pages if is_blob_name(name.removesuffix("/")))

    def stat(self, name: str) -> Blob:
        """Return the blob's current version; raise `BlobNotFound`."""
        return _described(name, self._head(name))

    def read(self, name: str, *, etag: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        """Return a range of the blob; raise `BlobNotFound`, `BlobChanged`.

        A connection that drops goes on where it broke, with the version that it began with.
        """
        require_blob_name(name)
        if length == 0:
            self._require(name, etag)
            return b""
        chunks: list[bytes] = []
        reason = ""
        for _ in range(_DROPS):
            received = sum(map(len, chunks))
            answer = self._get(name, etag, offset + received, length and max(1, length - received))
            if answer is None:  # nothing lies from there on
                self._require(name, etag)
                return b"".join(chunks)
            etag = etag or answer.headers["ETag"]
            try:
                chunks.extend(answer.chunks(_CAREFUL_BYTES if reason else _PIECE_BYTES))
                return b"".join(chunks)[:length]
            except Dropped as exc:
                reason = str(exc)
        raise BackendUnavailable(f"the connection drops whenever blob {name} is read", found=reason)

    def create(self, name: str, data: bytes) -> Blob:
        """Write a new blob in one piece; raise `BlobExists`."""
        written = self._put(name, data, {"If-None-Match": "*"})
        if isinstance(written, Blob):
            return written
        raise BlobExists(f"blob {name} exists already")

    def replace(self, name: str, data: bytes, *, etag: str) -> Blob:
        """Overwrite the version *etag*; raise `BlobNotFound`, `BlobChanged`."""
        written = self._put(name, data, {"If-Match": etag})
        if written is None:
            raise _changed(name, self.stat(name).etag, etag)
        return written

    def delete(self, name: str, *, etag: str) -> None:
        """Remove the version *etag*, with its snapshots; raise `BlobNotFound`, `BlobChanged`.

        A deletion whose answer is lost is asked for again, and then finds no blob.
        """
        require_blob_name(name)
        headers = {"If-Match": etag, "x-ms-delete-snapshots": "include"}
        answer = self._ask("DELETE", name, headers=headers, known=(*_MISSING, *_CHANGED))
        if answer.code in _MISSING:
            raise self._not_found(name)
        if answer.code:
            raise _changed(name, self.stat(name).etag, etag)

    def _ask(self, method: str, name: str = "", **asked: Any) -> Answer:
        return _client(os.getpid(), self.settings, self.container).ask(method, name, **asked)

    def _pages(self, prefix: str, parse: Callable[[str], Iterator[T]], delimiter: str = "") -> Iterator[T]:
        marker: str | None = ""
        while marker is not None:
            page = self._page({"prefix": prefix, "marker": marker, "delimiter": delimiter})
            yield from parse(page)
            marker = marker_of(page)

    def _page(self, asked: Mapping[str, str]) -> str:
        query = {"restype": "container", "comp": "list", "maxresults": str(self.page_size)}
        query |= {key: value for key, value in asked.items() if value}
        reason = ""
        for _ in range(_DROPS):
            try:
                page = b"".join(self._ask("GET", query=query).chunks()).decode("utf-8-sig")
            except Dropped as exc:
                reason = str(exc)
                continue
            except UnicodeDecodeError:
                page = ""
            if "<EnumerationResults" in page:
                return page
            raise self._of_somebody_else("no listing")  # else it would be an empty container
        raise BackendUnavailable(f"the connection drops whenever container {self.container} is listed", found=reason)

    def _head(self, name: str) -> Answer:
        require_blob_name(name)
        answer = self._ask("HEAD", name, known=_MISSING)
        if answer.code:
            raise self._not_found(name)
        return self._ours(answer)

    def _get(self, name: str, etag: str | None, offset: int, length: int | None) -> Answer | None:
        """Return a body to come; None when *offset* lies beyond the end."""
        headers = {"If-Match": etag} if etag else {}
        if offset or length:
            headers["x-ms-range"] = f"bytes={offset}-{offset + length - 1 if length else ''}"
        answer = self._ask("GET", name, headers=headers, known=(*_MISSING, *_CHANGED, *_BEYOND))
        if answer.code in _MISSING:
            raise self._not_found(name)
        if answer.code in _CHANGED:
            raise _changed(name, self.stat(name).etag, str(etag))
        return None if answer.code else self._ours(answer, etag)

    def _put(self, name: str, data: bytes, condition: Mapping[str, str]) -> Blob | None:
        """Write one version; return None when the condition does not hold.

        When an answer is lost the SDK asks again, and our own first success stands in its way: the
        version that is there tells by its mark whether it is ours.
        """
        require_blob_name(name)
        mark, digest = uuid.uuid4().hex, md5(data, usedforsecurity=False).digest()
        headers = {
            "x-ms-blob-type": "BlockBlob",
            "Content-Type": "application/octet-stream",
            "Content-MD5": b64encode(digest).decode(),  # the service compares it with what came
            _MARK: mark,
            **condition,
        }
        answer = self._ask("PUT", name, headers=headers, content=data, known=(*_MISSING, *_CHANGED, *_EXISTS))
        if not answer.code:
            return _described(name, self._ours(answer), len(data))
        with suppress(BlobNotFound):
            there = self._head(name)
            if there.headers.get(_MARK) == mark:
                return _described(name, there)
        return None

    def _ours(self, answer: Answer, etag: str | None = None) -> Answer:
        """Return *answer*, which tells of a blob's version, of *etag* if that was asked for; raise otherwise."""
        found = answer.headers.get("ETag", "").strip('"')
        if not found or "Last-Modified" not in answer.headers or (etag and found != etag.strip('"')):
            raise self._of_somebody_else(f"version {found}" if found else "no version of a blob")
        return answer

    def _of_somebody_else(self, found: str) -> BackendUnavailable:
        """Return the error of a page that a proxy, or whoever else is at this address, answers with."""
        return BackendUnavailable(
            f"{self.settings.account_url} does not answer as a blob service does",
            found=found,
            next_action="see whether account_url of the site is right, and what [network] or HTTPS_PROXY leads to",
        )

    def _require(self, name: str, etag: str | None) -> None:
        found = self.stat(name).etag
        if etag and found != etag:
            raise _changed(name, found, etag)

    def _not_found(self, name: str) -> BlobNotFound:
        return BlobNotFound(f"there is no blob {name} in {self.settings.account_url}/{self.container}")


@cache
def _client(process: int, settings: AzureBlobStore, container: str) -> Container:
    """Return the one client of *process*: a connection does not outlive a fork."""
    return connect(settings, container)


def _described(name: str, answer: Answer, size_bytes: int | None = None) -> Blob:
    size = {} if size_bytes is None else {"Content-Length": str(size_bytes)}
    wanted = ("Etag", "Last-Modified", "Content-Length", "Content-MD5")
    return blob_of(name, {key: answer.headers[key] for key in wanted if key in answer.headers} | size)


def _changed(name: str, found: str, wanted: str) -> BlobChanged:
    return BlobChanged(
        f"blob {name} was overwritten after the run had pinned it",
        found=f"version {found}",
        wanted=f"version {wanted}",
        next_action="start the run again: it pins the new version",
    )
