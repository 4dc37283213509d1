"""The relay of a site: what its settings say, and what is said when they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from insitu.errors import SettingsError
from insitu.settings import SiteSettings, load_site

SITE = """\
[data]
kind = "folder"
root = "var/blobs"
[state]
kind = "folder"
root = "var/state"
[models]
kind = "mlflow"
uri = "sqlite:///var/mlflow.db"
[compute]
kind = "process"
[relay]
app_host = "insitu-relay.appservice.north.hub.example"
key = { env = "RELAY_KEY" }
"""
HUB = """
[hub]
region = "north"
fqdn = "hub.example"
subscription = "00000000-0000-0000-0000-000000000001"
resource_group = "insitu"
[hub.identity]
tenant = "adfs"
client_id = "00000000-0000-0000-0000-000000000002"
secret = { file = "secrets/hub" }
"""
USER = 'user = "$insitu-relay"\n'
PASSWORD = 'password = { env = "PUBLISHING" }\n'
TOKEN = 'token = { env = "KUDU_TOKEN" }\n'


def load(project: Path, text: str) -> SiteSettings:
    (project / "deployments" / "sites").mkdir(parents=True, exist_ok=True)
    (project / "deployments" / "sites" / "hub.toml").write_text(text)
    return load_site(project, "hub", {})


def test_kudu_is_beside_the_app(tmp_path: Path) -> None:
    relay = load(tmp_path, SITE + TOKEN).relay
    assert relay
    assert (relay.kudu, relay.signs_in) == ("insitu-relay.scm.appservice.north.hub.example", False)
    assert (relay.deployment, relay.signed_only, relay.timeout_s) == ("retrain/{model}", False, 300)
    named = load(tmp_path, SITE + TOKEN + 'scm_host = "kudu.hub.example"\n').relay
    assert named
    assert named.kudu == "kudu.hub.example"


@pytest.mark.parametrize(("more", "signs_in"), [(USER + PASSWORD, False), (TOKEN, False), (HUB, True)])
def test_somebody_deploys_it(tmp_path: Path, more: str, signs_in: bool) -> None:
    relay = load(tmp_path, SITE + more).relay
    assert relay
    assert relay.signs_in is signs_in


@pytest.mark.parametrize(
    "more",
    [
        "",
        USER,
        PASSWORD,
        USER + PASSWORD + TOKEN,
        TOKEN + 'deployment = "flights"\n',
        TOKEN + 'scm_host = "https://kudu"\n',
        TOKEN.replace('{ env = "KUDU_TOKEN" }', '"hush"'),
    ],
    ids=["nobody", "no password", "no user", "two ways", "no flow", "an address", "the secret itself"],
)
def test_a_mistake_is_reported_below_relay(tmp_path: Path, more: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, SITE + more)
    (problem,) = caught.value.problems
    assert problem.key.startswith("relay")
    assert "hush" not in str(caught.value)
