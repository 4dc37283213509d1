"""Signing in to the container registry: a token of Entra is exchanged for a refresh token, that for access tokens."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl
from uuid import uuid4

import jwt

from insitu.twin.directory import Principal
from insitu.twin.estate import MANAGEMENT, Estate
from insitu.twin.machine_learning import Document
from insitu.twin.web import Refused

AUDIENCE = "https://containerregistry.azure.net"
NOBODY = "00000000-0000-0000-0000-000000000000"
"""The user name with which a refresh token is used as a password."""

_REFRESH_S, _ACCESS_S = 3 * 3600, 75 * 60
_SCOPE = re.compile(r"repository:(?P<name>[^:]+):(?P<actions>[a-z_,*]+)|registry:catalog:\*")
_ACTIONS: Mapping[str, tuple[str, ...]] = {
    "AcrPull": ("pull", "metadata_read"),
    "AcrPush": ("pull", "push", "metadata_read", "metadata_write"),
    "AcrDelete": ("delete",),
}
"""What a role allows; a role that allows everything allows all of these."""
_MESSAGE = "authentication required, visit https://aka.ms/acr/authorization for more information."


def refused(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Refused:
    """Return a refusal as registries word it."""
    return Refused(status, {"errors": [{"code": code, "message": message, "detail": {}}]}, headers)


class Tokens:
    """Gives and looks at the registry's own tokens."""

    def __init__(self, estate: Estate) -> None:
        self._estate, self._host = estate, estate.names.registry_host
        self._id = f"{estate.names.group_id}/providers/Microsoft.ContainerRegistry/registries/{estate.names.registry}"
        self._key = estate.secret("registry-tokens.key").read_text()

    def exchange(self, form: Mapping[str, str]) -> Document:
        """Return a refresh token for one of Entra; raise `Refused`."""
        if form.get("grant_type") != "access_token":
            raise refused(400, "UNSUPPORTED", "the grant_type must be access_token")
        self._require_service(form)
        headers = {"authorization": f"Bearer {form.get('access_token', '')}"}
        try:
            who = self._estate.directory.check(headers, (AUDIENCE, *MANAGEMENT), self._estate.names.tenant)
        except Refused:
            raise refused(401, "UNAUTHORIZED", _MESSAGE) from None
        if form.get("tenant", who.tenant) != who.tenant:
            raise refused(401, "UNAUTHORIZED", _MESSAGE)
        if not any(who.has(self._id, role) for role in _ACTIONS):
            raise refused(403, "DENIED", "requested access to the resource is denied")
        return {"refresh_token": self._issue(who.client_id, "refresh_token", _REFRESH_S)}

    def access(self, form: Mapping[str, str], scopes: list[str]) -> Document:
        """Return an access token for what of *scopes* its owner may do; raise `Refused`."""
        if form.get("grant_type") != "refresh_token":
            raise refused(400, "UNSUPPORTED", "the grant_type must be refresh_token")
        self._require_service(form)
        claims = self._claims(form.get("refresh_token", ""), "refresh_token")
        entry = self._estate.directory.find(self._estate.names.tenant, claims["sub"])
        if entry is None:
            raise refused(401, "UNAUTHORIZED", _MESSAGE)
        who = Principal(entry.tenant, entry.client_id, dict(entry.roles))
        access = [granted for scope in scopes for granted in self._granted(who, scope)]
        if scopes and not access:
            raise refused(401, "UNAUTHORIZED", _MESSAGE)
        return {"access_token": self._issue(who.client_id, "access_token", _ACCESS_S, access=access)}

    def require(self, authorization: str, name: str, action: str) -> None:
        """Raise `Refused`, with what would help, unless the request may do *action* in the repository *name*."""
        scope = f"repository:{name}:{action}" if name else "registry:catalog:*"
        token = authorization.removeprefix("Bearer ")
        try:
            access = self._claims(token, "access_token")["access"] if token else []
        except Refused:
            access = []
        if not any(granted["name"] == name and action in granted["actions"] for granted in access):
            raise self.challenge(scope)

    def require_any(self, authorization: str) -> None:
        """Raise `Refused` unless the request has some token of the registry's."""
        try:
            self._claims(authorization.removeprefix("Bearer "), "access_token")
        except Refused:
            raise self.challenge() from None

    def challenge(self, scope: str = "") -> Refused:
        """Return the refusal that says which token is wanted."""
        words = f'Bearer realm="https://{self._host}/oauth2/token",service="{self._host}"'
        words += f',scope="{scope}",error="insufficient_scope"' if scope else ""
        return refused(401, "UNAUTHORIZED", _MESSAGE, {"WWW-Authenticate": words})

    def _require_service(self, form: Mapping[str, str]) -> None:
        if form.get("service", "").lower() != self._host:
            raise refused(400, "UNSUPPORTED", f"the service must be {self._host}")

    def _granted(self, who: Principal, scope: str) -> list[Document]:
        match = _SCOPE.fullmatch(scope)
        if match is None:
            return []
        allowed = {action for role, actions in _ACTIONS.items() if who.has(self._id, role) for action in actions}
        asked = (match["actions"] or "metadata_read").split(",")
        actions = [action for action in asked if action in allowed]
        return [{"type": "repository", "name": match["name"] or "", "actions": actions}] if actions else []

    def _issue(self, client: str, kind: str, lifetime_s: float, **more: Any) -> str:
        now = self._estate.now()
        times = {"iat": int(now), "nbf": int(now) - 900, "exp": int(now + lifetime_s), "issued_at": now}
        who = {"sub": client, "iss": "Azure Container Registry", "aud": self._host, "jti": str(uuid4())}
        return jwt.encode({**who, **times, "grant_type": kind, **more}, self._key, "HS256")

    def _claims(self, token: str, kind: str) -> Document:
        """Return what a token of the registry says; raise `Refused` when it is none, or not good any more."""
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        try:
            claims: Document = jwt.decode(token, self._key, ["HS256"], audience=self._host, options=options)
        except jwt.InvalidTokenError:
            raise refused(401, "UNAUTHORIZED", _MESSAGE) from None
        ended = [self._estate.faults.since(word) or 0.0 for word in ("token-expired", "tokens-revoked")]
        is_old = self._estate.now() >= claims["exp"] or claims["issued_at"] <= max(ended)
        if claims["grant_type"] != kind or is_old:
            raise refused(401, "UNAUTHORIZED", _MESSAGE)
        return claims


def asked_for(method: str, query: str, body: bytes, authorization: str) -> tuple[dict[str, str], list[str]]:
    """Return the fields and the scopes of a request for an access token, also of one by docker login."""
    text = query if method == "GET" else body.decode(errors="replace")
    scopes = [scope for value in parse_qs(text).get("scope", []) for scope in value.split()]
    form = dict(parse_qsl(text))
    if method == "GET":
        kind, _, given = authorization.partition(" ")
        user, _, password = b64decode(given).decode(errors="replace").partition(":") if kind == "Basic" else ("",) * 3
        form |= {"grant_type": "refresh_token", "refresh_token": password if user == NOBODY else ""}
    return form, scopes
