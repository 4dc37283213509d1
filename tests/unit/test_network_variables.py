"""A site's [network] becomes the variables that every client obeys."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest

from insitu.errors import SettingsError
from insitu.network import use_network
from insitu.settings import NetworkSettings

PROXY = ("HTTPS_PROXY", "https_proxy")
DIRECT = ("NO_PROXY", "no_proxy")
TRUST = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(os.environ)
    for name in (*PROXY, *DIRECT, *TRUST):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copy(certifi.where(), tmp_path / "ca"))


def variables() -> dict[str, str]:
    return {name: os.environ[name] for name in (*PROXY, *DIRECT, *TRUST) if name in os.environ}


def test_a_table_that_is_left_out_sets_nothing() -> None:
    use_network(NetworkSettings())
    assert variables() == {}


def test_every_spelling_of_each_variable_is_set(bundle: Path) -> None:
    use_network(NetworkSettings(proxy="http://proxy:3128", no_proxy=["hub.example", "127.0.0.1"], ca_bundle=bundle))
    assert variables() == {
        **dict.fromkeys(PROXY, "http://proxy:3128"),
        **dict.fromkeys(DIRECT, "hub.example,127.0.0.1,localhost"),
        **dict.fromkeys(TRUST, str(bundle)),
    }


@pytest.mark.parametrize("before", ["", "hub.example"])
def test_this_machine_is_never_asked_for_at_a_proxy_of_the_environment(before: str) -> None:
    os.environ.update(https_proxy="http://proxy:3128", no_proxy=before)
    use_network(NetworkSettings())
    assert {os.environ[name] for name in DIRECT} == {f"{before},127.0.0.1,localhost".strip(",")}


def test_the_table_wins_over_the_environment(bundle: Path) -> None:
    os.environ.update(HTTPS_PROXY="http://old:1", REQUESTS_CA_BUNDLE=certifi.where())
    use_network(NetworkSettings(proxy="http://new:1", ca_bundle=bundle))
    assert os.environ["HTTPS_PROXY"] == "http://new:1"
    assert {os.environ[name] for name in TRUST} == {str(bundle)}


@pytest.mark.parametrize("name", TRUST)
def test_authorities_that_one_variable_names_count_for_every_client(name: str) -> None:
    os.environ[name] = certifi.where()
    use_network(NetworkSettings())
    assert {os.environ[name] for name in TRUST} == {certifi.where()}
    assert ssl.create_default_context().get_ca_certs()


def test_two_variables_that_differ_stay_as_they_are(tmp_path: Path) -> None:
    os.environ.update(SSL_CERT_FILE=certifi.where(), REQUESTS_CA_BUNDLE=str(tmp_path))
    use_network(NetworkSettings())
    assert [os.environ[name] for name in TRUST] == [str(tmp_path), certifi.where()]


def test_a_folder_of_authorities_is_no_file_of_them(tmp_path: Path) -> None:
    os.environ["REQUESTS_CA_BUNDLE"] = str(tmp_path)
    use_network(NetworkSettings())
    assert "SSL_CERT_FILE" not in os.environ


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_bundle_that_is_none_is_told_before_anything_is_set(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "ca").write_text(content)
    with pytest.raises(SettingsError) as caught:
        use_network(NetworkSettings(proxy="http://proxy:3128", ca_bundle=tmp_path / "ca"))
    assert str(tmp_path / "ca") in str(caught.value.found)
    assert variables() == {}
