"""`insitu scan`: does a file hold rows of a batch?"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from insitu.options import json_option, project_option, site_option

if TYPE_CHECKING:
    from insitu.scanning import Scanned


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--batch", required=True, metavar="FILE|KEY", help="JSON manifest of pinned blobs, or digits of a run key or batch."
)
@click.option("--model", help="Read the blobs and judge as this model's model.toml says.  [default: that of the run]")
@site_option
@json_option
@project_option
def scan(project: Path, path: Path, batch: str, model: str | None, site: str, as_json: bool) -> None:
    """Search PATH, a file, a folder or an image layout, for rows of a batch: on site, next to the data.

    Archives, arrays, models and tables in it are opened; nothing is executed. Exit code 1 when it is blocked: it holds
    a row, more single values than the model may, or something that cannot be opened. What `fit` was given is known to
    runs only: a model that keeps scaled rows is found there. Of an image layout the software below the model is
    searched, too, which may take minutes: name the model's own files where that is not asked.
    """
    from insitu import scanning
    from insitu.settings import ReadingSettings, load_settings, load_site
    from insitu.settings.model import ResidencySettings
    from insitu.wiring import open_site

    place = open_site(project, load_site(project, site, os.environ))
    blobs, of_run = scanning.batch_of(place, batch)
    reading, residency = ReadingSettings(), ResidencySettings()
    if model or (of_run and (project / "models" / of_run / "model.toml").is_file()):
        settings = load_settings(project, site, str(model or of_run), os.environ)[1]
        reading, residency = settings.data.reading, settings.residency
    found = scanning.scan(place, path, blobs, reading, residency.max_cells, residency.max_rows)
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else "\n".join(_lines(found)))
    sys.exit(1 if found.ruling.verdict == "blocked" else 0)


def _lines(found: Scanned) -> Iterator[str]:
    ruling, told = found.ruling, found.to_json()
    yield f"{found.path}: {ruling.verdict}"
    yield f"  {'found':<11}{ruling.rows_found:,} rows, {ruling.cells_found:,} single values"
    for holder in ruling.holders:
        yield f"  {'holds':<11}{holder.render()}"
        yield f"  {'instead':<11}{holder.instead}"
    for path, why in ruling.unopened:
        yield f"  {'unopened':<11}{path}: {why}"
    yield f"  {'looked for':<11}{told['rows_looked_for']:,} of {told['rows']:,} rows, {told['entries']:,} fingerprints"
    yield f"  {'looked at':<11}{told['bytes_scanned']:,} bytes in {told['seconds']:.1f} s"
