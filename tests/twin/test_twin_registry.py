"""The container registry of the twin: token exchange, rights, limits and locks in front of a real registry."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
import requests
from ml_helpers import token_of
from twin_helpers import MANAGEMENT, ask

from insitu.twin.acr import registry_program
from insitu.twin.estate import Estate
from insitu.twin.server import running_estate

ENTRA = "https://containerregistry.azure.net/.default"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
PUSH = "repository:flights:pull,push"
LOCK = "repository:flights:metadata_read,metadata_write"

needs_registry = pytest.mark.skipif(registry_program() is None, reason="Debian's docker-registry is not installed")


class Client:
    """Somebody who has an access token for a scope."""

    def __init__(self, estate: Estate, scope: str = PUSH) -> None:
        self.estate, self.token = estate, access_token(estate, scope)

    def ask(self, method: str, path: str, **options: object) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}  # type: ignore[dict-item]
        return ask(self.estate, method, f"https://{self.estate.names.registry_host}{path}", headers=headers, **options)

    def push(self, content: bytes) -> str:
        """Push a blob; return its digest."""
        started = self.ask("POST", "/v2/flights/blobs/uploads/")
        digest = f"sha256:{sha256(content).hexdigest()}"
        place = f"{started.headers['Location']}&digest={digest}"
        assert self.ask("PUT", place, data=content).status_code == 201
        return digest

    def tag(self, tag: str, content: bytes = b"{}") -> requests.Response:
        """Push a manifest under *tag*."""
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": self.push(content)}
        body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": {**config, "size": len(content)}, "layers": []}
        return self.ask("PUT", f"/v2/flights/manifests/{tag}", json=body, headers={"Content-Type": MANIFEST})


def post(estate: Estate, path: str, **form: str) -> requests.Response:
    """Post a form to the registry."""
    host = estate.names.registry_host
    return ask(estate, "POST", f"https://{host}/oauth2/{path}", data={"service": host, **form})


def refresh_token(estate: Estate, scope: str = ENTRA) -> str:
    answer = post(estate, "exchange", grant_type="access_token", access_token=token_of(estate, scope))
    return str(answer.json()["refresh_token"])


def access_token(estate: Estate, scope: str) -> str:
    answer = post(estate, "token", grant_type="refresh_token", scope=scope, refresh_token=refresh_token(estate))
    return str(answer.json()["access_token"])


def code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def test_a_stranger_is_told_where_to_get_a_token(estate: Estate) -> None:
    answer = ask(estate, "GET", f"https://{estate.names.registry_host}/v2/")

    assert code(answer) == (401, "UNAUTHORIZED")
    host = estate.names.registry_host
    assert answer.headers["WWW-Authenticate"] == f'Bearer realm="https://{host}/oauth2/token",service="{host}"'


@pytest.mark.parametrize("scope", [ENTRA, MANAGEMENT])
def test_a_token_of_entra_is_exchanged(estate: Estate, scope: str) -> None:
    assert refresh_token(estate, scope).count(".") == 2


def test_an_exchange_for_another_service_audience_or_tenant_is_refused(estate: Estate) -> None:
    form = {"grant_type": "access_token", "access_token": token_of(estate, ENTRA)}
    wrong = token_of(estate, "https://ml.azure.com/.default")
    assert code(post(estate, "exchange", **{**form, "service": "other.azurecr.io"})) == (400, "UNSUPPORTED")
    assert code(post(estate, "exchange", **{**form, "access_token": wrong})) == (401, "UNAUTHORIZED")
    assert code(post(estate, "exchange", **{**form, "tenant": "other"})) == (401, "UNAUTHORIZED")


@needs_registry
def test_a_token_is_good_for_its_scope_only(estate: Estate) -> None:
    pull = Client(estate, "repository:flights:pull")
    answer = pull.ask("POST", "/v2/flights/blobs/uploads/")

    assert code(answer) == (401, "UNAUTHORIZED")
    assert 'scope="repository:flights:push"' in answer.headers["WWW-Authenticate"]
    assert pull.ask("GET", "/v2/other/manifests/1").status_code == 401
    assert pull.ask("GET", "/v2/flights/manifests/no-such-tag").status_code == 404


def test_who_may_only_pull_gets_no_token_to_push(estate: Estate) -> None:
    names, puller = estate.names, "00000000-aaaa-2222-3333-444444444444"
    estate.directory.register(names.tenant, puller, "s" * 40, {names.group_id: ("AcrPull",)})
    entry = estate.directory.find(names.tenant, puller)
    assert entry
    entra = estate.directory.issue(entry, "https://containerregistry.azure.net")
    refresh = post(estate, "exchange", grant_type="access_token", access_token=entra).json()["refresh_token"]

    asked = {"grant_type": "refresh_token", "refresh_token": refresh}
    assert post(estate, "token", **asked, scope="repository:flights:pull").status_code == 200
    assert code(post(estate, "token", **asked, scope="repository:flights:push")) == (401, "UNAUTHORIZED")


def test_docker_login_works_with_a_refresh_token_and_never_with_a_password(estate: Estate) -> None:
    host = estate.names.registry_host
    url = f"https://{host}/oauth2/token?service={host}&scope={PUSH}"

    def login(user: str, password: str) -> int:
        basic = b64encode(f"{user}:{password}".encode()).decode()
        return ask(estate, "GET", url, headers={"Authorization": f"Basic {basic}"}).status_code

    assert login("00000000-0000-0000-0000-000000000000", refresh_token(estate)) == 200
    assert login(estate.names.registry, refresh_token(estate)) == 401


@needs_registry
def test_a_locked_tag_is_not_moved_and_not_removed(estate: Estate) -> None:
    client, locker = Client(estate), Client(estate, LOCK)
    digest = client.tag("locked").headers["Docker-Content-Digest"]
    path = "/acr/v1/flights/_tags/locked"
    assert client.ask("PATCH", path, json={"writeEnabled": False}).status_code == 401, "pushing is not locking"

    shown = locker.ask("PATCH", path, json={"writeEnabled": False, "deleteEnabled": False}).json()
    assert shown["tag"]["digest"] == digest
    assert shown["tag"]["changeableAttributes"] == {
        "deleteEnabled": False,
        "writeEnabled": False,
        "listEnabled": True,
        "readEnabled": True,
    }
    assert code(client.tag("locked", b'{"a": 1}')) == (405, "REGISTRY_DISALLOWED_OPERATION")
    held = client.ask("GET", "/v2/flights/manifests/locked", headers={"Accept": MANIFEST})
    assert held.headers["Docker-Content-Digest"] == digest

    locker.ask("PATCH", path, json={"writeEnabled": True})
    assert client.tag("locked", b'{"a": 1}').status_code == 201
    assert locker.ask("GET", path).json()["tag"]["digest"] != digest
    assert locker.ask("GET", "/acr/v1/flights/_tags/none").status_code == 404


@needs_registry
def test_tags_manifests_and_repositories_are_shown(estate: Estate) -> None:
    digest = Client(estate).tag("shown", json.dumps("shown").encode()).headers["Docker-Content-Digest"]
    reader = Client(estate, "repository:flights:metadata_read")

    assert "shown" in [tag["name"] for tag in reader.ask("GET", "/acr/v1/flights/_tags").json()["tags"]]
    manifest = reader.ask("GET", f"/acr/v1/flights/_manifests/{digest}").json()["manifest"]
    assert (manifest["digest"], manifest["tags"], manifest["mediaType"]) == (digest, ["shown"], MANIFEST)
    assert reader.ask("GET", "/acr/v1/flights").json()["imageName"] == "flights"


@needs_registry
def test_a_body_that_is_too_large_for_one_request_is_refused(estate: Estate) -> None:
    client, content = Client(estate), bytes(21 << 20)
    started = client.ask("POST", "/v2/flights/blobs/uploads/")
    digest = f"sha256:{sha256(content).hexdigest()}"
    answer = client.ask("PUT", f"{started.headers['Location']}&digest={digest}", data=content)
    assert code(answer) == (413, "SIZE_INVALID")


@needs_registry
def test_tokens_end_when_they_are_said_to(estate: Estate) -> None:
    client, refresh = Client(estate), refresh_token(estate)
    assert client.ask("GET", "/v2/").status_code == 200
    estate.set_condition("token-expired")

    assert client.ask("GET", "/v2/").status_code == 401
    answer = post(estate, "token", grant_type="refresh_token", scope=PUSH, refresh_token=refresh)
    assert code(answer) == (401, "UNAUTHORIZED")
    assert Client(estate).ask("GET", "/v2/").status_code == 200, "a new one is good"


def test_without_the_registrys_program_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_estate(tmp_path, in_memory=True) as other:
        for name, value in other.environment.items():
            monkeypatch.setenv(name, value)
        client = Client(other)
        monkeypatch.setenv("PATH", str(tmp_path))
        answer = client.ask("GET", "/v2/flights/manifests/1")
    assert answer.status_code == 501
    assert "docker-registry: install the package" in answer.json()["errors"][0]["message"]


def test_a_registry_that_was_not_made_does_not_answer(tmp_path: Path) -> None:
    with running_estate(tmp_path, in_memory=True, provisioned=False) as bare:
        assert ask(bare, "GET", f"https://{bare.names.registry_host}/v2/").status_code == 404
