"""Secrets open the store and show up nowhere."""

from __future__ import annotations

import json
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azure_helpers import caught, errors_of, other, signature
from azurite import Azurite
from stack_hub import StackHub

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.errors import InsituError, SettingsError, StoreRefused
from insitu.settings import AzureBlobStore, SecretSource
from insitu.stores import open_blobs


@pytest.fixture
def store(hub_settings: AzureBlobStore, new_container: Callable[[], str]) -> AzureBlobs:
    return AzureBlobs(hub_settings, new_container())


def test_a_signature_opens_what_it_is_for(store: AzureBlobs, emulator: Azurite, tmp_path: Path) -> None:
    store.create("a", b"x")
    for sas in (signature(emulator, store.container, "rwl"), "?" + signature(emulator, store.container, "rwl")):
        (tmp_path / "sas").write_text(sas)
        signed = other(store, key=None, sas=SecretSource(file=tmp_path / "sas"))
        assert list(signed.names()) == ["a"]
        blob = signed.stat("a")
        assert signed.read("a", etag=blob.etag) == b"x"
        assert signed.replace("a", b"x", etag=blob.etag) == store.stat("a")


@pytest.mark.parametrize("change", ["expired", "read only", "damaged"])
def test_a_signature_that_does_not_fit_is_refused_and_not_shown(
    store: AzureBlobs, hub: StackHub, emulator: Azurite, tmp_path: Path, change: str
) -> None:
    sas = signature(
        emulator, store.container, "rl" if change == "read only" else "rwl", -1 if change == "expired" else 1
    )
    (tmp_path / "sas").write_text(sas.replace("sig=", "sig=x") if change == "damaged" else sas)
    error = caught(other(store, key=None, sas=SecretSource(file=tmp_path / "sas")).create, "a", b"x")
    assert type(error) is StoreRefused
    assert "403" in str(error)
    told = "".join(traceback.format_exception(error)) + repr(error) + json.dumps(error.to_json())
    assert "sig" not in told.replace("signature", "")
    assert any("sig=" in path for path in hub.paths)  # it was used


@pytest.fixture
def trouble(store: AzureBlobs, hub: StackHub) -> Iterator[Callable[[AzureBlobs], list[InsituError]]]:
    """Return how to meet every kind of trouble with a store."""

    def meet(signed: AzureBlobs) -> list[InsituError]:
        met = []
        for status in (400, 401, 403, 404, 409):
            hub.fail_with = [status] * 10
            met += errors_of(signed).values()
        hub.reset()
        hub.drop_after_bytes = [1] * 9
        met.append(caught(lambda: list(signed.list())))
        hub.reset()
        met.append(caught(other(signed, account_url="http://127.0.0.1:9/insitu").stat, "a"))
        return [*met, *errors_of(other(signed, api_version="2021-02-12")).values()]

    yield meet
    hub.reset()


def test_no_error_spec_or_repr_holds_a_secret(
    store: AzureBlobs,
    emulator: Azurite,
    tmp_path: Path,
    trouble: Callable[[AzureBlobs], list[InsituError]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    sas = signature(emulator, store.container, "rwl")
    (tmp_path / "sas").write_text(sas)
    signed = other(store, key=None, sas=SecretSource(file=tmp_path / "sas"))
    secret = sas.split("sig=")[1].removesuffix("%3D")
    for one, hidden in ((signed, secret), (store, emulator.key)):
        for error in trouble(one):
            told = "".join(traceback.format_exception(error)) + repr(error) + json.dumps(error.to_json())
            assert hidden not in told
        assert hidden not in repr(one) + repr(one.settings) + one.settings.model_dump_json()
        assert hidden.encode() not in pickle.dumps(one)
        assert hidden not in caplog.text


@pytest.mark.parametrize(
    ("content", "kind", "wanted"),
    [
        ("", "key", "a secret"),
        (" \n", "sas", "a secret"),
        ("sv=1&se=2", "sas", "sig="),
        ("not base64!", "key", "base64"),
    ],
)
def test_a_secret_that_cannot_be_one_is_a_problem_of_the_settings(
    store: AzureBlobs, hub: StackHub, tmp_path: Path, content: str, kind: str, wanted: str
) -> None:
    (tmp_path / "secret").write_text(content)
    values = {"key": None, "sas": None, kind: SecretSource(file=tmp_path / "secret")}
    hub.reset()
    for error in errors_of(other(store, **values)).values():
        assert type(error) is SettingsError
        assert str(tmp_path / "secret") in str(error)
        assert wanted in str(error)
        assert not content.strip() or content not in str(error)
    assert hub.paths == []


def test_a_variable_or_file_that_is_not_there_is_named(store: AzureBlobs, tmp_path: Path) -> None:
    assert "NO_SUCH_KEY" in str(caught(other(store, key=SecretSource(env="NO_SUCH_KEY")).stat, "a"))
    missing = tmp_path / "missing"
    error = caught(other(store, key=SecretSource(file=missing)).stat, "a")
    assert type(error) is SettingsError
    assert str(missing) in str(error)


def test_a_job_opens_the_store_from_json_values(store: AzureBlobs) -> None:
    store.create("a", b"x")
    spec = {"kind": "azure-blob", "container": store.container, "store": store.settings.model_dump(mode="json")}
    assert open_blobs(json.loads(json.dumps(spec))).read("a") == b"x"
