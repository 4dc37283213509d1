"""Writing a local file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from insitu.errors import naming_full_disks


def replace_file(path: Path, data: bytes) -> None:
    """Write *data* beside *path*, then move it there in one step; raise `StorageFull`."""
    with naming_full_disks(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, staged = tempfile.mkstemp(dir=path.parent, prefix=".staged-")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, path)
        except BaseException:
            os.unlink(staged)
            raise
