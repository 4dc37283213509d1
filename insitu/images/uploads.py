"""One blob on its way to a registry: in chunks, and from where it broke off.

Uploads are PATCHes with a Content-Length: ACR refuses a PUT over some 20 MB (413) and chunked transfer encoding with a
range (400). After a broken PATCH the registry is asked how much it has. One that does not know the upload any more gets
the blob anew: docker-registry 2.8 gives an upload up when a part of a chunk has arrived, and ACR was seen to.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin

from urllib3 import BaseHTTPResponse

from insitu.errors import BackendUnavailable, PublishFailed
from insitu.images.blobs import check
from insitu.images.connection import Connection
from insitu.ports import Descriptor

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Between looks for a registry that went away in mid-upload."""

_PIECE_BYTES = 256 << 10
_MOST_SENT = 3
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


class _Lost(Exception):
    """The registry does not know the upload any more."""


@dataclass(frozen=True)
class _Session:
    """An upload as the registry knows it: where it goes on, and how much of the blob it has.

    One that began *early* waited until other blobs were sent, and may be over.
    """

    url: str
    chunk_bytes: int
    early: bool
    offset: int = 0


@dataclass
class Upload:
    """Sends the file *path*, which is the blob *descriptor*.

    Args:
        chunk_bytes: Sent by one request; more where the registry wants more.
        pauses_s: See `PAUSES_S`.
        on_bytes: Is told how much of the blob is there or on its way.
        started: The answer that began the upload already, where one did.
    """

    connection: Connection
    descriptor: Descriptor
    path: Path
    chunk_bytes: int
    pauses_s: tuple[float, ...] = PAUSES_S
    on_bytes: Callable[[int], None] = lambda _: None
    started: BaseHTTPResponse | None = None
    sent_bytes: int = field(default=0, init=False)
    _hash: Any = field(default_factory=sha256, init=False)
    _hashed_bytes: int = field(default=0, init=False)

    def run(self) -> None:
        """Send the blob, anew where it must be; at most three times its bytes.

        Raises:
            PublishFailed: The registry refuses it, or the bytes are not those of its digest.
            BackendUnavailable: The registry stays away, or forgets the upload time and again.
        """
        size_bytes = self.path.stat().st_size
        if size_bytes != self.descriptor.size_bytes:
            check(self.descriptor, "another digest", size_bytes)
        starts, lost = 0, ""
        with self.path.open("rb") as file, ThreadPoolExecutor(1) as hashing:
            while starts < _MOST_SENT or self.sent_bytes < _MOST_SENT * size_bytes:
                try:
                    return self._whole(file, hashing)
                except _Lost as exc:
                    starts, lost = starts + 1, str(exc)
        raise BackendUnavailable(
            f"the registry {self.connection.host} keeps forgetting an upload to {self.connection.repository}",
            found=f"{lost}; {self.sent_bytes} bytes were sent for a blob of {size_bytes}",
            next_action="run again: what is there already is not sent again",
        )

    def _whole(self, file: BinaryIO, hashing: ThreadPoolExecutor) -> None:
        session, size_bytes, last = self._start(), self.descriptor.size_bytes, b""
        if size_bytes < session.chunk_bytes:  # a small blob needs no PATCH
            last = self._read(file, session)
            self._digest(last, 0)
        while size_bytes >= session.chunk_bytes and session.offset < size_bytes:
            chunk = self._read(file, session)
            hashed = hashing.submit(self._digest, chunk, session.offset)
            try:
                session = self._advance(session, chunk)
            finally:
                hashed.result()
        check(self.descriptor, f"sha256:{self._hash.hexdigest()}", self._hashed_bytes)
        self._finish(session, last)

    def _read(self, file: BinaryIO, session: _Session) -> bytes:
        file.seek(session.offset)
        return file.read(session.chunk_bytes)

    def _digest(self, chunk: bytes, offset: int) -> None:
        """Digest what was not digested yet: what is sent again was."""
        new = memoryview(chunk)[self._hashed_bytes - offset :]
        self._hash.update(new)
        self._hashed_bytes += len(new)

    def _start(self) -> _Session:
        began, self.started = self.started, None
        answer = began or self._patiently(lambda: self.connection.ask("POST", "blobs/uploads/", known=(202,)))
        least_bytes = int(answer.headers.get("OCI-Chunk-Min-Length", 0))
        return _Session(upload_url(self.connection, answer), max(self.chunk_bytes, least_bytes), began is not None)

    def _advance(self, session: _Session, chunk: bytes) -> _Session:
        """Send one chunk; return how far the registry is, also when the request broke."""
        if self.sent_bytes > _MOST_SENT * self.descriptor.size_bytes:
            raise _Lost("the upload does not grow")
        end = session.offset + len(chunk)
        try:
            answer = self._send("PATCH", session, session.url, chunk, 202)
        except BackendUnavailable:
            return self._found(session, end)
        if answer.status == 416:
            return self._found(session, end)
        if answer.status in (400, 404):
            raise _Lost(f"PATCH answered {answer.status}")
        offset = _offset(answer, most=end) if "Range" in answer.headers else end
        return replace(session, url=upload_url(self.connection, answer), offset=offset)

    def _found(self, session: _Session, most: int) -> _Session:
        """Ask the registry how much it has, once it is back; no more than *most*."""
        known = (204, 400, 404, 416)
        answer = self._patiently(lambda: self.connection.request("GET", session.url, known=known))
        if answer.status != 204:
            raise _Lost(f"GET of the upload answered {answer.status}")
        url = upload_url(self.connection, answer) if "Location" in answer.headers else session.url
        return replace(session, url=url, offset=_offset(answer, most))

    def _finish(self, session: _Session, last: bytes) -> None:
        url = session.url + f"{'&' if '?' in session.url else '?'}digest={self.descriptor.digest}"
        try:
            if self._send("PUT", session, url, last, 201).status == 201:
                return
        except BackendUnavailable:
            pass  # it may have been done
        path = f"blobs/{self.descriptor.digest}"
        if self._patiently(lambda: self.connection.ask("HEAD", path, known=(200, 404))).status == 404:
            raise _Lost("the end of the upload was not taken")

    def _send(self, method: str, session: _Session, url: str, chunk: bytes, done: int) -> BaseHTTPResponse:
        """Send bytes of the blob; return an answer that they are *done*, or that the upload is not as it was."""
        offset, known = session.offset, (done, 404, 416, *([400] if session.early else []))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(chunk))}
        if method == "PATCH":
            headers["Content-Range"] = f"{offset}-{offset + len(chunk) - 1}"

        def count(piece_bytes: int, done_bytes: int) -> None:
            self.sent_bytes += piece_bytes
            self.on_bytes(offset + done_bytes)

        return self.connection.request(method, url, known=known, body=_Pieces(chunk, count), headers=headers)

    def _patiently(self, ask: Callable[[], BaseHTTPResponse]) -> BaseHTTPResponse:
        for pause_s in self.pauses_s:
            try:
                return ask()
            except BackendUnavailable:
                time.sleep(pause_s)
        return ask()


@dataclass(frozen=True)
class _Pieces:
    """A body that goes piece by piece: each has the connection's time limit for itself, and is counted."""

    chunk: bytes
    count: Callable[[int, int], None]

    def __iter__(self) -> Iterator[memoryview]:
        for start in range(0, len(self.chunk), _PIECE_BYTES):
            piece = memoryview(self.chunk)[start : start + _PIECE_BYTES]
            self.count(len(piece), start + len(piece))
            yield piece


def upload_url(connection: Connection, answer: BaseHTTPResponse) -> str:
    """Return where the upload goes on: registries answer with a path or with a whole address."""
    location = answer.headers.get("Location")
    if not location:
        raise PublishFailed(
            f"{connection.host}/{connection.repository} accepts an upload without saying where",
            wanted="a Location header",
        )
    return urljoin(connection.url(""), location)


def _offset(answer: BaseHTTPResponse, most: int) -> int:
    """Return how many bytes the registry has; `0-0` is what it says of none."""
    match = _RANGE.fullmatch(answer.headers.get("Range", "0-0").strip())
    offset = int(match[1]) + 1 if match and match[1] != "0" else 0
    if match is None or offset > most:
        raise _Lost("the registry has another part than was sent")
    return offset
