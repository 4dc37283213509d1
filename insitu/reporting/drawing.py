"""Figures as PNG for where pictures are files, and as SVG that takes the colours of the page around it."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, PURPLE, GREY, FAINT = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555", "#999999"
"""Colours that colour-blind people can tell apart (Okabe and Ito, 2008), and two greys."""

GOOD, BAD, OPEN = GREEN, VERMILION, GREY
MARKS = {GOOD: "o", BAD: "X", OPEN: "D"}
_OF_PAGE = {
    BLUE: "var(--s1)", VERMILION: "var(--s2)", GREEN: "var(--s3)", PURPLE: "var(--s4)", GREY: "var(--s5)",
    FAINT: "var(--soft)", "#000000": "currentColor",
}  # fmt: skip
_DPI = 80
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_HEAD = re.compile(r' (?:xmlns|xmlns:xlink|version|width|height)="[^"]*"')
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_GROUP = re.compile(r'<g id="[^"]*">')
_FONT = re.compile(r"'DejaVu Sans'[^;\"]*")
_REFERENCE = re.compile(r'(\bid="|href="#|url\(#)')


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows."""

    title: str
    figure: Figure

    @property
    def png(self) -> bytes:
        """The picture as a file."""
        file = io.BytesIO()
        self.figure.savefig(file, format="png")
        return file.getvalue()

    @property
    def markdown(self) -> str:
        """The picture as Markdown that loads nothing from elsewhere."""
        return f"![{self.title}]({self.uri})"

    @property
    def uri(self) -> str:
        """The picture as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    def svg(self, name: str, description: str) -> Markup:
        """Return it as a part of a page: in the page's colours, of equal bytes for an equal figure.

        Args:
            name: Unlike that of any other figure of the page.
            description: What those hear who do not see it.
        """
        from matplotlib import rc_context

        file = io.StringIO()
        with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            self.figure.savefig(file, format="svg", transparent=True, metadata=_NOTHING)
        head, _, body = file.getvalue().partition("<svg")[2].partition(">")
        label = f'role="img" aria-labelledby="{name}-title {name}-desc"'
        title = f'<title id="{name}-title">{escape(self.title)}</title>'
        words = f'{title}<desc id="{name}-desc">{escape(description)}</desc>'
        return Markup(f"<svg{_HEAD.sub('', head)} {label}>{words}{_in_page(body, name)}")  # noqa: S704 - escaped above


def _in_page(body: str, name: str) -> str:
    """Return what matplotlib drew with the page's colours and font, and with ids that no other figure has."""
    body = _GROUP.sub("<g>", _METADATA.sub("", body)).replace("xlink:href", "href")
    body = _REFERENCE.sub(rf"\g<1>{name}-", _FONT.sub("system-ui, sans-serif", body))
    for colour, variable in _OF_PAGE.items():
        body = body.replace(colour, variable)
    return body.rstrip()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=_DPI)


def finished(figure: Figure) -> Figure:
    """Return the figure without the lines that say nothing."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def plain(text: str) -> str:
    """Return *text* as a label: a dollar sign begins no formula."""
    return text.replace("$", r"\$")
