"""Requests to a registry: its address, connections, tokens, repetitions, and what its refusals mean."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Retry, Timeout
from urllib3.exceptions import MaxRetryError
from urllib3.util import make_headers, parse_url

from insitu.errors import BackendUnavailable, PublishFailed
from insitu.images.login import Login, challenge_of

GRACE_S = 30.0
_CONNECTIONS = 4
_LEAST_RATE = 4_000
_ERROR_BYTES = 64 << 10
# A connection that falls silent is noticed within a minute: a look is repeated once, a change is not.
LOOK_TIMEOUT, _CHANGE_TIMEOUT = Timeout(connect=10, read=30), Timeout(connect=10, read=60)
# Only what changes nothing is repeated here; the rest is repeated by the caller, from the start. A request
# that came too early (429) was not done, whatever it was. docker-registry answers 500 while a tag is moved.
_WAITING: dict[str, Any] = {
    "allowed_methods": None,
    "backoff_factor": 0.3,
    "raise_on_status": False,
    "retry_after_max": 60,
}
SAFE = Retry(total=3, read=1, status_forcelist=(429, 500, 502, 503, 504), **_WAITING)
_UNSAFE = Retry(total=None, connect=0, read=0, other=0, status=2, redirect=2, status_forcelist=(429,), **_WAITING)
_ELSEWHERE = {"docker.io": "registry-1.docker.io"}  # what everybody calls Docker Hub is its website
_NEXT_ACTIONS = {
    401: 'the registry wants a login: an Azure Container Registry takes registry_login = "azure" of the site',
    403: "ask the registry's owner for the right to push to this repository, and to lock its tags",
    404: "create the repository, or correct its name in the site's settings",
    405: "the registry does not allow that: its owner locks tags, or keeps everything for ever",
    413: "a proxy or the registry limits uploads: raise its limit to 20 MiB",
}


@dataclass(frozen=True)
class Connection:
    """One repository of one registry, and who asks; opened by the first request.

    Args:
        host: Name or address, with the port when it is not the scheme's.
        repository: Lower-case path.
        login: Who signs in; None asks anonymously.
        grace_s: How long a body may come slower than at `_LEAST_RATE`.
    """

    host: str
    repository: str
    login: Login | None = None
    grace_s: float = GRACE_S

    def url(self, path: str) -> str:
        """Return the address of *path* in the repository."""
        return f"{base_url(self.host)}/v2/{self.repository}/{path}"

    def ask(self, method: str, path: str, known: tuple[int, ...], **options: Any) -> BaseHTTPResponse:
        """Send a request about *path* of the repository; see `request`."""
        return self.request(method, self.url(path), known=known, **options)

    def request(
        self, method: str, url: str, known: tuple[int, ...], actions: str = "pull,push", other: str = "", **options: Any
    ) -> BaseHTTPResponse:
        """Send a request and return an answer whose status is one of *known*.

        Args:
            actions: What the token is asked for.
            other: A repository that is to be read, too.
            options: As `PoolManager.request` takes them.

        Raises:
            PublishFailed: Another status.
            BackendUnavailable: No answer, or one that may be another in a while.
        """
        looks = method in ("HEAD", "GET")
        options = {
            "timeout": LOOK_TIMEOUT if looks else _CHANGE_TIMEOUT,
            "retries": SAFE if looks else _UNSAFE,
            **options,
        }
        scope = f"repository:{self.repository}:{actions}{f' repository:{other}:pull' if other else ''}"
        try:
            answer = self._signed(method, url, scope, options)
            if answer.status not in known:
                raise self._refused(method, answer)
        except urllib3.exceptions.HTTPError as exc:
            raise self._broken(exc) from exc
        return answer

    @contextmanager
    def body(self, answer: BaseHTTPResponse, most_bytes: int) -> Iterator[Body]:
        """Yield the body of an answer that was asked for with `preload_content=False`.

        Raises:
            PublishFailed: It is longer than *most_bytes*.
            BackendUnavailable: It breaks off, or trickles.
        """
        try:
            yield Body(answer, most_bytes, self.grace_s, self.host)
        except urllib3.exceptions.HTTPError as exc:
            raise self._broken(exc) from exc
        finally:
            answer.close()  # of no use for another request unless it was read to its end
            answer.release_conn()

    def _broken(self, exc: Exception) -> BackendUnavailable | PublishFailed:
        if isinstance(exc, MaxRetryError) and "redirects" in str(exc.reason):
            return PublishFailed(
                f"the registry {self.host} redirects in circles",
                found=f"too many redirects for {self.repository}",
                next_action="see that host and repository are those that its owner names",
            )
        return BackendUnavailable(
            f"no answer from the registry {self.host} about {self.repository}",
            found=reason_of(exc),
            next_action="see that the registry runs and can be reached from here, then run again",
        )

    def _signed(self, method: str, url: str, scope: str, options: Mapping[str, Any]) -> BaseHTTPResponse:
        """Send the request with a token; when that has run out, once more with another."""
        if self.login is None or _origin(url) != _origin(base_url(self.host)):  # no token for anybody else
            return self._pool.request(method, url, **options)
        headers = dict(options.get("headers", {}))
        if known := self.login.authorization(scope):
            headers["Authorization"] = known
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

    def _refused(self, method: str, answer: BaseHTTPResponse) -> PublishFailed | BackendUnavailable:
        status = answer.status
        code = re.search(rb'"code":\s*"([A-Z_]{1,40})"', answer.data[:_ERROR_BYTES])
        kind = BackendUnavailable if status == 429 or status >= 500 else PublishFailed
        return kind(
            f"the registry {self.host} refuses {method} for {self.repository}",
            found=f"{status} {code[1].decode() if code else answer.reason or ''}".strip(),
            next_action=_NEXT_ACTIONS.get(
                403 if self.login and status == 401 else status,
                "look into the registry's log; what was sent stays there",
            ),
        )


@dataclass
class Body:
    """Reads an answer, as far and as long as it may go."""

    answer: BaseHTTPResponse
    most_bytes: int
    grace_s: float
    host: str
    read_bytes: int = 0
    started: float = field(default_factory=time.monotonic)

    def read(self, size: int = 1 << 20) -> bytes:
        """Return the next bytes, at most *size*; nothing at the end."""
        data = self.answer.read1(size)
        self.read_bytes += len(data)
        if self.read_bytes > self.most_bytes:
            raise PublishFailed(
                f"the registry {self.host} sends more than was asked for", wanted=f"{self.most_bytes} bytes at most"
            )
        if data and time.monotonic() - self.started > self.grace_s + self.read_bytes / _LEAST_RATE:
            raise BackendUnavailable(
                f"the registry {self.host} sends too slowly",
                found=f"{self.read_bytes} bytes in {time.monotonic() - self.started:.0f} s",
                wanted=f"{_LEAST_RATE} bytes per second",
                next_action="see what is between here and the registry, then run again",
            )
        return data

    def whole(self) -> bytes:
        """Return everything."""
        return b"".join(iter(self.read, b""))


def base_url(host: str) -> str:
    """Return the address of a registry: without TLS on this machine alone."""
    return f"{'http' if _is_loopback(host) else 'https'}://{_ELSEWHERE.get(host, host)}"


def open_pool(host: str) -> PoolManager:
    """Return connections to *host*, through the proxy and with the authorities that the standard variables name."""
    ca_file = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    proxy = getproxies().get("https")
    size: dict[str, Any] = {"maxsize": _CONNECTIONS, "blocksize": 1 << 20}
    if not proxy or _is_loopback(host) or proxy_bypass(host):
        return PoolManager(ca_certs=ca_file, **size)
    auth = parse_url(proxy).auth
    headers = make_headers(proxy_basic_auth=unquote(auth)) if auth else None
    return ProxyManager(proxy, proxy_headers=headers, ca_certs=ca_file, **size)


def reason_of(exc: Exception) -> str:
    """Return the class of an exception, and of the one that it was raised for."""
    inner = getattr(exc, "reason", None)
    return f"{type(exc).__name__} ({type(inner).__name__})" if isinstance(inner, Exception) else type(exc).__name__


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    """Return scheme, host and port: one address may name the port of its scheme, another leave it out."""
    parts = parse_url(url)
    return parts.scheme, parts.host, parts.port or {"http": 80, "https": 443}.get(parts.scheme or "")


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
