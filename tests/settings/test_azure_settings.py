"""A site on an Azure Stack Hub: what its settings say, and what is said when they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from insitu.errors import SettingsError
from insitu.settings import AzureBlobStore, AzureStateStore, FolderStore, SiteSettings, load_site
from insitu.wiring import open_site

SITE = """\
[data]
kind = "azure-blob"
account_url = "https://flightdata.blob.north.hub.example"
key = { env = "HUB_KEY" }

[state]
kind = "azure-blob"
account_url = "https://insitu.blob.north.hub.example"
sas = { file = "secrets/state.sas" }
container = "decisions"
ca_bundle = "/etc/ssl/hub.pem"

[models]
kind = "mlflow"
uri = "sqlite:///var/mlflow.db"

[compute]
kind = "process"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "deployments/sites").mkdir(parents=True)
    return tmp_path


def load(project: Path, text: str = SITE, **variables: str) -> SiteSettings:
    (project / "deployments/sites/hub.toml").write_text(text)
    return load_site(project, "hub", variables)


def test_a_hub_site_loads_with_the_version_that_a_hub_speaks(project: Path) -> None:
    site = load(project)
    assert isinstance(site.data, AzureBlobStore)
    assert isinstance(site.state, AzureStateStore)
    assert (site.data.api_version, site.data.account_name) == ("2019-07-07", "flightdata")
    assert site.data.key
    assert (site.data.key.env, site.data.sas) == ("HUB_KEY", None)
    assert site.state.sas
    assert site.state.sas.file == project / "secrets/state.sas"
    assert (site.state.container, site.state.ca_bundle) == ("decisions", Path("/etc/ssl/hub.pem"))


def test_variables_override_keys_of_a_hub_site(project: Path) -> None:
    variables = {"INSITU_SITE__DATA__KEY__ENV": "OTHER", "INSITU_SITE__STATE__API_VERSION": "2019-02-02"}
    site = load(project, **variables)
    assert isinstance(site.data, AzureBlobStore)
    assert isinstance(site.state, AzureStateStore)
    assert site.data.key
    assert (site.data.key.env, site.state.api_version) == ("OTHER", "2019-02-02")


def test_data_on_the_hub_and_state_in_a_folder_go_together(project: Path) -> None:
    before, rest = SITE.split("[state]")
    site = load(
        project, before + '[state]\nkind = "folder"\nroot = "var/state"\n\n[models]' + rest.split("[models]")[1]
    )
    assert isinstance(site.data, AzureBlobStore)
    assert isinstance(site.state, FolderStore)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://flightdata.blob.north.hub.example", "flightdata"),
        ("https://flightdata.blob.north.hub.example:8443", "flightdata"),
        ("http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
        ("http://localhost:10000/devstoreaccount1", "devstoreaccount1"),
    ],
)
def test_the_address_tells_the_account(project: Path, url: str, name: str) -> None:
    site = load(project, SITE.replace("https://flightdata.blob.north.hub.example", url))
    assert isinstance(site.data, AzureBlobStore)
    assert site.data.account_name == name


def test_an_account_that_the_address_does_not_tell_is_named(project: Path) -> None:
    site = load(project, SITE.replace("[state]", 'account = "flights2013"\n[state]'))
    assert isinstance(site.data, AzureBlobStore)
    assert site.data.account_name == "flights2013"


