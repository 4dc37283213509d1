"""Azure Container Registry: signed in to with a token of Entra, its tags locked once they are published.

Entra's token is exchanged for the registry's refresh token (three hours), and that for an access token
(an hour or so) per scope. A long push outlives both. The registry's admin user is never used.
"""

from __future__ import annotations

import json
import os
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from azure.core.credentials import AccessToken
from urllib3 import BaseHTTPResponse, PoolManager

from insitu.adapters.azure.identity import azure_identity
from insitu.errors import AccessRefused, BackendUnavailable, InsituError, PublishFailed
from insitu.images.client import RegistryImages
from insitu.images.connection import LOOK_TIMEOUT, SAFE, base_url, open_pool, reason_of
from insitu.images.login import Challenge, challenge_of
from insitu.images.uploads import upload_url
from insitu.ports import Check
from insitu.settings import AzureSettings

SCOPE = "https://containerregistry.azure.net/.default"
"""What the token of Entra is for."""

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_MARGIN_S = 60
_UNKNOWN_LIFE_S = 300


class Entra(Protocol):
    """What issues tokens: `Identity`."""

    def get_token(self, *scopes: str) -> AccessToken:
        """Return a token for *scopes*."""
        ...

    def forget(self) -> None:
        """Ask for a new token next time."""
        ...


