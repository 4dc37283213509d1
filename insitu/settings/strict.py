"""What all settings have in common: closed tables, and secrets that are elsewhere."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from insitu.settings.forms import ProjectPath, VariableName


class Strict(BaseModel):
    """Closed and frozen, and no value is converted: `"60"` is not 60."""

    # Pydantic's own message is the cause of ours, and a traceback shows it: keep values out of it.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class SecretSource(Strict):
    """Where a secret is: settings name the place and never hold the secret."""

    env: VariableName | None = Field(default=None, description="the variable that holds it")
    file: ProjectPath | None = Field(default=None, description="the file that holds it and nothing else")

    @model_validator(mode="after")
    def _is_one_place(self) -> SecretSource:
        if (self.env is None) == (self.file is None):
            raise ValueError('{ env = "VARIABLE" } or { file = "PATH" }')
        return self
