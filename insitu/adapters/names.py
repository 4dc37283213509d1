"""Which names blobs have, wherever they lie."""

from __future__ import annotations

import re

from insitu.errors import UsageError

_PART = r"(?!\.)[^/\0]+"
_NAME = re.compile(f"{_PART}(/{_PART})*")


def is_blob_name(name: str) -> bool:
    """Tell whether *name* is a relative path without empty, '.', '..' or hidden parts."""
    return _NAME.fullmatch(name) is not None


def require_blob_name(name: str) -> None:
    """Raise `UsageError` when *name* is no blob's."""
    if not is_blob_name(name):
        raise UsageError(
            f"{name!r} is not a blob name",
            wanted="a relative path without empty, '.', '..' or hidden parts",
        )
