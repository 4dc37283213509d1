"""The secrets of a site's own services: how to log in, the key of Prefect's blocks, the database."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode

from insitu.adapters.secrets import made_secret, read_secret, require_form
from insitu.settings import SecretSource, ServicesSettings


def login(services: ServicesSettings) -> str:
    """Return `USER:PASSWORD` of the Prefect API; the password is made where there is none yet."""
    text = made_secret(services.login, lambda: f"insitu:{secrets.token_urlsafe(24)}")
    return _of_form(r"[^:\s]+:\S+", text, services.login, "USER:PASSWORD")


def encryption_key(services: ServicesSettings) -> str:
    """Return the key that encrypts Prefect's blocks; it is made where there is none yet."""
    text = made_secret(services.encryption_key, lambda: urlsafe_b64encode(secrets.token_bytes(32)).decode())
    return _of_form(r"[\w-]{43}=", text, services.encryption_key, "32 bytes as URL-safe Base64")


def database(services: ServicesSettings) -> str | None:
    """Return the address of the PostgreSQL database; None for SQLite."""
    if services.database is None:
        return None
    form = "postgresql+asyncpg://USER:PASSWORD@HOST:PORT/NAME"
    return _of_form(r"postgresql\+asyncpg://\S+/\S+", read_secret(services.database), services.database, form)


def _of_form(form: str, text: str, source: SecretSource, wanted: str) -> str:
    require_form(bool(re.fullmatch(form, text)), source, wanted)
    return text
