"""The report of a site as files: an index, a page per model, a card per judged run; each written whole or not at all.

Equal state makes equal bytes. A page says of what it was made, and one that would be the same is not drawn again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu import __version__
from insitu.options import DEFAULT_SITE
from insitu.pages import TEMPLATES, render
from insitu.pruning import models_of
from insitu.reporting.figures import Plot, plots_of
from insitu.reporting.model_card import card_of
from insitu.reporting.overview import ModelView, left, views
from insitu.reporting.pictures import kept_pictures
from insitu.reporting.records import Kept, kept_of, name_of, page_name
from insitu.reports import page_of, write_private
from insitu.wiring import Site

_MOST_RUNS = 100
_HEAD_CHARS = 4096


@dataclass(frozen=True)
class Page:
    """One file of the report: what it is made of, as JSON values, and how it is drawn."""

    name: str
    source: Any
    draw: Callable[[str], str]


def folder_of(site: Site) -> Path:
    """Return where the report of *site* lies."""
    work = site.settings.compute.work
    return work / ("report" if site.name == DEFAULT_SITE else f"report-{site.name}")


def write_site(site: Site) -> Path:
    """Bring the report up to date and return its index; only this user may read it.

    Raises:
        StorageFull: No space left.
        BackendUnavailable: The state gives no answer.
    """
    folder, written = folder_of(site), set[Path]()
    for page in _pages(site, list(views(site.state, models_of(site))), folder):
        path = folder / page.name
        made_of = sha256(json.dumps([_code(), page.source], sort_keys=True).encode()).hexdigest()
        if made_of not in _head(path):
            write_private(folder, path, page.draw(made_of))
        written.add(path)
    for path in set(folder.glob("*/*.html")) - written:
        if not path.name.endswith("-audit.html"):  # somebody else made those
            path.unlink(missing_ok=True)
    return folder / "index.html"


def _pages(site: Site, models: list[ModelView], folder: Path) -> Iterator[Page]:
    """Yield every page, the index last: what it links to is there."""
    for model in models:
        shown = [*(one for one in model.records[:-_MOST_RUNS] if one["marks"]), *model.records[-_MOST_RUNS:]]
        links = {record["run_key"]: _links(site, record, folder) for record in shown}
        # Where versions were counted anew, a number is that of the newest.
        cards = {name: record for record in shown if (name := page_name(record))}
        for name, record in cards.items():
            others, kept = links[record["run_key"]], kept_of(site, record)
            made_of = [site.name, record, others, asdict(kept)]
            yield Page(f"{model.name}/{name}", made_of, partial(_card, site, record, kept, others))
        about = {"site": site.name, "links": links, "most": _MOST_RUNS}
        gate = model.gate.model_dump(mode="json") if model.gate else None
        source: Any = [about, list(model.records), gate, model.damage]
        yield Page(f"{model.name}/index.html", source, partial(_model, model, about))
    source = [site.name, [[one.name, list(one.records), one.damage] for one in models]]
    yield Page("index.html", source, partial(_index, site, models))


def _index(site: Site, models: list[ModelView], made_of: str) -> str:
    every = [record for model in models for record in model.records]
    newest = max((str(record["finished"]) for record in every), default=None)
    about = {"site": site.name, "models": models, "runs": len(every), "newest": newest, "left": left(every)}
    return render("report.html", made_of=made_of, page_name=page_name, name_of=name_of, **about)


def _model(model: ModelView, about: Mapping[str, Any], made_of: str) -> str:
    plots = list(plots_of(model.records, model.gate))
    names = {"page_name": page_name, "name_of": name_of}
    return render("model.html", made_of=made_of, model=model, plots=plots, left=left(model.records), **about, **names)


def _card(site: Site, record: Mapping[str, Any], kept: Kept, links: Mapping[str, str], made_of: str) -> str:
    words = "The numbers are in the tables of the card."
    drawn = enumerate(kept_pictures(site.state, record))
    plots = [Plot(one.title, one.svg(f"picture-{number}", words), "", wide=True) for number, one in drawn]
    card = card_of(record, kept)
    return render("card.html", made_of=made_of, card=card, record=record, plots=plots, links=links, left=left([record]))


def _links(site: Site, record: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return what else there is about a run, by name, as seen from a page of its model."""
    docs, name = page_of(site.settings.compute.work, record), page_name(record)
    links = {"Data Docs": f"../../{docs.relative_to(folder.parent).as_posix()}"} if docs.is_file() else {}
    if name and (folder / record["model"] / (audit := name.replace(".html", "-audit.html"))).is_file():
        links["Audit"] = audit
    return links


@cache
def _code() -> str:
    """Return a digest over what draws pages."""
    here = Path(__file__).parent
    files = [*here.glob("*.py"), *TEMPLATES.glob("*"), *TEMPLATES.parent.glob("*.py"), *here.parent.glob("*.py")]
    digests = (sha256(file.read_bytes()).hexdigest() for file in sorted(files))
    return sha256("".join([__version__, *digests]).encode()).hexdigest()


def _head(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_HEAD_CHARS)
    except FileNotFoundError:
        return ""
