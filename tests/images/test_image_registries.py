"""One contract for a layout in a folder, a real registry and the twin's ACR, and what only a client can meet."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from image_helpers import CHUNK_BYTES, blob_of, manifest_of
from loopback import free_port

from insitu.adapters.local.images import LayoutImages
from insitu.errors import BackendUnavailable, PublishFailed, UsageError
from insitu.images.client import RegistryImages
from insitu.ports import Descriptor, ImageRegistry


@pytest.mark.parametrize("size_bytes", [1, CHUNK_BYTES - 1, CHUNK_BYTES, 5 * CHUNK_BYTES // 2])
def test_a_blob_comes_back_as_it_was_sent(images: ImageRegistry, tmp_path: Path, size_bytes: int) -> None:
    blob = blob_of(tmp_path / "blob", random.Random(size_bytes).randbytes(size_bytes))
    assert not images.has_blob(blob.digest)
    for _ in range(2):
        images.put_blob(blob, tmp_path / "blob")
        assert images.has_blob(blob.digest)
    images.fetch_blob(blob, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "blob").read_bytes()


def test_a_blob_of_other_bytes_is_refused(images: ImageRegistry, tmp_path: Path) -> None:
    blob = blob_of(tmp_path / "blob", b"what was meant, to a registry that never saw it")
    (tmp_path / "blob").write_bytes(b"x" * blob.size_bytes)
    with pytest.raises(PublishFailed, match="is not what was read"):
        images.put_blob(blob, tmp_path / "blob")
    assert not images.has_blob(blob.digest)


def test_a_blob_that_is_not_there_cannot_be_fetched(images: ImageRegistry, tmp_path: Path) -> None:
    with pytest.raises(PublishFailed):
        images.fetch_blob(Descriptor("x", f"sha256:{'0' * 64}", 1), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_tag_moves_and_the_digest_stays(images: ImageRegistry, tmp_path: Path) -> None:
    first, second = (manifest_of(images, tmp_path, words) for words in (b"one", b"two"))
    assert images.resolve("latest") is None
    assert images.resolve(first[0].digest) is None
    for found in (first, second):
        images.put_manifest(*found)
        images.tag("latest", *found)
        assert images.resolve("latest") == found
    assert images.resolve(first[0].digest) == first


def test_a_manifest_of_other_bytes_is_refused(images: ImageRegistry, tmp_path: Path) -> None:
    descriptor, content = manifest_of(images, tmp_path, b"one")
    with pytest.raises(PublishFailed, match="is not what was read"):
        images.put_manifest(descriptor, content + b" ")


def test_a_reference_names_repository_and_tag(images: ImageRegistry) -> None:
    assert images.reference("v1") == f"{images.name}:v1"
    assert images.reference("sha256:ab") == f"{images.name}@sha256:ab"


def test_many_writers_lose_no_tag(tmp_path: Path) -> None:
    images = LayoutImages(tmp_path / "layout")
    found = manifest_of(images, tmp_path, b"one")
    threads = [threading.Thread(target=images.tag, args=(f"v{n}", *found)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(images.resolve(f"v{n}") == found for n in range(20))


def test_what_is_no_digest_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(PublishFailed, match="is not a digest"):
        LayoutImages(tmp_path).has_blob("sha256:../../etc/passwd")


class Refusing(BaseHTTPRequestHandler):
    """Answers everything with one status."""

    status = 500
    body = b'{"errors": [{"code": "DENIED", "message": "a secret"}]}'
    headers_sent: tuple[tuple[str, str], ...] = ()

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.status)
        for name, value in self.headers_sent:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def client_of(server: ThreadingHTTPServer, handler: type[BaseHTTPRequestHandler]) -> RegistryImages:
    server.RequestHandlerClass = handler
    return RegistryImages(f"127.0.0.1:{server.server_port}", "flights", pauses_s=())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, PublishFailed),
        (403, PublishFailed),
        (404, PublishFailed),
        (413, PublishFailed),
        (429, BackendUnavailable),
        (500, BackendUnavailable),
        (503, BackendUnavailable),
    ],
)
def test_a_refusal_names_host_repository_and_status(
    server: ThreadingHTTPServer, status: int, error: type[Exception], tmp_path: Path
) -> None:
    client = client_of(server, type("Handler", (Refusing,), {"status": status}))
    with pytest.raises(error, match=f"(?s)127.0.0.1.*flights.*{status} DENIED") as caught:
        client.put_blob(blob_of(tmp_path / "blob", b"1"), tmp_path / "blob")
    assert "a secret" not in str(caught.value)


def test_a_registry_that_returns_other_bytes_is_noticed(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    client = client_of(server, type("Handler", (Refusing,), {"status": 200}))
    blob = blob_of(tmp_path / "blob", b"what was meant".ljust(len(Refusing.body)))
    with pytest.raises(PublishFailed, match="is not what was read"):
        client.fetch_blob(blob, tmp_path / "back")
    with pytest.raises(PublishFailed, match="other bytes"):
        client.resolve(blob.digest)


def test_an_upload_that_the_registry_forgets_is_started_again(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    class Forgetful(Refusing):
        starts = 0

        def do_POST(self) -> None:
            type(self).starts += 1
            self.status, self.headers_sent = 202, (("Location", "/v2/flights/blobs/uploads/1?state=a"),)
            self.answer()

        def do_PUT(self) -> None:
            self.status = 404 if self.starts < 3 else 201
            self.answer()

        def do_HEAD(self) -> None:
            self.status = 404
            self.answer()

    client = client_of(server, Forgetful)
    client.put_blob(blob_of(tmp_path / "blob", b"1"), tmp_path / "blob")
    assert Forgetful.starts == 3


def test_nobody_there_is_worth_a_retry() -> None:
    with pytest.raises(BackendUnavailable, match="no answer from the registry"):
        RegistryImages(f"127.0.0.1:{free_port()}", "flights").has_blob(f"sha256:{'0' * 64}")


@pytest.mark.parametrize("name", ["", "Flights", "../flights", "a//b/", "a b"])
def test_a_repository_name_is_checked_before_any_request(name: str) -> None:
    with pytest.raises(UsageError, match="not a repository name"):
        RegistryImages("127.0.0.1:1", name)
