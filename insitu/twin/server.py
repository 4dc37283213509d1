"""Starting and ending the twin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from insitu.twin.control import control
from insitu.twin.estate import Estate
from insitu.twin.gateway import Gateway
from insitu.twin.services import services


@contextmanager
def running_estate(folder: Path, *, port: int = 0, **options: Any) -> Iterator[Estate]:
    """Run an estate whose state lies in *folder* until the block ends; *options* are those of `Estate`.

    Its `environment` holds the variables with which a process reaches it.
    """
    estate = Estate(folder, **options)
    gateway = Gateway(estate, port)
    try:
        gateway.start(services(estate), control(estate))
        estate.machine.follow()
        yield estate
    finally:
        gateway.stop()
        estate.close()
