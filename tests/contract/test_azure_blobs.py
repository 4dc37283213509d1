"""What only a blob service can do: refuse, hang up, lose an answer, go away."""

from __future__ import annotations

import os
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
from azure_helpers import calls, caught, direct, errors_of, operator, other
from azurite import Azurite
from stack_hub import NEWEST_VERSION, StackHub, stack_hub

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.errors import BackendUnavailable, BlobChanged, SettingsError, StoreRefused
from insitu.settings import AzureBlobStore, SecretSource

MB = 1_000_000


@pytest.fixture
def store(hub_settings: AzureBlobStore, new_container: Callable[[], str]) -> AzureBlobs:
    return AzureBlobs(hub_settings, new_container())


# --- what is said to the service ---


def test_every_request_names_the_version_that_the_hub_speaks(store: AzureBlobs, hub: StackHub) -> None:
    blob = store.create("a", b"x")
    store.replace("a", b"y", etag=blob.etag)
    for call in list(calls(store).values())[:4]:
        call()
    assert set(hub.requests) == {NEWEST_VERSION}
    assert hub.requests.total() >= 6


def test_connections_are_used_again_by_all_threads(store: AzureBlobs, hub: StackHub) -> None:
    store.create("a", b"x" * 1000)
    hub.reset()
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda n: store.read("a", offset=n, length=10), range(100)))
        list(pool.map(lambda n: store.create(f"b{n}", b"x"), range(20)))
    assert read == [b"x" * 10] * 100
    assert hub.requests.total() == 120
    assert hub.connections <= 8


def test_a_range_costs_one_request_and_its_own_bytes(store: AzureBlobs, hub: StackHub) -> None:
    etag = store.create("a", bytes(range(250)) * 40_000).etag
    hub.reset()
    assert len(store.read("a", etag=etag, offset=MB, length=5 * MB)) == 5 * MB
    assert hub.sent_bytes.total() == 5 * MB
    assert hub.requests.total() == 1


def test_a_compressed_blob_is_read_as_it_lies_there(store: AzureBlobs, emulator: Azurite) -> None:
    import gzip

    from azure.storage.blob import ContentSettings

    data = gzip.compress(b"a,b\n1,2\n" * 1000)
    settings = ContentSettings(content_encoding="gzip", content_type="text/csv")
    with operator(emulator, store.container) as container:
        container.upload_blob("a.csv.gz", data, content_settings=settings)
    assert store.read("a.csv.gz") == data


def test_a_listing_of_many_pages_is_complete_and_in_order(store: AzureBlobs, hub: StackHub) -> None:
    names = sorted(f"part={n % 3}/{n:02d} ä&<é>\x27.parquet" for n in range(20))
    made = {name: store.create(name, b"x") for name in names}
    hub.reset()
    in_pages = replace(store, page_size=6)
    assert list(in_pages.list()) == [made[name] for name in names]
    assert len(hub.paths) == 4
    assert list(in_pages.names("part=1/")) == [name for name in names if name.startswith("part=1/")]


def test_names_that_are_no_paths_are_no_blobs(store: AzureBlobs, emulator: Azurite) -> None:
    store.create("a", b"x")
    with operator(emulator, store.container) as container:
        for name in (".hidden", "a//b", "folder/", "a/.b/c"):
            container.upload_blob(name, b"x")
    assert [blob.name for blob in store.list()] == list(store.names()) == ["a"]


def test_a_name_that_breaks_the_listing_leaves_other_prefixes_alone(store: AzureBlobs, emulator: Azurite) -> None:
    store.create("month=1/a", b"x")
    with operator(emulator, store.container) as container:
        container.upload_blob("month=2/bell\x07", b"x")
    with pytest.raises(BackendUnavailable, match=rf"{store.container}(.|\n)*control character"):
        list(store.list())
    assert list(store.names("month=1/")) == ["month=1/a"]


# --- refusals ---


def test_a_container_that_is_gone_is_named_and_is_not_empty(store: AzureBlobs, emulator: Azurite) -> None:
    with operator(emulator, store.container) as container:
        container.delete_container()
    for error in errors_of(store).values():
        assert type(error) is StoreRefused
        assert f"no container {store.container}" in str(error)


def test_a_wrong_key_is_refused_by_name(store: AzureBlobs, tmp_path: Path) -> None:
    (tmp_path / "wrong.key").write_text(b64encode(b"another key").decode())
    for error in errors_of(other(store, key=SecretSource(file=tmp_path / "wrong.key"))).values():
        assert type(error) is StoreRefused
        assert store.container in str(error)
        assert "403" in str(error)


def test_a_clock_that_is_off_is_said_to_be_off(store: AzureBlobs, hub: StackHub, tmp_path: Path) -> None:
    hub.clock_skew_s = -3600
    hub.fail_with = [403]
    with pytest.raises(StoreRefused, match=r"clocks differ(.|\n)*\+3[56]\d\d s"):
        store.stat("a")


