"""Shared access signatures, and plain requests to blobs with one.

Signed by hand for service version 2019-07-07: Microsoft's library signs for newer ones only.
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import sleep
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import urllib3

from insitu.errors import BackendUnavailable

VERSION = "2019-07-07"
_TRIES = 5


@dataclass(frozen=True)
class Key:
    """A storage account's name and key (base64)."""

    account: str
    secret: str = field(repr=False)

    def _signed(self, *parts: str) -> str:
        text = "\n".join(parts)
        return b64encode(hmac.new(b64decode(self.secret), text.encode(), sha256).digest()).decode()

    def account_sas(self, hours: float = 1.0, permissions: str = "rwdlacup") -> str:
        """Return a signature for everything of the account's blobs."""
        until = _until(hours)
        sig = self._signed(self.account, permissions, "b", "sco", "", until, "", "https,http", VERSION, "")
        values = {"sv": VERSION, "ss": "b", "srt": "sco", "sp": permissions, "se": until, "spr": "https,http"}
        return urlencode(values | {"sig": sig})

    def container_sas(self, container: str, hours: float = 1.0, permissions: str = "racwl") -> str:
        """Return a signature for the blobs of one container."""
        until = _until(hours)
        resource = f"/blob/{self.account}/{container}"
        empty = [""] * 5  # snapshot time, and the response headers that it could override
        sig = self._signed(permissions, "", until, resource, "", "", "https,http", VERSION, "c", "", *empty)
        values = {"sv": VERSION, "sr": "c", "sp": permissions, "se": until, "spr": "https,http"}
        return urlencode(values | {"sig": sig})


@dataclass(frozen=True)
class SignedBlobs:
    """The blobs below an address, asked with a signature; a service in trouble is asked again.

    Args:
        base: Address of the account, such as `https://ACCOUNT.blob.core.windows.net`.
    """

    base: str
    signature: str = field(repr=False)
    pool: urllib3.PoolManager = field(repr=False)

    def make_container(self, name: str) -> None:
        """Make a container, unless there is one."""
        self._ask("PUT", name, {"restype": "container"}, known=(201, 409))

    def put(self, container: str, name: str, data: bytes) -> None:
        """Write a blob."""
        self._ask("PUT", f"{container}/{name}", body=data, headers={"x-ms-blob-type": "BlockBlob"})

    def start_log(self, container: str, name: str) -> None:
        """Make an empty blob that grows."""
        self._ask("PUT", f"{container}/{name}", headers={"x-ms-blob-type": "AppendBlob"})

    def append(self, container: str, name: str, data: bytes, offset: int) -> None:
        """Add to a blob that has *offset* bytes; a repetition after a lost answer adds nothing."""
        headers = {"x-ms-blob-condition-appendpos": str(offset)}
        self._ask("PUT", f"{container}/{name}", {"comp": "appendblock"}, body=data, headers=headers, known=(201, 412))

    def read(self, container: str, name: str) -> bytes:
        """Return a blob."""
        return self._ask("GET", f"{container}/{name}", known=(200,)).data

    def names(self, container: str, prefix: str) -> Iterator[str]:
        """Yield the names of the blobs under *prefix*."""
        marker: str | None = ""
        while marker is not None:
            query = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            page = ElementTree.fromstring(self._ask("GET", container, query, known=(200,)).data)  # noqa: S314 - our own
            yield from (name.text or "" for name in page.iterfind("./Blobs/Blob/Name"))
            marker = page.findtext("NextMarker") or None

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        known: tuple[int, ...] = (201,),
    ) -> urllib3.BaseHTTPResponse:
        extra = urlencode(query) + "&" if query else ""
        url = f"{self.base}/{quote(path)}?{extra}{self.signature}"
        found = ""
        for attempt in range(_TRIES):
            try:
                answer = self.pool.request(
                    method, url, body=body or None, headers={"x-ms-version": VERSION, **(headers or {})}, retries=False
                )
            except urllib3.exceptions.HTTPError as exc:
                found = type(exc).__name__
            else:
                if answer.status in known:
                    return answer
                found = str(answer.status)
                if answer.status < 500 and answer.status != 429:
                    break
            sleep(0.2 * 2**attempt)
        raise BackendUnavailable(f"the twin's blob service refuses {method} of {path}", found=found)


def _until(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
