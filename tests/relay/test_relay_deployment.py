"""`insitu deploy relay` against the twin: Kudu unpacks the package, and a real Node runs it behind the app's host."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import ssl
import threading
import time
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import ContainerClient
from click.testing import CliRunner
from relay_helpers import REPO, signed

from insitu.cli import main
from insitu.relay import FOLDER, build
from insitu.settings import load_site
from insitu.twin.appservice import APP, PUBLISHING_USER, app_host, scm_host
from insitu.twin.azurite import PROGRAM
from insitu.twin.estate import Estate
from insitu.twin.faults import Fault
from insitu.twin.sas import Key
from insitu.twin.server import running_estate
from insitu.twin.site_file import write_site_file
from insitu.twin.webapp import WebApp

Deploy = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def _estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    if not PROGRAM.exists():
        pytest.skip("Azurite is not installed: tests/system-parts.sh does that")
    with running_estate(tmp_path_factory.mktemp("twin"), in_memory=True) as estate:
        container(estate).create_container()
        yield estate


@pytest.fixture
def estate(_estate: Estate) -> Iterator[Estate]:
    """An estate whose web app holds nothing but a page."""
    before = dict(os.environ)
    login = b64encode(f"{PUBLISHING_USER}:{_estate.secret('relay-publishing.secret').read_text()}".encode()).decode()
    _estate.faults.clear()
    _estate.shelf(f"appservice-{APP}").put("settings", {})
    page = _zip({"hello.txt": b"hello"})
    assert ask(_estate, scm_host(_estate), "POST", "/api/zipdeploy", page, Authorization=f"Basic {login}")[0] == 200
    _estate.shelf(f"appservice-{APP}").put("deployments", [])
    yield _estate
    os.environ.clear()
    os.environ.update(before)  # opening a site sets the variables of its network


@pytest.fixture
def project(tmp_path: Path, estate: Estate) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(REPO / FOLDER, folder / FOLDER)
    (folder / "deployments" / "sites").mkdir()
    (folder / "models" / "flights").mkdir(parents=True)
    (folder / "models" / "flights" / "model.toml").touch()
    write_site_file(estate, folder)
    return folder


@pytest.fixture
def deploy(project: Path) -> Deploy:
    """Run the command; return its exit code and what it printed."""

    def run(*options: str) -> tuple[int, dict[str, Any]]:
        asked = ["deploy", "relay", "--site", "twin", "--json", "--project", str(project), *options]
        result = CliRunner().invoke(main, asked, catch_exceptions=False)
        told: dict[str, Any] = json.loads(result.stdout)
        return result.exit_code, told

    return run


@pytest.fixture
def deployments(estate: Estate) -> Callable[[], list[dict[str, Any]]]:
    return lambda: list(estate.shelf(f"appservice-{APP}").get("deployments") or [])


def ask(
    estate: Estate, host: str, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, str]:
    """Ask a host of the estate as its callers do: through the proxy, and trusting its authority."""
    trust = ssl.create_default_context(cafile=str(estate.authority.bundle))
    connection = http.client.HTTPSConnection("127.0.0.1", estate.port, timeout=60, context=trust)
    connection.set_tunnel(host, 443)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, named)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def change_site(project: Path, old: str, new: str) -> None:
    file = project / "deployments" / "sites" / "twin.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def container(estate: Estate) -> ContainerClient:
    """Return the site's state, past every rule of the twin."""
    names = estate.names
    key = {"account_name": names.hub_account, "account_key": estate.account_key(names.hub_account).read_text()}
    url = estate.storage().url(names.hub_account)
    return ContainerClient(url, names.state_container, credential=key, api_version="2019-07-07")


def test_it_is_deployed_once_and_takes_calls(
    estate: Estate, deploy: Deploy, deployments: Callable[[], list[Any]]
) -> None:
    code, planned = deploy("--plan")
    assert (code, planned["before"], planned["would_change"], deployments()) == (0, None, True, [])
    code, told = deploy()
    assert code == 0
    assert (told["before"], told["changed"], told["digest"]) == (None, True, planned["digest"])
    assert told["health"] == {"status": "ok", "site": "twin", "digest": told["digest"], "lacking": []}
    assert told["readiness"] == {"ready": True, "store": "ok", "runs": "none"}
    code, again = deploy()
    assert (code, again["changed"], again["before"]) == (0, False, told["digest"])
    assert deploy("--plan")[1]["would_change"] is False
    assert [one["status"] for one in deployments()] == [4]
    assert {line.kind for line in estate.journal.lines()} == {"sign-in"}  # nothing else left the site

    body = b'{"model": "flights", "batch": "2013-10"}'
    headers = signed("POST", "/ready", body, key=estate.secret("relay.key").read_text())
    status, answer = ask(estate, app_host(estate), "POST", "/ready", body, Content_Type="application/json", **headers)
    assert status == 201
    assert f"events/flights/{json.loads(answer)['event']}.json" in list(container(estate).list_blob_names())


