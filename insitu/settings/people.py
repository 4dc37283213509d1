"""What a site can set about decisions: which people may make them, and which key signs them."""

from __future__ import annotations

from pydantic import Field

from insitu.settings.forms import ProjectPath, Text
from insitu.settings.strict import SecretSource, Strict


class SigningSettings(Strict):
    """The key that signs decisions, and whose signatures count beside it."""

    key: SecretSource = Field(
        default={"file": "var/keys/signing.pem"},
        validate_default=True,  # the default is relative to the project, too
        description="where the ed25519 key is (PEM, no passphrase); a file that is not there is made",
    )
    trusted: list[ProjectPath] = Field(
        default=[], description="PEM files of further public keys whose signatures count: other machines, earlier keys"
    )


class SiteGateSettings(Strict):
    """Which human decisions the site lets count."""

    approvers: list[Text] = Field(
        default=[], description="names that may approve, reject or override; none: any name, for nobody checks them"
    )
    allow_override: bool = Field(
        default=False, description="whether people may publish a model that the gate did not promote"
    )
    allow_waivers: bool = Field(
        default=False, description="whether people may let records, or what cannot be opened, leave in a model"
    )
