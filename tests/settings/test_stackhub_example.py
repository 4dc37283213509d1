"""The example of a site on a hub is valid, shows real defaults, and the page about sites explains every key."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from insitu.settings import SiteSettings, load_site
from insitu.settings.words import paths_of

REPO = Path(__file__).parents[2]
EXAMPLE = (REPO / "deployments" / "sites" / "stackhub.toml").read_text()
_COMMENTED = re.compile(r"(?m)^# ([a-z_]+ = )")
NOT_DEFAULTS = {"proxy", "no_proxy", "ca_bundle", "passphrase", "arm_endpoint", "authority"}
"""Commented keys that show an example, since their default is that there is none."""


def site_of(folder: Path, text: str) -> SiteSettings:
    for name in ("models", "deployments/sites"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "deployments" / "sites" / "stackhub.toml").write_text(text)
    return load_site(folder, "stackhub", {})


def test_the_example_is_a_site_as_it_is(tmp_path: Path) -> None:
    site = site_of(tmp_path, EXAMPLE)
    assert (site.compute.kind, site.training.kind, site.models.kind) == ("stack-hub-vm", "attached-vm", "azure-ml")


def test_every_key_that_is_commented_out_is_known_and_shows_its_default(tmp_path: Path) -> None:
    assert len(_COMMENTED.findall(EXAMPLE)) > 20
    tables = EXAMPLE.split("\n# [")[0]  # those that are commented out as a whole come last
    shown = _COMMENTED.sub(lambda found: "# " if found[1].split()[0] in NOT_DEFAULTS else found[1], tables)
    assert site_of(tmp_path, shown) == site_of(tmp_path, EXAMPLE)


def test_every_line_that_is_commented_out_can_be_used(tmp_path: Path) -> None:
    every = _COMMENTED.sub(r"\1", EXAMPLE).replace("\n# [", "\n[")
    site = site_of(tmp_path, every)
    assert site.network.proxy == "http://proxy.contoso.example:3128"
    assert site.relay


def test_the_example_holds_no_secret() -> None:
    def values(table: object) -> list[str]:
        if isinstance(table, dict):
            return [text for inner in table.values() for text in values(inner)]
        return [table] if isinstance(table, str) else []

    settings = tomllib.loads(EXAMPLE)
    assert not [text for text in values(settings) if re.search(r"sig=|AccountKey|PRIVATE KEY", text)]
    assert set(settings["state"]["key"]) == set(settings["data"]["sas"]) == {"file"}


def test_the_page_about_sites_explains_every_key() -> None:
    page = (REPO / "docs" / "sites.md").read_text()
    elsewhere = {"relay"}  # has a page of its own
    words = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`\n]+)`", page))))
    keys = {path[-1] for path in paths_of(SiteSettings) if path[0] not in elsewhere}
    assert {str(key) for key in keys} - words == set()


def test_the_doctor_tells_all_that_is_missing_of_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from insitu.doctor import diagnose

    for name in ("HTTPS_PROXY", "https_proxy"):  # opening the site sets them
        monkeypatch.setenv(name, "")
    shutil.copytree(REPO / "models", tmp_path / "models")
    nowhere = {
        "INSITU_SITE__NETWORK__PROXY": "http://127.0.0.1:9",
        "INSITU_SITE__COMPUTE__SSH__HOST": "127.0.0.1",
        "INSITU_SITE__COMPUTE__SSH__PORT": "9",
    }
    site_of(tmp_path, EXAMPLE)
    found = {check.name: check for check in diagnose(tmp_path, "stackhub", nowhere)}
    failed = {name for name, check in found.items() if not check.ok}
    assert {
        "hub identity",
        "ssh credential",
        "ssh",
        "state",
        "data flights",
        "azure identity",
        "registry login",
    } <= failed
    assert all(found[name].wanted and found[name].next_action for name in failed)