def test_a_change_of_code_or_settings_is_another_release(
    project: Path, deploy: Deploy, deployments: Callable[[], list[Any]]
) -> None:
    first = deploy()[1]["digest"]
    file = project / FOLDER / "runs.js"
    text = file.read_text()
    file.write_text(text.replace("8000", "9000"))  # as long as it was: Kudu looks at moments
    second = deploy()[1]
    assert (second["before"], second["changed"], second["health"]["digest"]) == (first, True, second["digest"])
    (project / "models" / "prices").mkdir()
    (project / "models" / "prices" / "model.toml").touch()
    third = deploy()[1]
    assert len({first, second["digest"], third["digest"]}) == 3
    file.write_text(text)
    (project / "models" / "prices" / "model.toml").unlink()
    assert deploy()[1]["digest"] == first
    assert [one["status"] for one in deployments()] == [4] * 4


def test_files_that_are_gone_are_gone_there(project: Path, estate: Estate, deploy: Deploy) -> None:
    (project / FOLDER / "extra.js").write_text("// once\n")
    deploy()
    root = estate.folder / "appservice" / APP / "wwwroot"
    assert (root / "extra.js").exists()
    (project / FOLDER / "extra.js").unlink()
    assert deploy()[0] == 0
    assert not (root / "extra.js").exists()


@pytest.mark.parametrize(
    ("kind", "when"), [("status:503", "before"), ("status:503", "after"), ("status:500", "after"), ("drop", "after")]
)
def test_an_answer_that_is_lost_is_looked_for(
    estate: Estate, deploy: Deploy, deployments: Callable[[], list[Any]], kind: str, when: Any
) -> None:
    estate.faults.add(Fault(kind, host=scm_host(estate), method="POST", when=when))
    code, told = deploy()
    assert (code, told["changed"], told["health"]["digest"]) == (0, True, told["digest"])
    assert len(deployments()) == 1


def test_another_deployment_under_way_is_waited_for(
    estate: Estate, deploy: Deploy, deployments: Callable[[], list[Any]]
) -> None:
    other = WebApp(estate, APP)
    other.begin("somebody else's")
    ends = threading.Timer(5, lambda: other.finish(_zip({"hello.txt": b"hello"})))
    ends.start()
    assert deploy()[0] == 0
    ends.join()
    assert [one["status"] for one in deployments()] == [4, 4]


CREDENTIALS = {
    "the publishing user": ('user = "{user}"\npassword = {{ file = "{secret}" }}\n', True),
    "a wrong password": ('user = "{user}"\npassword = {{ file = "{other}" }}\n', False),
    "a token of the hub": ('token = {{ file = "{token}" }}\n', True),
    "no token": ('token = {{ file = "{other}" }}\n', False),
}


@pytest.mark.parametrize(("table", "welcome"), CREDENTIALS.values(), ids=CREDENTIALS)
def test_kudu_lets_in_who_may_deploy(
    project: Path, estate: Estate, deploy: Deploy, tmp_path: Path, table: str, welcome: bool
) -> None:
    (tmp_path / "token").write_text(_token(estate))
    files = {
        "secret": estate.secret("relay-publishing.secret"),
        "other": estate.secret("other"),
        "token": tmp_path / "token",
    }
    change_site(project, "[relay]\n", "[relay]\n" + table.format(user=PUBLISHING_USER, **files))
    code, told = deploy()
    if welcome:
        assert (code, told["changed"]) == (0, True)
        return
    assert (code, told["error"]["type"], told["error"]["found"]) == (1, "DeployFailed", "401")
    assert estate.secret("other").read_text() not in json.dumps(told)


def test_a_principal_without_the_right_is_refused(estate: Estate, deploy: Deploy) -> None:
    entry = estate.directory.find(estate.hub_tenant, estate.names.hub_client)
    assert entry
    rights = dict(entry.roles)
    entry.roles[estate.names.hub_group_id] = ("Reader",)
    code, told = deploy()
    entry.roles.update(rights)
    assert (code, told["error"]["found"]) == (1, "403")


