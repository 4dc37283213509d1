"""The twin for tests: one estate per session, as new for each test, and the settings of its site.

    def test_it(estate: Estate, twin_site: Callable[..., SiteSettings]) -> None:

The estate forgets faults, conditions and its logs between tests; what tests put into it, they name apart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from insitu.settings import SiteSettings, load_site
from insitu.twin.azurite import PROGRAM
from insitu.twin.estate import Estate
from insitu.twin.hub_blob import make_containers
from insitu.twin.server import running_estate
from insitu.twin.site_file import site_text
from insitu.twin.sshd import sshd_program


@pytest.fixture(scope="session")
def _running_estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    if not PROGRAM.exists():
        pytest.skip("Azurite is not installed: tests/system-parts.sh does that")
    if sshd_program() is None:
        pytest.skip("the Debian package openssh-server is not installed: tests/system-parts.sh does that")
    with running_estate(tmp_path_factory.mktemp("twin"), in_memory=True) as estate:
        make_containers(estate)
        yield estate


@pytest.fixture
def estate(_running_estate: Estate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    """An estate that is well, with this process's environment leading into it."""
    for name, value in _running_estate.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    _running_estate.clear()
    _running_estate.journal.clear()
    yield _running_estate
    _running_estate.clear()


@pytest.fixture
def twin_site(estate: Estate, tmp_path: Path) -> Callable[..., SiteSettings]:
    """Load the settings of the estate's site; keywords override keys, as `TRAINING__TARGET="'other'"` does."""

    def load(**overrides: str) -> SiteSettings:
        sites = tmp_path / "deployments" / "sites"
        sites.mkdir(parents=True, exist_ok=True)
        (sites / "twin.toml").write_text(site_text(estate, tmp_path))
        environ = {f"INSITU_SITE__{key}": value for key, value in overrides.items()}
        return load_site(tmp_path, "twin", {**os.environ, **environ})

    return load
