"""Secrets, read where the settings say they are. None of them goes into an error."""

from __future__ import annotations

import os
import re
from base64 import b64decode

from azure.core.credentials import AzureSasCredential

from insitu.errors import SettingsError
from insitu.settings.schema import AzureBlobStore, SecretSource

_SECRET = "a secret"  # noqa: S105 - the words for it


def credential_of(settings: AzureBlobStore) -> AzureSasCredential | dict[str, str]:
    """Return what the SDK signs requests with.

    Raises:
        SettingsError: The secret is not where the settings say, or cannot be one.
    """
    if settings.sas:
        sas = _secret(settings.sas).removeprefix("?")
        _require(
            re.fullmatch(r"\S*\bsig=\S+", sas) is not None, settings.sas, "a shared access signature: sv=...&sig=..."
        )
        return AzureSasCredential(sas)
    assert settings.key
    key = _secret(settings.key)
    _require(_is_base64(key), settings.key, "the key of an account, in base64")
    return {"account_name": settings.account_name, "account_key": key}


def _secret(source: SecretSource) -> str:
    """Return the secret; it must go into no error."""
    if source.env:
        text = os.environ.get(source.env, "")
    else:
        assert source.file
        try:
            text = source.file.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError(f"the secret in {source.file} cannot be read", found=type(exc).__name__) from None
    _require(bool(text.strip()), source, _SECRET)
    return text.strip()


def _require(fits: bool, source: SecretSource, wanted: str) -> None:
    if not fits:
        place = f"variable {source.env}" if source.env else f"file {source.file}"
        raise SettingsError(
            f"the {place}, which the site's settings name, does not hold what it should",
            found="nothing" if wanted == _SECRET else "something else, which is not shown",
            wanted=wanted,
        )


def _is_base64(text: str) -> bool:
    try:
        return bool(b64decode(text, validate=True))
    except ValueError:
        return False
