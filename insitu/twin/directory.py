"""Who may do what in the twin: applications, their credentials and roles, and the tokens they are given."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from insitu.twin.faults import Faults
from insitu.twin.tls import write_private
from insitu.twin.web import Refused, arm_error

TOKEN_S = 3600
"""Seconds that a token is good for."""
_EVERYTHING = ("Owner", "Contributor")
"""Roles that allow whatever is asked for here."""


@dataclass(frozen=True)
class Principal:
    """An application that has signed in.

    Attributes:
        tenant: Its directory.
        client_id: Its application id.
        roles: Its roles, by the scope that they are given at (a resource id; "/" is everywhere).
    """

    tenant: str
    client_id: str
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def has(self, scope: str, *roles: str) -> bool:
        """Tell whether it has one of *roles*, or one that allows everything, at *scope* or above."""
        wanted, place = {*roles, *_EVERYTHING}, scope.rstrip("/").lower() + "/"
        return any(
            place.startswith(given_at.rstrip("/").lower() + "/") and wanted & set(given)
            for given_at, given in self.roles.items()
        )


@dataclass
class Registration:
    """An application's entry in a directory: whatever proves that somebody is it, and its roles.

    Attributes:
        secrets: Client secrets.
        certificates: Certificates, whose key's owner may sign in.
        roles: See `Principal`.
    """

    tenant: str
    client_id: str
    secrets: list[str] = field(default_factory=list, repr=False)
    certificates: list[x509.Certificate] = field(default_factory=list, repr=False)
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def has_secret(self, secret: str) -> bool:
        """Tell whether *secret* is one of its secrets."""
        return any(hmac.compare_digest(known.encode(), secret.encode()) for known in self.secrets)

    def signed(self, assertion: str, audience: str) -> bool:
        """Tell whether *assertion* (a JWT) is signed with one of its certificates, for *audience*."""
        try:
            head = jwt.get_unverified_header(assertion)
            certificate = next(c for c in self.certificates if _named_by(head, c))
            key: Any = certificate.public_key()
            said = jwt.decode(assertion, key, ["RS256", "PS256"], audience=audience, options={"require": ["exp"]})
        except (jwt.InvalidTokenError, StopIteration):
            return False
        return bool(said.get("iss") == said.get("sub") == self.client_id)


class Directory:
    """Every directory of the estate, public and the hub's own; safe to use from several threads.

    Args:
        folder: Where the signing key lies.
        faults: Conditions such as `tokens-revoked`.
        now: The estate's clock: seconds since the epoch.
    """

    def __init__(self, folder: Path, faults: Faults, now: Callable[[], float]) -> None:
        self._file, self._faults, self._now = folder / "tokens.key", faults, now
        self._lock = Lock()
        self._registrations: dict[tuple[str, str], Registration] = {}
        self._resources: dict[str, set[str]] = {}
        self._key = _signing_key(self._file)
        self.issued = 0
        """How many tokens were given out."""

    def add_tenant(self, tenant: str, *resources: str) -> None:
        """Let there be a directory that knows *resources* (audiences of tokens)."""
        with self._lock:
            self._resources.setdefault(tenant, set()).update(_plain(resource) for resource in resources)

    def knows_tenant(self, tenant: str) -> bool:
        """Tell whether there is such a directory."""
        return tenant in self._resources

    def knows_resource(self, tenant: str, resource: str) -> bool:
        """Tell whether the directory gives tokens for *resource*."""
        return _plain(resource) in self._resources.get(tenant, ())

    def register(
        self, tenant: str, client_id: str, secret: str | None = None, roles: Mapping[str, tuple[str, ...]] | None = None
    ) -> Registration:
        """Enter an application, or return its entry as it is; *secret* and *roles* are added."""
        with self._lock:
            entry = self._registrations.setdefault((tenant, client_id), Registration(tenant, client_id))
            if secret and secret not in entry.secrets:
                entry.secrets.append(secret)
            entry.roles.update(roles or {})
            return entry

    def find(self, tenant: str, client_id: str) -> Registration | None:
        """Return the entry of an application."""
        return self._registrations.get((tenant, client_id))

    def issue(self, entry: Registration, resource: str, lifetime_s: float = TOKEN_S) -> str:
        """Return a new token of the application for *resource*."""
        now = self._now()
        claims = {
            "aud": resource,
            "iss": f"https://sts.windows.net/{entry.tenant}/",
            "iat": int(now),
            "nbf": int(now) - 300,
            "exp": int(now + lifetime_s),
            "appid": entry.client_id,
            "oid": str(uuid4()),
            "tid": entry.tenant,
            "uti": uuid4().hex,
            "issued_at": now,
            "ver": "1.0",
        }
        with self._lock:
            self.issued += 1
        return jwt.encode(claims, self._key, "RS256", headers={"kid": "insitu-twin"})

    def check(
        self, headers: Mapping[str, str], audience: str | tuple[str, ...], tenant: str | None = None
    ) -> Principal:
        """Return who asks.

        Args:
            headers: The request's headers, names in any case.
            audience: What the token must be for; of several, any.
            tenant: The directory that it must be from; None is any.

        Raises:
            Refused: There is no token, or it is forged, expired, revoked, for somebody else or from elsewhere.
        """
        scheme, _, token = _header(headers, "authorization").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._no("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        claims = self._claims(token)
        self._require_valid(claims)
        wanted = {_plain(a) for a in ((audience,) if isinstance(audience, str) else audience)}
        if _plain(claims["aud"]) not in wanted:
            raise self._no(
                "InvalidAuthenticationTokenAudience",
                f"The access token has been obtained for wrong audience or resource '{claims['aud']}'. It should "
                f"exactly match with one of the allowed audiences '{', '.join(sorted(wanted))}'.",
            )
        if tenant and claims["tid"] != tenant:
            raise self._no(
                "InvalidAuthenticationTokenTenant",
                f"The access token is from the wrong issuer '{claims['iss']}'. It must match the tenant '{tenant}' "
                "associated with this subscription.",
            )
        entry = self._registrations.get((claims["tid"], claims["appid"]))
        if entry is None:
            raise self._no("InvalidAuthenticationToken", "The application of the token is gone.")
        return Principal(entry.tenant, entry.client_id, dict(entry.roles))

    def require(self, who: Principal, scope: str, action: str, *roles: str) -> None:
        """Raise `Refused` unless *who* has one of *roles* (or Contributor, Owner) at *scope* or above it.

        *action* is what is said to be missing, such as `Microsoft.Compute/virtualMachines/start/action`.
        """
        if not who.has(scope, *roles):
            raise arm_error(
                403,
                "AuthorizationFailed",
                f"The client '{who.client_id}' with object id '{who.client_id}' does not have authorization to perform "
                f"action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, "
                "please refresh your credentials.",
            )

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            options: Any = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
            return dict(jwt.decode(token, self._key.public_key(), ["RS256"], options=options))
        except jwt.InvalidTokenError:
            raise self._no("InvalidAuthenticationToken", "The access token is invalid.") from None

    def _require_valid(self, claims: Mapping[str, Any]) -> None:
        issued = float(claims["issued_at"])
        if self._now() >= claims["exp"] or issued <= (self._faults.since("token-expired") or 0):
            raise self._no("ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current.")
        if issued <= (self._faults.since("tokens-revoked") or 0):
            raise self._no(
                "InvalidAuthenticationToken",
                "The access token has been revoked.",
                ', error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ=="',
            )

    def _no(self, code: str, message: str, challenge: str = ', error="invalid_token"') -> Refused:
        authority = 'Bearer authorization_uri="https://login.microsoftonline.com/common"'
        return arm_error(401, code, message, WWW_Authenticate=authority + challenge)


def new_secret() -> str:
    """Return a client secret as Entra makes them: 40 characters."""
    return secrets.token_urlsafe(30)


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "")


def _plain(resource: str) -> str:
    return resource.rstrip("/").lower()


def _named_by(head: Mapping[str, Any], certificate: x509.Certificate) -> bool:
    """Tell whether a token's head names the certificate by its thumbprint."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    thumbs = {"x5t": sha1(der, usedforsecurity=False).digest(), "x5t#S256": sha256(der).digest()}
    named = {name: str(head.get(name)).rstrip("=") for name in thumbs}  # MSAL writes the padding, others do not
    return any(named[name] == jwt.utils.base64url_encode(thumb).decode() for name, thumb in thumbs.items())


def _signing_key(file: Path) -> rsa.RSAPrivateKey:
    if not file.exists():
        made = rsa.generate_private_key(65537, 2048)
        form = serialization.PrivateFormat.PKCS8
        write_private(file, made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key
