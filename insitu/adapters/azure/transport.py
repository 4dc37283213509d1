"""How the requests of the SDK's pipeline go out: straight over urllib3.

The SDK's own transport lets requests prepare each one anew and ask the environment for proxies each time, which costs
more CPU than all else that a small request needs. Proxies and trust are those that requests would find, looked up once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import certifi
from azure.core.exceptions import (
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.transport import HttpTransport
from azure.core.rest import HttpRequest
from requests.utils import get_auth_from_url, get_environ_proxies, prepend_scheme_if_needed, select_proxy
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout, make_headers
from urllib3.exceptions import ConnectTimeoutError, HTTPError, IncompleteRead, ProtocolError, ReadTimeoutError

_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_TIMEOUT = Timeout(connect=10, read=60)
_CONNECTIONS = 10


class Response:
    """An answer whose body is still to come.

    Attributes:
        headers: By their names in any case.
    """

    def __init__(self, answer: BaseHTTPResponse) -> None:
        self._answer = answer
        self.status_code: int = answer.status
        self.headers: Mapping[str, str] = answer.headers

    def chunks(self, size_bytes: int) -> Iterator[bytes]:
        """Yield the body as it comes, in pieces of *size_bytes*; raise `AzureError`, also when it ends too early."""
        with _named_as_azure():
            while piece := self._answer.read(size_bytes, decode_content=False):
                yield piece

    def read(self) -> bytes:
        """Return the body, which leaves the connection to others; raise `AzureError`."""
        with _named_as_azure():
            return self._answer.read(decode_content=False)


class Transport(HttpTransport[HttpRequest, Response]):
    """Connections to the host of *url*, trusting the authorities in the PEM file *ca_bundle*; safe for threads."""

    def __init__(self, url: str, ca_bundle: str = "") -> None:
        self._connections = _connections_to(url, ca_bundle)

    def send(self, request: HttpRequest, **_: Any) -> Response:
        """Return the answer to one request, neither repeated nor redirected; raise `AzureError` without one."""
        with _named_as_azure():
            answer = self._connections.urlopen(
                request.method,
                request.url,
                body=request.content,
                headers=dict(request.headers),
                retries=False,
                redirect=False,
                timeout=_TIMEOUT,
                preload_content=False,
                decode_content=False,
            )
        return Response(answer)

    def open(self) -> None:
        """Do nothing: connections are made as they are needed."""

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._connections.clear()

    def __exit__(self, *_: object) -> None:
        self.close()


def _connections_to(url: str, ca_bundle: str) -> PoolManager:
    trusted = ca_bundle or next(filter(None, map(os.environ.get, _AUTHORITIES)), None) or certifi.where()
    is_folder = Path(trusted).is_dir()
    options: dict[str, Any] = {"maxsize": _CONNECTIONS, "ca_cert_dir" if is_folder else "ca_certs": trusted}
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return PoolManager(**options)
    name, password = get_auth_from_url(proxy)
    headers = make_headers(proxy_basic_auth=f"{name}:{password}") if name else None
    return ProxyManager(prepend_scheme_if_needed(proxy, "http"), proxy_headers=headers, **options)


@contextmanager
def _named_as_azure() -> Iterator[None]:
    """Have errors of urllib3 go on as those that the SDK's policies know."""
    try:
        yield
    except ConnectTimeoutError as exc:
        raise ServiceRequestTimeoutError(exc, error=exc) from exc
    except ReadTimeoutError as exc:
        raise ServiceResponseTimeoutError(exc, error=exc) from exc
    except (ProtocolError, IncompleteRead) as exc:
        raise ServiceResponseError(exc, error=exc) from exc
    except HTTPError as exc:
        raise ServiceRequestError(exc, error=exc) from exc
