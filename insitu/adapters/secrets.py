"""Secrets, read where the settings say they are. None of them goes into an error."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress

from insitu.errors import SettingsError, naming_write_errors
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


def made_secret(source: SecretSource, make: Callable[[], str]) -> str:
    """Return the secret; a file that is not there is made first, for this user alone.

    Raises:
        SettingsError: It is not where the settings say.
        StorageFull: The file cannot be written.
    """
    if source.file and not source.file.exists():
        with naming_write_errors(source.file):
            source.file.parent.mkdir(parents=True, exist_ok=True)
            whole = source.file.with_name(f".{uuid.uuid4().hex}")
            with open(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(make() + "\n")
            with suppress(FileExistsError):  # somebody else's counts
                os.link(whole, source.file)
            whole.unlink()
    return read_secret(source)


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
