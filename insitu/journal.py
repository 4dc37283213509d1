"""The journal of a run in the site's state: each step is done once and its value kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter

from insitu.crashpoints import crashpoint
from insitu.errors import BlobChanged, BlobExists, BlobNotFound, StateDamaged
from insitu.ports import BlobStore

T = TypeVar("T")


def read_json(state: BlobStore, name: str) -> Any:
    """Return the JSON values of a blob; raise `BlobNotFound`, `StateDamaged`."""
    try:
        return json.loads(state.read(name))
    except ValueError as exc:
        raise StateDamaged(
            f"{name} in the site's state is damaged",
            found="not JSON",
            next_action="remove that file: a step without its file is looked up or done again",
        ) from exc


def write_json(state: BlobStore, name: str, value: Any, fence: Callable[[], object] = lambda: None) -> None:
    """Write JSON values as a blob, over what was there; *fence* is asked again when another wrote meanwhile."""
    data, etag = json.dumps(value, indent=1).encode(), None
    while True:
        fence()
        try:
            if etag is None:
                state.create(name, data)
            else:
                state.replace(name, data, etag=etag)
            return
        except (BlobExists, BlobChanged):
            etag = state.stat(name).etag


def change_json(
    state: BlobStore, name: str, changed: Callable[[Any], Any], fence: Callable[[], object] = lambda: None
) -> None:
    """Write what *changed* makes of a blob's JSON values, None where there is none; nothing of others is lost."""
    while True:
        fence()
        try:
            etag: str | None = state.stat(name).etag
            before = json.loads(state.read(name, etag=etag))
        except BlobNotFound:
            etag, before = None, None
        except BlobChanged:
            continue
        except ValueError:
            before = read_json(state, name)  # says that it is damaged
        if (value := changed(before)) == before:
            return
        data = json.dumps(value, indent=1).encode()
        with suppress(BlobExists, BlobChanged):
            if etag is None:
                state.create(name, data)
            else:
                state.replace(name, data, etag=etag)
            return


@dataclass(frozen=True)
class Journal:
    """What a run has finished, under `runs/MODEL/KEY/` in the site's state.

    A step that ended is found by the next start with the same run key. A step that raised leaves
    nothing here, so it is tried again.

    Attributes:
        fence: Raises `RunTakenOver` when this process may not go on: asked before each step, and between reading a
            version and writing the next, so that what was taken over is never written over what its heir wrote.
    """

    state: BlobStore
    model: str
    key: str
    fence: Callable[[], object] = field(default=lambda: None, repr=False, compare=False)

    def once(self, step: str, kind: type[T], work: Callable[[], T], still: Callable[[T], bool] = lambda _: True) -> T:
        """Return the value of *step*: from the journal, or by doing *work* and writing it down.

        *still* tells whether what a kept value speaks of is there; *work* is done again when it is not.
        """
        if (entry := self.entry(step)) is not None:
            value = TypeAdapter(kind).validate_python(entry["value"])
            if still(value):
                return value
        return self.again(step, kind, work)

    def again(self, step: str, kind: type[T], work: Callable[[], T]) -> T:
        """Do *work*, whatever the journal holds, and write its value down."""
        crashpoint(f"{step}:before")
        self.fence()
        started = time.monotonic()
        value = work()
        crashpoint(f"{step}:done")
        seconds = round(time.monotonic() - started, 2)
        self.keep(step, {"seconds": seconds, "value": TypeAdapter(kind).dump_python(value, mode="json")})
        crashpoint(f"{step}:recorded")
        return value

    def change(self, what: str, changed: Callable[[Any], Any]) -> None:
        """Keep what *changed* makes of what is kept, None where nothing is; what others write meanwhile is not lost."""
        change_json(self.state, self.name(what), changed, self.fence)

    def entry(self, what: str) -> Any:
        """Return what was kept: `{"seconds", "value"}` for a step that ended; None when nothing was."""
        try:
            return read_json(self.state, self.name(what))
        except BlobNotFound:
            return None

    def keep(self, what: str, value: Any) -> None:
        """Write JSON values beside the steps, over what was there."""
        write_json(self.state, self.name(what), value, self.fence)

    def name(self, what: str) -> str:
        """Return the blob that holds *what* about this run."""
        return f"runs/{self.model}/{self.key}/{what}.json"
