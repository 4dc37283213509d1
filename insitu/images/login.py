"""How a client signs in to a registry: what the registry asks for, and who answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

_BEARER = re.compile(r"\s*Bearer\s", re.IGNORECASE)
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')


@dataclass(frozen=True)
class Challenge:
    """What a registry that refuses a request with 401 wants to see a token for.

    Attributes:
        service: How the registry calls itself.
        scope: `repository:NAME:ACTION,ACTION`; empty when it does not say.
        realm: Address where such tokens are.
    """

    service: str
    scope: str = ""
    realm: str = ""


def challenge_of(header: str | None) -> Challenge | None:
    """Return what `WWW-Authenticate` asks for; None when it is no bearer token."""
    if not header or not _BEARER.match(header):
        return None
    found = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(header)}
    return Challenge(found.get("service", ""), found.get("scope", ""), found["realm"]) if "realm" in found else None


class Login(Protocol):
    """Somebody whom a registry knows."""

    def authorization(self, scope: str, challenge: Challenge | None = None) -> str:
        """Return the header `Authorization` for requests of *scope*: a token that is kept while it is fresh.

        With the *challenge* of a request that was refused, another token than before.

        Raises:
            AccessRefused: Nobody signs this principal in, or it lacks the right.
            BackendUnavailable: No answer.
        """
        ...
