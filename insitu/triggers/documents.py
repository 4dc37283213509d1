"""JSON documents of the site's state that many processes change: every write names the version that it replaces."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from insitu.errors import BackendUnavailable, BlobChanged, BlobExists, BlobNotFound, StateDamaged
from insitu.ports import BlobStore

FOUND_AGAIN = (
    "put back the copy of your backup, or remove the folder triggers/MODEL of the state: "
    "then every blob is found again, and a run that was done answers that there is nothing new"
)
_TRIES = 60
_PAUSE_S = (0.005, 0.5)


def read(state: BlobStore, name: str) -> tuple[Any, str] | None:
    """Return a document and its version; None when there is none; raise `StateDamaged`."""
    while True:
        try:
            etag = state.stat(name).etag
            return json.loads(state.read(name, etag=etag)), etag
        except BlobNotFound:
            return None
        except BlobChanged:
            continue
        except ValueError as exc:
            raise StateDamaged(
                f"{name} in the site's state is damaged",
                found="not JSON",
                next_action=FOUND_AGAIN,
            ) from exc


def write(state: BlobStore, name: str, value: Any, etag: str | None) -> str | None:
    """Write the document if *etag* is still its version (None: if there is none); return its new version, else None."""
    data = json.dumps(value, separators=(",", ":")).encode()
    try:
        blob = state.create(name, data) if etag is None else state.replace(name, data, etag=etag)
    except (BlobExists, BlobChanged, BlobNotFound):
        return None
    return blob.etag


def change(state: BlobStore, name: str, edit: Callable[[Any], Any]) -> Any:
    """Write what *edit* makes of the document (None: there is none), until nobody else came between; return it.

    *edit* returns None to leave the document as it is.
    """
    for attempt in range(_TRIES):
        found = read(state, name)
        wanted = edit(found[0] if found else None)
        if wanted is None:
            return found[0] if found else None
        if write(state, name, wanted, found[1] if found else None) is not None:
            return wanted
        pause(attempt)
    raise BackendUnavailable(f"{name} in the site's state is written by others all the time")


def pause(attempt: int) -> None:
    """Wait a moment, so that those who want the same meet less often."""
    least, most = _PAUSE_S
    time.sleep(random.uniform(least, min(most, least * 2 ** (attempt + 1))))  # noqa: S311 - nobody guesses it


def server_now(state: BlobStore, name: str, owner: str) -> datetime:
    """Return the time of the state's own clock (UTC), by writing *name*: who looked last, and so when."""
    data = json.dumps({"owner": owner}).encode()
    try:
        return state.replace(name, data, etag=state.stat(name).etag).last_modified
    except BlobNotFound:
        with suppress(BlobExists):
            return state.create(name, data).last_modified
    except BlobChanged:
        pass
    return state.stat(name).last_modified  # another has written it just now
