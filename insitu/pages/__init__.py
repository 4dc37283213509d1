"""Pages for people: one look for the report, the cards and the audit; nothing is loaded from elsewhere, no script runs.

Data Docs include `style.css`, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_FIGURE = re.compile(r"[+-]?[\d,.]+(e[+-]\d+)?%?( (bytes|[kMGT]B|s|min))?")
_LONG_CHARS, _WORD_CHARS = 40, 22
_THOUSAND = 1000
_MINUTE_S = 60


def render(template: str, **about: Any) -> str:
    """Return the page that *template* makes of *about*; every value is escaped, a missing one is an error."""
    return str(_environment().get_template(template).render(about))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests |= {"all_figures": all_figures, "filled": filled, "long": is_long}
    environment.filters |= {"count": count, "number": number, "size": size, "moment": moment, "duration": duration}
    return environment


def filled(column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether any cell of a column says something: others are left out."""
    return any(row[column] != "" for row in rows)


def is_long(value: str) -> bool:
    """Tell whether a value needs a line of its own: it is long, or has a word that would be broken."""
    return len(value) > _LONG_CHARS or max(map(len, value.split()), default=0) > _WORD_CHARS


def all_figures(column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether every cell of a column is a figure, or empty: such columns are set to the right."""
    cells = [str(row[column]) for row in rows if row[column] != ""]
    return bool(cells) and all(map(_FIGURE.fullmatch, cells))


def count(value: int | None) -> str:
    """Return a whole number as people write it; nothing for None."""
    return "" if value is None else f"{value:,}"


def number(value: float | None) -> str:
    """Return a figure with 4 significant digits; nothing for None."""
    return "" if value is None else f"{value:.4g}"


def size(size_bytes: float | None) -> str:
    """Return a size in the unit that keeps it short; nothing for None."""
    if size_bytes is None:
        return ""
    unit = 0
    while round(size_bytes, 1) >= _THOUSAND and unit < len(_UNITS) - 1:
        size_bytes, unit = size_bytes / _THOUSAND, unit + 1
    return f"{size_bytes:,.1f} {_UNITS[unit]}" if unit else f"{size_bytes:.0f} bytes"


def moment(when: str | None) -> str:
    """Return a time of a record (ISO, UTC) to the minute; nothing for None."""
    return f"{when[:16].replace('T', ' ')} UTC" if when else ""


def duration(seconds: float | None) -> str:
    """Return a time span in seconds, or in minutes where it is long; nothing for None."""
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < _MINUTE_S else f"{seconds / _MINUTE_S:.1f} min"
