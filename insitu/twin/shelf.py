"""What a service of the twin remembers: JSON values in a file, so that the estate is the same after a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from insitu.files import replace_file


class Shelf:
    """JSON values by name, written down at each change; safe to use from several threads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = RLock()
        self._values: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Yield the values to look at and to change, with nobody else doing so; then write them down."""
        with self._lock:
            yield self._values
            replace_file(self._file, json.dumps(self._values, indent=1).encode())

    def get(self, name: str) -> Any:
        """Return a copy of one value, or None."""
        with self._lock:
            return json.loads(json.dumps(self._values.get(name)))

    def put(self, name: str, value: Any) -> None:
        """Set one value."""
        with self.changing() as values:
            values[name] = value

    def remove(self, name: str) -> bool:
        """Remove one value; return whether there was one."""
        with self.changing() as values:
            return values.pop(name, None) is not None

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with *prefix*, sorted."""
        with self._lock:
            return sorted(name for name in self._values if name.startswith(prefix))