@dataclass
class AcrLogin:
    """A `Login` for one registry.

    Args:
        host: The login server, such as `insitu.azurecr.io`.
        tenant: The directory that issues the tokens.
        identity: Who signs in there.
    """

    host: str
    tenant: str
    identity: Entra = field(repr=False)
    _refresh_token: str = field(default="", init=False, repr=False)
    _known: dict[str, tuple[str, float]] = field(default_factory=dict, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def authorization(self, scope: str, challenge: Challenge | None = None) -> str:
        """Return `Bearer …` for *scope*; see `Login`."""
        with self._lock:  # several blobs go at once, with one token
            token, until = self._known.get(scope, ("", 0.0))
            if challenge or time.monotonic() > until:
                token = self._access_token(_wider(scope, challenge))
                self._known[scope] = token, time.monotonic() + _life_s(token) - _MARGIN_S
            return f"Bearer {token}"

    def _access_token(self, scope: str) -> str:
        if self._refresh_token:
            status, answer = self._ask_token(scope)
            if status == 200:
                return _text(answer, "access_token")
        self._refresh_token = self._exchange()  # none yet, or it has run out or was revoked
        status, answer = self._ask_token(scope)
        if status != 200:
            raise self._refused(status, f"the right to {scope.rpartition(':')[2]} in {scope.split(':')[1]}")
        return _text(answer, "access_token")

    def _exchange(self) -> str:
        status, answer = self._ask_refresh_token()
        if status == 401:  # a token that is kept may have been revoked since
            self.identity.forget()
            status, answer = self._ask_refresh_token()
        if status != 200:
            raise self._refused(status, "who insitu is in [azure]")
        return _text(answer, "refresh_token")

    def _ask_refresh_token(self) -> tuple[int, Mapping[str, Any]]:
        token = {"access_token": self.identity.get_token(SCOPE).token, "tenant": self.tenant}
        return self._post("exchange", {"grant_type": "access_token", **token})

    def _ask_token(self, scope: str) -> tuple[int, Mapping[str, Any]]:
        wanted = {"grant_type": "refresh_token", "scope": scope}
        return self._post("token", wanted | {"refresh_token": self._refresh_token})

    def _post(self, path: str, fields: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        """Return status and JSON of the answer; a repetition only issues one more token."""
        door = self._door
        body = urlencode({**fields, "service": door.service}).encode()
        answer = self._ask("POST", urljoin(door.realm, path), body=body, headers=_FORM)
        try:
            value = json.loads(answer.data)
        except ValueError:
            value = None
        return answer.status, value if isinstance(value, dict) else {}

    @cached_property
    def _door(self) -> Challenge:
        """How the registry calls itself, and where its tokens are: no other host ever gets one of ours."""
        usual = Challenge(self.host, realm=f"{base_url(self.host)}/oauth2/token")
        answer = self._ask("GET", f"{base_url(self.host)}/v2/")
        said = challenge_of(answer.headers.get("WWW-Authenticate")) or usual
        is_here = urlsplit(said.realm.lower())[:2] == urlsplit(usual.realm.lower())[:2]
        return Challenge(said.service or usual.service, realm=said.realm if is_here else usual.realm)

    def _ask(self, method: str, url: str, **options: Any) -> BaseHTTPResponse:
        try:
            answer = self._pool.request(method, url, timeout=LOOK_TIMEOUT, retries=SAFE, **options)
        except urllib3.exceptions.HTTPError as exc:
            raise self._silent(reason_of(exc)) from None
        if answer.status == 429 or answer.status >= 500:
            raise self._silent(str(answer.status))
        return answer

    @cached_property
    def _pool(self) -> PoolManager:
        return open_pool(self.host)

    def _silent(self, found: str) -> BackendUnavailable:
        return BackendUnavailable(
            f"the registry {self.host} signs nobody in",
            found=found,
            next_action="see that it can be reached from here, then run again",
        )

    def _refused(self, status: int, what: str) -> AccessRefused:
        return AccessRefused(
            f"the registry {self.host} refuses {what}",
            found=str(status),
            wanted="a service principal of the registry's directory with the role AcrPush",
            next_action="give it that role on the registry, and see that tenant of [azure.identity] is the registry's",
        )


@dataclass(frozen=True)
class AcrImages(RegistryImages):
    """One repository of an Azure Container Registry."""

    def lock(self, tag: str) -> None:
        """Let nobody move or remove *tag*; raise `PublishFailed` when the registry does not allow that."""
        self._change(tag, {"writeEnabled": False, "deleteEnabled": False}, (200,))

    def untag(self, tag: str) -> None:
        """Unlock *tag* and remove it; the manifest stays. A tag that is not there is fine."""
        if self._change(tag, {"writeEnabled": True, "deleteEnabled": True}, (200, 404)).status == 200:
            actions = "metadata_read,metadata_write,delete"
            self._connection.request("DELETE", self._tag_url(tag), known=(200, 202, 404), actions=actions)

    def _change(self, tag: str, attributes: Mapping[str, bool], known: tuple[int, ...]) -> BaseHTTPResponse:
        headers = {"Content-Type": "application/json"}
        actions, body = "metadata_read,metadata_write", json.dumps(attributes).encode()
        return self._connection.request(
            "PATCH", self._tag_url(tag), known=known, actions=actions, headers=headers, body=body
        )

    def _tag_url(self, tag: str) -> str:
        return f"{base_url(self.host)}/acr/v1/{self.repository}/_tags/{tag}"

    def checks(self) -> tuple[Check, ...]:
        """Return whether signing in works, and whether an upload may be started, which is ended at once."""
        signed_in = _check("registry login", f"a login at {self.host}", self._sign_in)
        if not signed_in.ok:
            return (signed_in,)
        return signed_in, _check("registry push", f"the right to push to {self.name}", self._try_upload)

    def _sign_in(self) -> str:
        assert self.login
        self.login.authorization(f"repository:{self.repository}:pull,push")
        return "signed in"

    def _try_upload(self) -> str:
        started = self._connection.ask("POST", "blobs/uploads/", known=(202,))
        with suppress(InsituError):  # who may push may not delete everywhere; the registry forgets it by itself
            url, ended = upload_url(self._connection, started), (200, 202, 204)
            self._connection.request("DELETE", url, known=ended, actions="pull,push,delete")
        return "an upload was started, and ended"


def acr_images(
    azure: AzureSettings, host: str, repository: str, beside: Callable[[str], Sequence[str]] = lambda _: ()
) -> AcrImages:
    """Return the repository, which the identity of [azure] signs in to; nothing is asked yet."""
    return AcrImages(host, repository, login=_login(os.getpid(), azure, host), beside=beside)


@cache
def _login(_process: int, azure: AzureSettings, host: str) -> AcrLogin:
    """Return the login of this process: tokens are good for every repository that they are for."""
    return AcrLogin(host, azure.identity.tenant, azure_identity(azure))


def _check(name: str, wanted: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look(), wanted)
    except InsituError as error:
        found = f"{error.what}: {error.found}" if error.found else error.what
        return Check(name, False, found, wanted, error.next_action or "")


def _wider(scope: str, challenge: Challenge | None) -> str:
    """Return *scope*, or the one of the challenge when that names an action that *scope* lacks."""
    asked = challenge.scope if challenge else ""
    return asked if asked and _rights(asked) - _rights(scope) else scope


def _rights(scope: str) -> set[tuple[str, str]]:
    """Return what may be done in which repository."""
    parts = (one.rpartition(":") for one in scope.split())
    return {(name, action) for name, _, actions in parts for action in actions.split(",")}


def _life_s(token: str) -> float:
    """Return how long the token is good, by its own two times: this machine's clock may be another."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"] - claims["iat"])
    except (IndexError, ValueError, KeyError, TypeError):
        return _UNKNOWN_LIFE_S


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise PublishFailed("the registry answers a login without a token", wanted=name)
    return value
