"""What a site can set about its relay: the web app of App Service that takes "data is ready" calls."""

from __future__ import annotations

from pydantic import Field, model_validator

from insitu.settings.forms import DeploymentName, HostName, Text
from insitu.settings.strict import SecretSource, Strict


class RelaySettings(Strict):
    """The trigger relay on App Service."""

    app_host: HostName = Field(description="host of the web app: APP.SUFFIX")
    scm_host: HostName | None = Field(default=None, description="host of the app's Kudu; none: APP.scm.SUFFIX")
    key: SecretSource = Field(description="where the key is that callers sign with, the app's setting RELAY_KEY")
    token: SecretSource | None = Field(default=None, description="where a bearer token for Kudu is")
    user: Text | None = Field(default=None, description="the app's publishing user, such as $APP")
    password: SecretSource | None = Field(default=None, description="where the password of that user is")
    signed_only: bool = Field(default=False, description="take signed calls only, and none that hold the key itself")
    deployment: DeploymentName = Field(
        default="retrain/{model}",
        description="FLOW/NAME of Prefect's deployment to start; {model} stands for the model",
    )
    timeout_s: int = Field(default=300, ge=1, description="seconds that a deployment may take until the relay answers")

    @model_validator(mode="after")
    def _has_one_credential(self) -> RelaySettings:
        if (self.user is None) != (self.password is None) or (self.token and self.user):
            raise ValueError("either token, or user and password, or none of them to sign in as the identity of [hub]")
        return self

    @property
    def kudu(self) -> str:
        """The host of the app's Kudu."""
        app, _, suffix = self.app_host.partition(".")
        return self.scm_host or f"{app}.scm.{suffix}"

    @property
    def signs_in(self) -> bool:
        """Whether the identity of [hub] signs in, since no credential of the app is named."""
        return self.token is None and self.user is None