def test_a_job_is_told_where_the_secret_is_and_not_the_secret(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_KEY", "aHVzaA==")
    place = open_site(project, load(project))
    spec = place.data_spec("flights")
    assert "aHVzaA" not in repr(spec) + repr(place) + place.settings.model_dump_json()
    assert spec["store"]["key"]["env"] == "HUB_KEY"
    assert place.data_place("flights") == "https://flightdata.blob.north.hub.example/flights"


class Mistake(NamedTuple):
    """A change to the good file, and the one problem that it must give."""

    old: str
    new: str
    line: int
    key: str
    found: str
    wanted: str
    hint: str = ""


MISTAKES = {
    "unknown kind": Mistake(
        '"azure-blob"', '"azure"', 2, "data.kind", '"azure"', '"folder" or "azure-blob"', "azure-b"
    ),
    "no kind": Mistake('kind = "azure-blob"\n', "", 1, "data.kind", "nothing", '"folder" or "azure-blob"'),
    "kind is a number": Mistake('"azure-blob"', "1", 2, "data.kind", "1", '"folder" or "azure-blob"'),
    "key of another kind": Mistake(
        "[state]", 'root = "var"\n[state]', 6, "data.root", '"var"', "one of kind, account_url"
    ),
    "misspelt key": Mistake(
        "account_url", "acount_url", 3, "data.acount_url", "unknown key", "account_url", "data.account_url?"
    ),
    "no address": Mistake(
        'account_url = "https://flightdata.blob.north.hub.example"\n', "", 1, "data.account_url", "nothing", "https://"
    ),
    "address without TLS": Mistake("https", "http", 3, "data.account_url", "http://flightdata", "https://ACCOUNT"),
    "address of a container": Mistake(
        "north.hub.example",
        "north.hub.example/flights",
        3,
        "data.account_url",
        "/flights",
        "without a container|with a path",
    ),
    "address with a signature": Mistake(
        "north.hub.example", "north.hub.example?sv=1&sig=hush", 3, "data.account_url", "sig=***", "without a signature"
    ),
    "old version": Mistake(
        "[state]", 'api_version = "2017-11-09"\n[state]', 6, "data.api_version", "2017-11-09", "2019-02-02 or newer"
    ),
    "version is a date": Mistake(
        "[state]",
        "api_version = 2019-07-07\n[state]",
        6,
        "data.api_version",
        "2019-07-07",
        "text",
        'write "2019-07-07"',
    ),
    "both secrets": Mistake("[state]", 'sas = { env = "SAS" }\n[state]', 1, "data", "a table", "either key or sas"),
    "no secret": Mistake('key = { env = "HUB_KEY" }\n', "", 1, "data", "a table", "either key or sas"),
    "the secret itself": Mistake('{ env = "HUB_KEY" }', '"hush"', 4, "data.key", "not shown", "a table"),
    "the signature itself": Mistake(
        '{ file = "secrets/state.sas" }', '"sv=1&sig=hush"', 9, "state.sas", "not shown", "a table"
    ),
    "two places": Mistake('"HUB_KEY" }', '"K", file = "f" }', 4, "data.key", "not shown", '{ env = "VARIABLE" } or'),
    "no place": Mistake('{ env = "HUB_KEY" }', "{}", 4, "data.key", "not shown", '{ env = "VARIABLE" } or'),
    "a variable of insitu": Mistake("HUB_KEY", "INSITU_HUSH", 4, "data.key.env", "not shown", "the name of a variable"),
    "a container for data": Mistake(
        "[state]", 'container = "flights"\n[state]', 6, "data.container", "unknown key", "one of kind, account_url"
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_reported(project: Path, mistake: Mistake) -> None:
    assert mistake.old in SITE
    with pytest.raises(SettingsError) as caught:
        load(project, SITE.replace(mistake.old, mistake.new, 1))
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.key) == ("deployments/sites/hub.toml", mistake.line, mistake.key)
    assert mistake.found in problem.found
    assert any(part in problem.wanted for part in mistake.wanted.split("|"))
    assert mistake.hint in (problem.hint or "")
    assert "hush" not in str(caught.value).lower()


def test_a_secret_in_a_variable_of_insitu_is_not_shown(project: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load(project, INSITU_SITE__DATA__KEY="hush", INSITU_SITE__STATE__SAS="sv=1&sig=hush")
    assert len(caught.value.problems) == 2
    assert "hush" not in str(caught.value)
