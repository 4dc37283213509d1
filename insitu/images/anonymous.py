"""Reading what everybody may read from registries that want a token even for that, as Docker Hub and GitHub do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import urllib3
from urllib3.util import parse_url

from insitu.errors import AccessRefused, BackendUnavailable
from insitu.images.connection import LOOK_TIMEOUT, SAFE, base_url, open_pool, reason_of
from insitu.images.login import Challenge


@dataclass
class Anonymous:
    """`Login` of nobody: asks for a token once a registry wants one.

    Args:
        host: The registry.
    """

    host: str
    _tokens: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def authorization(self, scope: str, challenge: Challenge | None = None) -> str:
        """Return the header `Authorization`, empty as long as the registry has not asked; see `Login`."""
        if challenge:
            self._tokens[scope] = f"Bearer {self._token(challenge)}"
        return self._tokens.get(scope, "")

    def _token(self, challenge: Challenge) -> str:
        realm = parse_url(challenge.realm)
        if realm.scheme != parse_url(base_url(self.host)).scheme or not realm.host:
            raise self._refused("it names no such place")
        asked = {"service": challenge.service, "scope": challenge.scope}
        try:
            answer = open_pool(realm.netloc or realm.host).request(
                "GET", challenge.realm, fields=asked, timeout=LOOK_TIMEOUT, retries=SAFE
            )
            found = json.loads(answer.data) if answer.status == 200 else {}
            return str(found.get("token") or found["access_token"])
        except urllib3.exceptions.HTTPError as exc:
            raise BackendUnavailable(
                f"no answer from {realm.host} about a token for {self.host}", found=reason_of(exc)
            ) from exc
        except (ValueError, KeyError, AttributeError):
            raise self._refused(f"status {answer.status}") from None

    def _refused(self, found: str) -> AccessRefused:
        return AccessRefused(
            f"the registry {self.host} gives nobody a token to read with",
            found=found,
            next_action="use a registry that can be read without signing in, or one that this site signs in to",
        )
