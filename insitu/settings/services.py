"""What a site can set about its own services: those that `insitu up` runs."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from insitu.settings.forms import HostName
from insitu.settings.strict import SecretSource, Strict


class ServicesSettings(Strict):
    """The Prefect server of the site, and what works with it."""

    database: SecretSource | None = Field(
        default=None,
        description="where postgresql+asyncpg://USER:PASSWORD@HOST:PORT/NAME is; none: SQLite, for one worker",
    )
    workers: int = Field(default=1, ge=1, le=32, description="processes that start runs; more than one need database")
    login: SecretSource = Field(
        default={"file": "var/prefect/login"},
        validate_default=True,  # the default is relative to the project, too
        description="where USER:PASSWORD of the Prefect API is; a file that is not there is made, with a new password",
    )
    encryption_key: SecretSource = Field(
        default={"file": "var/prefect/encryption-key"},
        validate_default=True,
        description="where the key is that encrypts Prefect's blocks; a file that is not there is made",
    )
    host: HostName = Field(default="127.0.0.1", description="address that the Prefect server listens on")
    mlflow_host: HostName = Field(
        default="127.0.0.1", description="address that the MLflow UI listens on: it has no login"
    )
    port: int = Field(default=4200, ge=1, le=65535, description="port of the Prefect server and its UI")
    mlflow_port: int = Field(default=5000, ge=1, le=65535, description="port of the MLflow UI")
    poll_s: float = Field(default=1.0, gt=0, le=60, description="seconds between two questions of a worker for runs")

    @field_validator("workers")
    @classmethod
    def _has_a_database_for_many(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and info.data.get("database") is None:
            raise ValueError("1, or database beside it: SQLite takes one writer at a time, so runs would fail")
        return value
