"""The documentation builds without a warning, holds what the code knows, and asks nobody for anything."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium
from doc_blocks import REPO
from reading import require_readable

from insitu.explanations import EXPLANATIONS
from insitu.settings import ModelSettings, SiteSettings
from insitu.settings.words import paths_of

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as `make docs` builds it: a link or an anchor that leads nowhere ends that."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_page_loads_anything_from_elsewhere_or_is_large(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 40
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]+)", text)
        loaded += re.findall(r"<link\b(?![^>]*rel=\"canonical\")[^>]*\bhref=\"([^\"]+)", text)
        assert [one for one in loaded if "://" in one or one.startswith("//")] == []
        assert page.stat().st_size < MEGABYTE
    styles = [sheet.read_text() for sheet in site.rglob("*.css")]
    assert [
        found for style in styles for found in re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)]+", style)
    ] == []


def test_every_page_of_the_documentation_has_a_place_in_the_navigation(site: Path) -> None:
    navigation = (REPO / "mkdocs.yml").read_text()
    pages = {path.name for path in (REPO / "docs").glob("*.md")} | {"index.md", "cli.md", "settings.md", "errors.md"}
    assert {page for page in pages if f": {page}" not in navigation} == set()


def test_errors_have_an_entry_each(site: Path) -> None:
    text = (site / "errors.html").read_text()
    assert [one.code for one in EXPLANATIONS if f'id="{one.code.lower()}"' not in text] == []


def test_settings_have_a_line_each(site: Path) -> None:
    text = (site / "settings.html").read_text()
    keys = {str(path[-1]) for kind in (SiteSettings, ModelSettings) for path in paths_of(kind)} - {"env", "file"}
    assert len(keys) > 100
    tables = set(re.findall(r"<code>\[+([a-z_.A-Z]+)\]+</code>", text))
    last = {part for table in tables for part in table.split(".")}
    assert {key for key in keys if f"<code>{key}</code>" not in text and key not in last} == set()


def test_commands_have_a_chapter_each(site: Path) -> None:
    text = (site / "cli.html").read_text()
    for command in ("retrain", "bundle-export", "demo-add-month", "twin-fault-add", "explain"):
        assert f'id="insitu-{command}"' in text


def test_no_code_goes_into_the_site(site: Path) -> None:
    assert list(site.rglob("*.py")) == []


def test_pages_can_be_read_on_a_phone_by_night_and_with_keys_alone(site: Path, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        for name in ("index.html", "report.html", "settings.html", "tutorial.html"):
            require_readable(page, site / name)