def test_a_version_that_the_hub_does_not_speak_is_named(store: AzureBlobs, hub: StackHub) -> None:
    for error in errors_of(other(store, api_version="2021-02-12")).values():
        assert type(error) is StoreRefused
        assert "2021-02-12" in str(error)
        assert "api_version" in str(error)
    assert set(hub.requests) == {"2021-02-12"}


def test_a_version_that_the_library_does_not_know_is_a_problem_of_the_settings(store: AzureBlobs) -> None:
    with pytest.raises(SettingsError, match="2019-07-08"):
        other(store, api_version="2019-07-08").stat("a")


# --- a service in trouble ---


def test_a_service_that_is_away_gives_no_answer(store: AzureBlobs) -> None:
    with pytest.raises(BackendUnavailable, match=r"127\.0\.0\.1:9"):
        other(store, account_url="http://127.0.0.1:9/insitu").stat("a")


def test_a_service_that_stumbles_is_asked_again_at_the_same_address(store: AzureBlobs, hub: StackHub) -> None:
    store.create("a", b"x")
    hub.reset()
    hub.fail_with = [500, 503]
    assert store.read("a") == b"x"
    assert len(hub.paths) == 3


def test_a_service_that_stays_in_trouble_is_unavailable(store: AzureBlobs, hub: StackHub) -> None:
    hub.fail_with = [503] * 10
    with pytest.raises(BackendUnavailable, match="503"):
        list(store.list())


def test_a_page_of_somebody_else_is_no_answer_and_no_empty_container(store: AzureBlobs, hub: StackHub) -> None:
    etag = store.create("a", b"x").etag
    hub.page = b"<html><body>Sign in to the guest network \xe9</body></html>"
    errors = [*errors_of(store).values(), caught(lambda: store.read("a", etag=etag))]
    hub.reset()
    for error in errors:
        assert type(error) is BackendUnavailable
        assert "as a blob service does" in error.what
        assert "account_url" in str(error.next_action)
        assert "guest" not in str(error)


def test_a_read_goes_on_where_the_connection_broke(store: AzureBlobs, hub: StackHub) -> None:
    data = os.urandom(3 * MB)
    blob = store.create("a", data)
    for arguments, wanted in (({}, data), ({"etag": blob.etag, "offset": 5, "length": 2 * MB}, data[5 : 5 + 2 * MB])):
        hub.reset()
        hub.drop_after_bytes = [MB, 10, 0]
        assert store.read("a", **arguments) == wanted
        assert hub.sent_bytes.total() == len(wanted)
        assert hub.requests.total() == 4


def test_a_read_that_broke_never_goes_on_with_another_version(
    store: AzureBlobs, hub: StackHub, emulator: Azurite
) -> None:
    old = store.create("a", b"a" * MB)
    hub.drop_after_bytes = [1000]
    hub.when_dropped = lambda: AzureBlobs(direct(store, emulator), store.container).replace("a", b"b", etag=old.etag)
    with pytest.raises(BlobChanged, match="blob a"):
        store.read("a")


def test_a_connection_that_always_breaks_is_given_up(store: AzureBlobs, hub: StackHub) -> None:
    store.create("a", b"x" * 100)
    hub.drop_after_bytes = [1] * 50
    with pytest.raises(BackendUnavailable, match="blob a"):
        store.read("a")
    with pytest.raises(BackendUnavailable, match=store.container):
        list(store.list())


def test_a_listing_whose_connection_breaks_is_asked_again(store: AzureBlobs, hub: StackHub) -> None:
    for name in ("a", "b", "c"):
        store.create(name, b"x")
    hub.drop_after_bytes = [600]
    assert list(store.names()) == ["a", "b", "c"]
    assert hub.drop_after_bytes == []


def test_a_write_whose_answer_was_lost_is_known_as_ones_own(store: AzureBlobs, hub: StackHub) -> None:
    hub.lose_answers["PUT"] = 1
    made = store.create("a", b"one")
    hub.lose_answers["PUT"] = 1
    new = store.replace("a", b"two", etag=made.etag)
    assert hub.lose_answers["PUT"] == 0
    assert store.read("a", etag=new.etag) == b"two"
    assert new == store.stat("a")


def test_an_address_with_a_certificate_of_ones_own_authority(
    store: AzureBlobs, emulator: Azurite, tmp_path: Path
) -> None:
    store.create("a", b"x")
    certificate, key = tmp_path / "hub.pem", tmp_path / "hub.key"
    subject = ["-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with stack_hub(emulator.url, tls) as encrypted:
        assert other(store, account_url=encrypted.url, ca_bundle=certificate).read("a") == b"x"
        with pytest.raises(StoreRefused, match="certificate") as caught:
            other(store, account_url=encrypted.url).read("a")
    assert "ca_bundle" in str(caught.value)


def test_a_forked_process_has_connections_of_its_own(store: AzureBlobs) -> None:
    store.create("a", b"x" * 1000)
    with get_context("fork").Pool(2) as pool:
        reading = pool.map_async(partial(_read, store), range(50))
        assert [_read(store, n) for n in range(50)] == reading.get(60) == [b"x" * 100] * 50


def _read(store: AzureBlobs, number: int) -> bytes:
    return store.read("a", offset=number, length=100)
