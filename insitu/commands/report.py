"""`insitu report`: the pages of a site, and the Data Docs of a validation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insitu.options import json_option, maybe_model_argument, project_option, site_option

if TYPE_CHECKING:
    from insitu.wiring import Site


_SPELLINGS = {"--open=yes": "--open", "--open=no": "--no-open"}


class _Report(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_SPELLINGS.get(one, one) for one in args])


@click.command(cls=_Report)
@maybe_model_argument
@click.argument("version", required=False, metavar="[VERSION|RUN_KEY]")
@click.option(
    "--open/--no-open",
    "wanted",
    default=None,
    help="Show the page in the browser; also --open=yes, --open=no.  [default: only on a terminal beside a desktop]",
)
@site_option
@json_option
@project_option
def report(
    project: Path, model: str | None, version: str | None, site: str, wanted: bool | None, as_json: bool
) -> None:
    """Write the report of a site as pages: its models, their runs over time, a card for each version.

    With MODEL also the Data Docs of its newest validation, or of a version or run. That page holds values of the
    data; the report holds aggregates only, and so does what is printed. Both stay on site, and load nothing.
    """
    from insitu import reports
    from insitu.settings import load_settings, load_site
    from insitu.wiring import open_site

    settings = load_settings(project, site, model, os.environ)[0] if model else load_site(project, site, os.environ)
    place = open_site(project, settings)
    told, lines, path = _data_docs(place, model, version) if model else _report(place)
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        click.echo("\n".join(lines))
    wanted = not as_json and reports.has_desktop(os.environ) if wanted is None else wanted
    if wanted and not reports.show_in_browser(path):
        click.echo("no browser took the page: open it yourself", err=True)


def _report(place: Site) -> tuple[dict[str, Any], list[str], Path]:
    """Write the report; return what is told of it as JSON values and as lines, and its first page."""
    from insitu.reporting.site import write_site

    path = write_site(place)
    pages = sum(1 for _ in path.parent.rglob("*.html"))
    return (
        {"site": place.name, "report": str(path), "pages": pages},
        [f"{pages} pages of site {place.name}: {path}"],
        path,
    )


def _data_docs(place: Site, model: str, version: str | None) -> tuple[dict[str, Any], list[str], Path]:
    """Write the Data Docs of one run, and the report that they link to; return as `_report` does."""
    from insitu import reports

    kept = reports.find_report(place.state, model, version)
    from data_checks import datadocs  # after what can go wrong: it takes seconds
    from insitu.reporting.pictures import kept_pictures
    from insitu.reporting.site import folder_of, write_site

    drawn = [(picture.title, picture.uri) for picture in kept_pictures(place.state, kept.record)]
    links = _links(folder_of(place).name, kept.record)
    page = datadocs.page(kept.full, title=model, facts=kept.facts, notes=kept.notes, pictures=drawn, links=links)
    path = reports.page_of(place.settings.compute.work, kept.record)
    reports.write_private(path.parents[1], path, page)
    index = write_site(place)
    told = {**kept.to_json(), "page": str(path), "report": str(index)}
    return told, [*kept.summary(), f"  {'page':<11}{path}", f"  {'report':<11}{index}"], path


def _links(folder: str, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return where the report tells more of a run, as seen from its Data Docs."""
    from insitu.reporting.records import page_name

    here = f"../../{folder}"
    card = [("Model card", f"{here}/{record['model']}/{name}")] if (name := page_name(record)) else []
    return [
        *card,
        (f"Runs of {record['model']}", f"{here}/{record['model']}/index.html"),
        ("Site", f"{here}/index.html"),
    ]
