"""What the SDK signs requests to a storage account with."""

from __future__ import annotations

import re
from base64 import b64decode

from azure.core.credentials import AzureSasCredential

from insitu.adapters.secrets import read_secret, require_form
from insitu.settings import AzureBlobStore


def credential_of(settings: AzureBlobStore) -> AzureSasCredential | dict[str, str]:
    """Return what the SDK signs requests with.

    Raises:
        SettingsError: The secret is not where the settings say, or cannot be one.
    """
    if settings.sas:
        sas = read_secret(settings.sas).removeprefix("?")
        is_signature = re.fullmatch(r"\S*\bsig=\S+", sas) is not None
        require_form(is_signature, settings.sas, "a shared access signature: sv=...&sig=...")
        return AzureSasCredential(sas)
    assert settings.key
    key = read_secret(settings.key)
    require_form(_is_base64(key), settings.key, "the key of an account, in base64")
    return {"account_name": settings.account_name, "account_key": key}


def _is_base64(text: str) -> bool:
    try:
        return bool(b64decode(text, validate=True))
    except ValueError:
        return False
