"""How commands open what a site knows of its models' triggers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insitu.triggers.book import Book
    from insitu.wiring import Site


def open_books(project: Path, site: str, models: tuple[str, ...]) -> tuple[Site, list[Book]]:
    """Return the site and the triggers of *models*, or of all; raise `SettingsError`."""
    from insitu.settings import load_model, load_site  # here: the help of the commands needs none of it
    from insitu.triggers.book import Book
    from insitu.wiring import open_site

    place = open_site(project, load_site(project, site, os.environ))
    names = models or tuple(_names(project))
    return place, [Book(place.state, load_model(project, name, os.environ)) for name in names]


def _names(project: Path) -> Iterator[str]:
    return (file.parent.name for file in sorted(project.glob("models/*/model.toml")))
