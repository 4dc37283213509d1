"""Secrets, read where the settings say they are. None of them goes into an error."""

from __future__ import annotations

import os

from insitu.errors import SettingsError
from insitu.settings import SecretSource

_SECRET = "a secret"  # noqa: S105 - the words for it


def read_secret(source: SecretSource) -> str:
    """Return the secret, without space around it; it must go into no error.

    Raises:
        SettingsError: It is not where the settings say.
    """
    if source.env:
        text = os.environ.get(source.env, "")
    else:
        assert source.file
        try:
            text = source.file.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError(
                f"the secret in {source.file} cannot be read",
                found=type(exc).__name__,
                wanted="a file that holds the secret and nothing else",
                next_action="put it there, readable by this user alone, or mend the site's settings",
            ) from None
    require_form(bool(text.strip()), source, _SECRET)
    return text.strip()


def require_form(fits: bool, source: SecretSource, wanted: str) -> None:
    """Raise `SettingsError` unless the secret of *source* has the form that *wanted* says."""
    if not fits:
        place = f"variable {source.env}" if source.env else f"file {source.file}"
        raise SettingsError(
            f"the {place}, which the site's settings name, does not hold what it should",
            found="nothing" if wanted == _SECRET else "something else, which is not shown",
            wanted=wanted,
            next_action="put it there, or mend the site's settings",
        )
