"""What a site can set about messages: who is told how runs end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from insitu.settings.strict import SecretSource, Strict

Occasion = Literal["failed", "awaiting-approval", "not-promoted", "published"]


class NotifySettings(Strict):
    """Who is told how runs end; the addresses are secrets, so only where they are is said here."""

    tell: list[Occasion] = Field(
        default=["failed", "awaiting-approval"],
        description="what is told: failed, awaiting-approval, not-promoted, published",
    )
    slack: SecretSource | None = Field(default=None, description="where the URL of an incoming webhook of Slack is")
    teams: SecretSource | None = Field(default=None, description="where the URL of a Teams workflow's webhook is")
    email: SecretSource | None = Field(
        default=None, description="where mailtos://USER:PASSWORD@HOST:587?from=A&to=B is (mailto:// without TLS)"
    )
    webhook: SecretSource | None = Field(default=None, description="where the URL is that takes {subject, text}, JSON")

    @property
    def channels(self) -> Mapping[str, SecretSource]:
        """Where the address of each channel is that is told."""
        named = {"slack": self.slack, "teams": self.teams, "email": self.email, "webhook": self.webhook}
        return {name: source for name, source in named.items() if source}
