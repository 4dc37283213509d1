"""The pictures of the documentation: what a browser shows of the report in var/report. `make screenshots`."""

from __future__ import annotations

import base64
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Page, chromium  # noqa: E402
from loopback import wait_until  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"


@dataclass(frozen=True)
class Shot:
    """One picture: which page, how wide and high in pixels, by day or by night."""

    name: str
    page: str
    width: int
    height: int
    scheme: str


SHOTS = (
    Shot("report-model.png", "flights/index.html", 1100, 900, "light"),
    Shot("report-phone.png", "flights/index.html", 360, 900, "dark"),
)


def take(page: Page, shot: Shot, report: Path) -> Path:
    """Write the picture, the upper end of the page; return where it is."""
    size = {"width": shot.width, "height": shot.height, "deviceScaleFactor": 1, "mobile": False}
    page.tell("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": shot.scheme}])
    page.tell("Emulation.setDeviceMetricsOverride", **size)
    page.open("about:blank")
    page.open((report / shot.page).as_uri())
    there = f"location.href.endsWith('{shot.page}') && document.readyState == 'complete'"
    wait_until(lambda: page.do(there), 60, shot.page)
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / shot.name
    path.write_bytes(base64.b64decode(page.tell("Page.captureScreenshot")["data"]))
    return path


def main() -> None:
    """Take every picture of the report that `insitu report` has written."""
    report = ROOT / "var" / "report"
    if not (report / "flights/index.html").is_file():
        sys.exit("there is no report yet: make retrain, then .venv/bin/insitu report --open=no")
    with tempfile.TemporaryDirectory() as home, chromium(Path(home)) as page:
        for shot in SHOTS:
            path = take(page, shot, report)
            sys.stdout.write(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
