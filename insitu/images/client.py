"""A client of the OCI distribution protocol, for one repository of one registry.

Uploads are PATCHes with a Content-Length: ACR refuses a PUT over some 20 MB (413) and chunked
transfer encoding with a range (400). A registry may forget an upload that broke off (404, 416), and
then the blob starts again from its first byte.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry, Timeout
from urllib3.util import make_headers, parse_url

from insitu.errors import BackendUnavailable, PublishFailed, UsageError
from insitu.images.blobs import check, copy_verified
from insitu.images.login import Login, challenge_of
from insitu.images.manifest import MANIFEST_TYPE
from insitu.ports import Descriptor

CHUNK_BYTES = 16 << 20
_ATTEMPTS = 3
_MANIFEST_BYTES = 4 << 20
_ACCEPT = f"{MANIFEST_TYPE}, application/vnd.docker.distribution.manifest.v2+json"
_REPOSITORY = re.compile(r"[a-z0-9]+([._/-]+[a-z0-9]+)*")
# A connection that falls silent is noticed within a minute: a look is repeated once, a change is not.
LOOK_TIMEOUT, _CHANGE_TIMEOUT = Timeout(connect=10, read=30), Timeout(connect=10, read=60)
# Only what changes nothing is repeated here; the rest is repeated by the caller, from the start. A request
# that came too early (429) was not done, whatever it was.
_WAITING: dict[str, Any] = {
    "allowed_methods": None,
    "backoff_factor": 0.3,
    "raise_on_status": False,
    "retry_after_max": 60,
}
SAFE = Retry(total=3, read=1, status_forcelist=(429, 502, 503, 504), **_WAITING)
_UNSAFE = Retry(total=None, connect=0, read=0, other=0, status=2, redirect=2, status_forcelist=(429,), **_WAITING)
_NEXT_ACTIONS = {
    401: 'the registry wants a login: an Azure Container Registry takes registry_login = "azure" of the site',
    403: "ask the registry's owner for the right to push to this repository, and to lock its tags",
    404: "create the repository, or correct its name in the site's settings",
    413: "a proxy or the registry limits uploads: raise its limit to 20 MiB",
}


class _UploadLost(Exception):
    """The registry does not know the upload any more."""


@dataclass(frozen=True)
class RegistryImages:
    """One repository of a registry: `ImageRegistry` over HTTP, or over TLS unless *host* is this machine.

    Args:
        host: Name or address, with the port when it is not the scheme's.
        repository: Lower-case path.
        login: Who signs in; None publishes anonymously.
    """

    host: str
    repository: str
    chunk_bytes: int = field(default=CHUNK_BYTES, compare=False)
    login: Login | None = field(default=None, compare=False, repr=False)

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
        """Tell whether the repository holds the blob."""
        answer = self._ask("HEAD", f"blobs/{digest}", known=(200, 404))
        return answer.status == 200

    def put_blob(self, descriptor: Descriptor, path: Path) -> None:
        """Store the file *path* under its digest; raise `PublishFailed` when the bytes differ."""
        lost: _UploadLost | None = None
        for _ in range(_ATTEMPTS):
            try:
                self._upload(descriptor, path)
            except _UploadLost as exc:
                lost = exc
            else:
                return
        raise BackendUnavailable(
            f"{self.name} forgot an upload {_ATTEMPTS} times",
            found=str(lost),
            next_action="run again: what is there already is not sent again",
        ) from lost

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
        answer = self._ask("GET", f"manifests/{reference}", known=(200, 404), headers={"Accept": _ACCEPT})
        if answer.status == 404:
            return None
        content = answer.data
        digest = f"sha256:{sha256(content).hexdigest()}"
        promised = reference if reference.startswith("sha256:") else answer.headers.get("Docker-Content-Digest")
        self._same_digest(digest, promised)
        media_type = answer.headers.get("Content-Type", MANIFEST_TYPE).partition(";")[0]
        return Descriptor(media_type, digest, len(content)), content

    def fetch_blob(self, descriptor: Descriptor, path: Path) -> None:
        """Write the blob to *path*, verified against its digest; raise `PublishFailed`."""
        answer = self._ask("GET", f"blobs/{descriptor.digest}", known=(200,), preload_content=False)
        with closing(answer):
            try:
                copy_verified(cast(BinaryIO, answer), descriptor, path)
            except urllib3.exceptions.HTTPError as exc:
                raise self._unavailable(exc) from exc
            finally:
                answer.release_conn()

    def _upload(self, descriptor: Descriptor, path: Path) -> None:
        answer = self._ask("POST", "blobs/uploads/", known=(202,))
        chunk_bytes = max(self.chunk_bytes, int(answer.headers.get("OCI-Chunk-Min-Length", 0)))
        digest, sent_bytes = sha256(), 0
        last = b""
        with path.open("rb") as file:
            for chunk in _chunks(file, chunk_bytes):
                digest.update(chunk)
                if len(chunk) < chunk_bytes and not sent_bytes:
                    last = chunk  # a small blob needs no PATCH
                else:
                    answer = self._patch(answer, chunk, sent_bytes)
                sent_bytes += len(chunk)
        check(descriptor, f"sha256:{digest.hexdigest()}", sent_bytes)
        url = self._session(answer)
        url += f"{'&' if '?' in url else '?'}digest={descriptor.digest}"
        self._continue("PUT", url, last, known=(201,), headers={"Content-Type": "application/octet-stream"})

    def _patch(self, answer: BaseHTTPResponse, chunk: bytes, offset: int) -> BaseHTTPResponse:
        end = offset + len(chunk) - 1
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{offset}-{end}"}
        answer = self._continue("PATCH", self._session(answer), chunk, known=(202,), headers=headers)
        if answer.headers.get("Range", f"0-{end}").removeprefix("bytes=") != f"0-{end}":
            raise _UploadLost("the registry has another part than was sent")
        return answer

    def _continue(self, method: str, url: str, body: bytes, **options: Any) -> BaseHTTPResponse:
        known: tuple[int, ...] = options.pop("known")
        answer = self._request(method, url, known=(*known, 404, 416), body=body, **options)
        if answer.status not in known:
            raise _UploadLost(f"{method} answered {answer.status}")
        return answer

    def _session(self, answer: BaseHTTPResponse) -> str:
        """Return where the upload goes on: registries answer with a path or with a whole address."""
        location = answer.headers.get("Location")
        if not location:
            raise PublishFailed(f"{self.name} accepts an upload without saying where", wanted="a Location header")
        return urljoin(self._url(""), location)

    def _put_manifest(self, reference: str, descriptor: Descriptor, content: bytes) -> None:
        check(descriptor, f"sha256:{sha256(content).hexdigest()}", len(content))
        headers = {"Content-Type": descriptor.media_type}
        answer = self._ask("PUT", f"manifests/{reference}", known=(201,), body=content, headers=headers)
        self._same_digest(descriptor.digest, answer.headers.get("Docker-Content-Digest"))

    def _same_digest(self, ours: str, theirs: str | None) -> None:
        if theirs and theirs != ours:
            raise PublishFailed(
                f"{self.name} has other bytes than were sent or asked for",
                found=theirs,
                wanted=ours,
                next_action="look for a proxy that rewrites content; no tag was moved",
            )

    def _ask(self, method: str, path: str, known: tuple[int, ...], **options: Any) -> BaseHTTPResponse:
        return self._request(method, self._url(path), known=known, **options)

    def _url(self, path: str) -> str:
        return f"{base_url(self.host)}/v2/{self.repository}/{path}"

    def _request(
        self, method: str, url: str, known: tuple[int, ...], actions: str = "pull,push", **options: Any
    ) -> BaseHTTPResponse:
        looks = method in ("HEAD", "GET")
        options |= {
            "timeout": LOOK_TIMEOUT if looks else _CHANGE_TIMEOUT,
            "retries": SAFE if looks else _UNSAFE,
        }
        try:
            answer = self._signed(method, url, f"repository:{self.repository}:{actions}", options)
        except urllib3.exceptions.HTTPError as exc:
            raise self._unavailable(exc) from exc
        if answer.status not in known:
            raise self._refused(method, answer)
        return answer

    def _signed(self, method: str, url: str, scope: str, options: Mapping[str, Any]) -> BaseHTTPResponse:
        """Send the request with a token; when that has run out, once more with another."""
        if self.login is None or _origin(url) != _origin(base_url(self.host)):  # no token for anybody else
            return self._pool.request(method, url, **options)
        headers = dict(options.get("headers", {}))
        headers["Authorization"] = self.login.authorization(scope)
        answer = self._pool.request(method, url, **{**options, "headers": headers})
        challenge = challenge_of(answer.headers.get("WWW-Authenticate")) if answer.status == 401 else None
        if challenge is None:
            return answer
        answer.drain_conn()
        headers["Authorization"] = self.login.authorization(scope, challenge)
        return self._pool.request(method, url, **{**options, "headers": headers})

    @cached_property
    def _pool(self) -> PoolManager:
        return open_pool(self.host)

    def _unavailable(self, exc: Exception) -> BackendUnavailable:
        return BackendUnavailable(
            f"no answer from the registry {self.host} about {self.repository}",
            found=reason_of(exc),
            next_action="see that the registry runs and can be reached from here, then run again",
        )

    def _refused(self, method: str, answer: BaseHTTPResponse) -> PublishFailed | BackendUnavailable:
        status = answer.status
        code = re.search(rb'"code":\s*"([A-Z_]{1,40})"', answer.data[:_MANIFEST_BYTES])
        kind = BackendUnavailable if status == 429 or status >= 500 else PublishFailed
        return kind(
            f"the registry {self.host} refuses {method} for {self.repository}",
            found=f"{status} {code[1].decode() if code else answer.reason or ''}".strip(),
            next_action=_NEXT_ACTIONS.get(
                403 if self.login and status == 401 else status,
                "look into the registry's log; what was sent stays there",
            ),
        )


def _chunks(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    while chunk := file.read(size_bytes):
        yield chunk


def base_url(host: str) -> str:
    """Return the address of a registry: without TLS on this machine alone."""
    return f"{'http' if _is_loopback(host) else 'https'}://{host}"


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    """Return scheme, host and port: one address may name the port of its scheme, another leave it out."""
    parts = parse_url(url)
    return parts.scheme, parts.host, parts.port or {"http": 80, "https": 443}.get(parts.scheme or "")


def open_pool(host: str) -> PoolManager:
    """Return connections to *host*, through the proxy and with the authorities that the standard variables name."""
    ca_file = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    proxy = getproxies().get("https")
    if not proxy or _is_loopback(host) or proxy_bypass(host):
        return PoolManager(blocksize=1 << 20, ca_certs=ca_file)
    auth = parse_url(proxy).auth
    headers = make_headers(proxy_basic_auth=unquote(auth)) if auth else None
    return ProxyManager(proxy, proxy_headers=headers, blocksize=1 << 20, ca_certs=ca_file)


def reason_of(exc: Exception) -> str:
    """Return the class of an exception, and of the one that it was raised for."""
    inner = getattr(exc, "reason", None)
    return f"{type(exc).__name__} ({type(inner).__name__})" if isinstance(inner, Exception) else type(exc).__name__


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
