"""The door to a blob service: one request at a time, through the SDK's own signing, retries and timeouts.

Requests are plain REST, because the SDK's methods cost twice the CPU per range and build an object of
dozens of fields per listed blob. No text of the service or of the SDK goes into an error: both may quote
the address with its signature.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from azure.core.exceptions import AzureError
from azure.core.rest import HttpRequest
from azure.storage.blob import ContainerClient, LinearRetry

from insitu.adapters.azure.answers import after_silence
from insitu.adapters.azure.credentials import credential_of
from insitu.adapters.azure.transport import Response, Transport
from insitu.errors import BackendUnavailable, InsituError, SettingsError, StoreRefused
from insitu.settings import AzureBlobStore

_RETRIES = 3  # the SDK makes no more than three of a kind
_PIECE_BYTES = 1 << 20
_SKEW_S = 300
_CODES = {404: "BlobNotFound", 412: "ConditionNotMet", 416: "InvalidRange"}
"""What is meant where a status comes without a code."""
_UNLISTABLE = "if it stays so, look for a name with a control character by listing prefix after prefix, and rename it"
_ERROR_CODE = re.compile(r"<Code>(\w+)</Code>")


@dataclass(frozen=True)
class Answer:
    """What the service said: the code of an error that the caller knows, or headers and a body to come."""

    code: str
    headers: Mapping[str, str]
    response: Response

    def chunks(self, size_bytes: int = _PIECE_BYTES) -> Iterator[bytes]:
        """Yield the body as it comes; raise `Dropped`, also when it ends too early."""
        try:
            yield from self.response.chunks(size_bytes)
        except AzureError as exc:
            raise Dropped(_reason(exc)) from None


class Dropped(Exception):
    """The connection broke within a body; holds the name of the reason."""


class Retry(LinearRetry):
    """Waits 0.2, 0.8 and 3.2 s, each within a half: an idle connection that was closed is no reason to wait long."""

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        return float(0.2 * 4 ** (settings["count"] - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


class Container(ContainerClient):
    """One container, asked in plain REST.

    A subclass, since the SDK shares its pipeline with nobody else.
    """

    def ask(
        self,
        method: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        known: tuple[str, ...] = (),
    ) -> Answer:
        """Return the answer about the container, or about the blob *name*.

        Args:
            known: Codes of errors that are returned; other errors are raised.

        Raises:
            BackendUnavailable: No answer, or one of a service that is in trouble, after some retries.
            StoreRefused: The service does not do this for us.
        """
        all_headers = {"x-ms-version": self.api_version, "Accept-Encoding": "identity", **(headers or {})}
        url = f"{self.url}/{quote(name, safe='~/')}" if name else self.url
        params = {key: quote(value, safe="") for key, value in (query or {}).items()}
        request = HttpRequest(method, url, params=params, headers=all_headers, content=content)
        try:
            response = self._pipeline.run(request, stream=True).http_response
            if response.status_code < 300:
                if method != "GET":
                    response.read()  # else the connection would not be used again
                return Answer("", response.headers, response)
            code, body = _code(response, response.read())
        except AzureError as exc:
            raise self._no_answer(_reason(exc)) from None
        if code in known:
            return Answer(code, response.headers, response)
        raise self._refusal(response, code, body, listing=not name)

    def _no_answer(self, reason: str) -> InsituError:
        if "SSLError" in reason:
            return StoreRefused(
                f"the certificate of {self.primary_hostname} is not trusted",
                found=reason,
                next_action="name the PEM file of its authority in ca_bundle of the site's [data] and [state]",
            )
        next_action = "see whether the service runs, and whether account_url of the site is right; then start again"
        return BackendUnavailable(
            f"the blob service {self.primary_hostname} does not answer",
            found=f"{reason}, also after {_RETRIES} retries",
            next_action=after_silence(reason, next_action),
        )

    def _refusal(self, response: Response, code: str, body: str, listing: bool) -> InsituError:
        status, found = response.status_code, f"{response.status_code} {code}".strip()
        where = f"container {self.container_name} of {self.primary_hostname}"
        if status in (408, 429) or status >= 500:
            next_action = "wait, then start again" + (f"; {_UNLISTABLE}" if listing else "")
            return BackendUnavailable(f"{where} is in trouble", found=found, next_action=next_action)
        if status in (401, 403):
            return _unwelcome(where, found, response)
        if code in ("ContainerNotFound", "ContainerBeingDeleted"):
            return StoreRefused(
                f"there is no {where}",
                found=found,
                next_action="create it, or mend account_url or the container's name in the settings",
            )
        if "x-ms-version" in body or (code == "InvalidHeaderValue" and not body):  # HEAD has no body
            return StoreRefused(
                f"{self.primary_hostname} does not speak service version {self.api_version}",
                found=found,
                next_action='set api_version of the site\'s store to one that it speaks: "2019-07-07" on Stack Hub',
            )
        return StoreRefused(f"{where} refuses a request", found=found)


def connect(settings: AzureBlobStore, container: str) -> Container:
    """Return the container; nothing is asked yet.

    Raises:
        SettingsError: The secret is not where the settings say, or cannot be one.
    """
    try:
        return Container(
            settings.account_url,
            container,
            credential=credential_of(settings),
            api_version=settings.api_version,
            retry_policy=Retry(retry_total=_RETRIES),
            transport=Transport(settings.account_url, str(settings.ca_bundle or "")),
        )
    except ValueError:
        raise SettingsError(
            f"service version {settings.api_version} is none that Microsoft's library knows",
            next_action='mend api_version of the site\'s store, such as "2019-07-07"',
        ) from None


def _code(response: Response, body: bytes) -> tuple[str, str]:
    """Return the error's code, and the text of the body for looking things up."""
    text = body.decode(errors="replace")
    found = _ERROR_CODE.search(text)
    code = response.headers.get("x-ms-error-code") or (found[1] if found else _CODES.get(response.status_code, ""))
    return "".join(re.findall(r"\w+", code)), text


def _unwelcome(where: str, found: str, response: Response) -> StoreRefused:
    skew_s = _skew_s(response.headers.get("Date"))
    if abs(skew_s) > _SKEW_S:
        return StoreRefused(
            f"{where} refuses the request: the clocks differ",
            found=f"{found}; this machine's clock is {skew_s:+.0f} s from the service's",
            next_action="set the clock of this machine",
        )
    return StoreRefused(
        f"{where} refuses the account key or the signature",
        found=found,
        next_action="see whether the secret that the site names is this account's, may do this, and has not expired",
    )


def _skew_s(date: str | None) -> float:
    if not date:
        return 0.0
    return (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()


def _reason(exc: AzureError) -> str:
    """Return the classes of an exception and of what is within: their texts may quote an address."""
    inner = exc.inner_exception
    return type(exc).__name__ if inner is None else f"{type(exc).__name__} ({type(inner).__name__})"