def test_a_relay_that_lacks_a_setting_is_told_which(estate: Estate, deploy: Deploy) -> None:
    estate.shelf(f"appservice-{APP}").put("settings", {"RELAY_STATE_SAS": None})
    code, told = deploy()
    assert (code, told["error"]["code"]) == (1, "E-DEP")
    assert "RELAY_STATE_SAS" in told["error"]["found"]


def test_a_relay_that_may_not_write_is_told(estate: Estate, deploy: Deploy) -> None:
    names = estate.names
    key = Key(names.hub_account, estate.account_key(names.hub_account).read_text())
    sas = key.container_sas(names.state_container, permissions="r")
    estate.shelf(f"appservice-{APP}").put("settings", {"RELAY_STATE_SAS": sas})
    code, told = deploy()
    assert (code, told["error"]["found"]) == (1, "event store: AuthorizationPermissionMismatch; Prefect: none")


def test_a_relay_with_another_key_is_told(estate: Estate, deploy: Deploy) -> None:
    estate.shelf(f"appservice-{APP}").put("settings", {"RELAY_KEY": "x" * 40})
    code, told = deploy()
    assert (code, told["error"]["code"]) == (1, "E-DEP")
    assert "does not take the key" in told["error"]["what"]
    assert "x" * 40 not in json.dumps(told)


def test_a_relay_that_does_not_start_is_told(project: Path, deploy: Deploy) -> None:
    change_site(project, "[relay]\n", "[relay]\ntimeout_s = 3\n")
    (project / FOLDER / "server.js").write_text("process.exit(1);\n")
    code, told = deploy()
    assert (code, told["error"]["code"]) == (1, "E-DEP")
    assert "does not run it after 3 s" in told["error"]["what"]


def test_a_site_without_a_relay_says_so(project: Path, deploy: Deploy) -> None:
    file = project / "deployments" / "sites" / "twin.toml"
    file.write_text(file.read_text().partition("[relay]")[0])
    code, told = deploy()
    assert (code, told["error"]["what"]) == (2, "site twin has no relay")


def test_a_site_with_its_state_in_a_folder_has_none(project: Path, deploy: Deploy) -> None:
    file = project / "deployments" / "sites" / "twin.toml"
    head, _, rest = file.read_text().partition("[state]")
    file.write_text(f'{head}[state]\nkind = "folder"\nroot = "var/state"\n\n[models]{rest.partition("[models]")[2]}')
    code, told = deploy()
    assert (code, told["error"]["type"]) == (2, "SettingsError")


def test_the_package_is_the_same_bytes_whenever_and_wherever_it_is_built(project: Path, tmp_path: Path) -> None:
    first = _package(project)
    for file in (project / FOLDER).iterdir():
        os.utime(file, (0, time.time() - 12345))
        file.chmod(0o600)
    other = tmp_path / "elsewhere"
    shutil.copytree(project, other)
    assert _package(project) == _package(other) == first


def test_files_differ_in_their_moments_when_they_differ_in_their_bytes(project: Path) -> None:
    before = _moments(_package(project))
    file = project / FOLDER / "calls.js"
    file.write_text(file.read_text().replace("300", "301"))
    after = _moments(_package(project))
    assert {name for name in before if before[name] != after[name]} == {"calls.js", "release.json"}
    assert all(1999 < moment[0] < 2020 for moment in before.values())


def test_the_package_holds_no_secret_and_nothing_that_is_not_the_relays(project: Path, estate: Estate) -> None:
    (project / FOLDER / ".env").write_text("hush")
    (project / FOLDER / "notes.txt").write_text("hush")
    content = _package(project)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names, data = archive.namelist(), b"".join(archive.read(name) for name in archive.namelist())
    scripts = [path.name for path in (REPO / FOLDER).iterdir()]
    assert sorted(names) == sorted([*scripts, "authorities.pem", "release.json"])
    secrets = [path.read_bytes() for path in (estate.folder / "secrets").iterdir()]
    assert not [secret for secret in [*secrets, b"hush", b"PRIVATE KEY"] if secret in data]


def _package(project: Path) -> bytes:
    return build(project, load_site(project, "twin", {})).content


def _moments(content: bytes) -> Mapping[str, tuple[int, ...]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {info.filename: info.date_time for info in archive.infolist()}


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _token(estate: Estate) -> str:
    entry = estate.directory.find(estate.hub_tenant, estate.names.hub_client)
    assert entry
    return estate.directory.issue(entry, estate.hub_audience)
