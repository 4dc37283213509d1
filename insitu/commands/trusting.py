"""What commands have in common that work beside a project: the site, if there is one, and whose signatures count."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.errors import UsageError

if TYPE_CHECKING:
    from insitu.signing import PublicKey
    from insitu.wiring import Site


def site_of(project: Path | None, site: str) -> Site | None:
    """Return the site; None without a project; raise `SettingsError`."""
    from insitu.settings import load_site
    from insitu.wiring import open_site

    return open_site(project, load_site(project, site, os.environ)) if project else None


def trusted_keys(files: Sequence[Path], site: Site | None) -> list[PublicKey]:
    """Return the keys of *files* if there are any, else those that the site trusts.

    Raises:
        UsageError: A file holds no public key, or there is no key at all.
        SettingsError: A key of the site cannot be used.
    """
    keys = [_key(path) for path in files]
    if not keys and site:
        keys = list(site.keys.trusted())
    if not keys:
        raise UsageError(
            "no key is known that could have signed it",
            wanted="--key FILE, with the public key of the site that made it (its signing.pub)",
        )
    return keys


def _key(path: Path) -> PublicKey:
    from insitu.signing import WANTED_PUBLIC, PublicKey

    try:
        key = PublicKey.from_pem(path.read_bytes())
    except OSError as exc:
        raise UsageError(f"the key {path} cannot be read", found=exc.strerror) from exc
    if key is None:
        raise UsageError(f"{path} cannot be used as a key", found="something else", wanted=WANTED_PUBLIC)
    return key
