"""The keys that sign decisions, and those whose signatures count."""

from __future__ import annotations

from contextlib import suppress

from insitu.adapters.secrets import made_secret, read_secret, require_form
from insitu.errors import SettingsError, StorageFull
from insitu.files import replace_file
from insitu.settings import SigningSettings
from insitu.signing import WANTED_PRIVATE, WANTED_PUBLIC, PublicKey, SigningKey


def own_key(signing: SigningSettings) -> SigningKey:
    """Return the key that signs here; a file that is not there is made. The public half lies beside a file (.pub).

    Raises:
        SettingsError: It is not where the settings say, or something else is there.
        StorageFull: The file cannot be written.
    """
    key = SigningKey.from_pem(made_secret(signing.key, SigningKey.new_pem).encode())
    require_form(key is not None, signing.key, WANTED_PRIVATE)
    assert key
    public = signing.key.file and signing.key.file.with_suffix(".pub")
    if public and not (public.exists() and public.read_bytes() == key.public.pem):
        with suppress(StorageFull):  # for people only
            replace_file(public, key.public.pem)
    return key


def trusted_keys(signing: SigningSettings) -> list[PublicKey]:
    """Return every key whose signatures count; none is made. Raise `SettingsError` as `own_key` does."""
    keys = []
    if signing.key.env or (signing.key.file and signing.key.file.exists()):
        own = SigningKey.from_pem(read_secret(signing.key).encode())
        require_form(own is not None, signing.key, WANTED_PRIVATE)
        assert own
        keys.append(own.public)
    for path in signing.trusted:
        try:
            key = PublicKey.from_pem(path.read_bytes())
        except OSError as exc:
            raise _unusable(str(path), exc.strerror or "unreadable") from None
        if key is None:
            raise _unusable(str(path), "something else")
        keys.append(key)
    return keys


def _unusable(place: str, found: str) -> SettingsError:
    return SettingsError(
        f"{place}, which signing.trusted names, cannot be used",
        found=found,
        wanted=WANTED_PUBLIC,
        next_action="mend the site's settings, or put the key there",
    )
