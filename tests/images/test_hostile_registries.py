"""Registries that lie, break off, refuse or send in circles: each a named error, and no tag is moved."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from attested import SOFTWARE, tiny_image
from image_helpers import layout_with
from registry_front import Front, Handler, registry_front

from insitu.adapters.local.images import LayoutImages
from insitu.errors import BackendUnavailable, InsituError, PublishFailed
from insitu.images.client import RegistryImages
from insitu.images.manifest import parts_of
from insitu.images.publish import publish_image

pytestmark = pytest.mark.registry
_CHUNK_BYTES = 100_000
_WRONG = f"sha256:{'5' * 64}"


@pytest.fixture
def front(registry_host: str) -> Iterator[Front]:
    with registry_front(registry_host) as server:
        yield server


@dataclass(frozen=True)
class Bad:
    """What a registry does to requests that fit."""

    pattern: str
    act: Callable[[Handler], None]
    times: int = 1_000_000

    def start(self, front: Front) -> None:
        """Let *front* do that from now on."""
        left = self.times

        def misbehave(handler: Handler) -> bool:
            nonlocal left
            fits = left > 0 and re.search(self.pattern, f"{handler.command} {handler.path}") is not None
            left -= fits
            if fits:
                self.act(handler)
            return fits

        front.misbehave = misbehave


def say(status: int, **headers: str) -> Callable[[Handler], None]:
    """Answer so, when the request has been read."""

    def act(handler: Handler) -> None:
        handler.body()
        handler.say(status, {name.replace("_", "-"): value for name, value in headers.items()})

    return act


def have(handler: Handler) -> None:
    """Claim to have the blob, whichever way it is asked for."""
    say(201 if handler.command == "POST" else 206)(handler)


def tell_another_digest(handler: Handler) -> None:
    status, headers, content = handler.ask()
    handler.say(status, {**headers, "Docker-Content-Digest": _WRONG}, content)


def cut(handler: Handler) -> None:
    """Promise everything, send half, and end the connection."""
    status, headers, content = handler.ask()
    handler.send_response(status)
    handler.send_header("Content-Type", headers["Content-Type"])
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def spoil(handler: Handler) -> None:
    status, headers, content = handler.ask()
    handler.say(status, headers, content[:-1] + b" ")


def turn(handler: Handler) -> None:
    handler.body()
    handler.say(307, {"Location": handler.path})


def trickle(handler: Handler) -> None:
    """Send a byte each 20 ms, until the client has had enough."""
    status, headers, content = handler.ask()
    handler.send_response(status)
    handler.send_header("Content-Type", headers["Content-Type"])
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for value in content:
        handler.wfile.write(bytes([value]))
        time.sleep(0.02)


def pour(handler: Handler) -> None:
    """Send more than any manifest has."""
    handler.say(200, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}, bytes(5 << 20))


BAD = {
    "another digest for a manifest": (Bad("PUT .*manifests", tell_another_digest), PublishFailed, "other bytes"),
    "a read-back that is cut": (Bad("GET .*manifests/sha256", cut), BackendUnavailable, "no answer"),
    "a read-back of other bytes": (Bad("GET .*manifests/sha256", spoil), PublishFailed, "other bytes"),
    "a manifest without end": (Bad("GET .*manifests/sha256", pour), PublishFailed, "more than was asked for"),
    "a look in circles": (Bad("GET .*manifests/7", turn), PublishFailed, "in circles"),
    "a look for a blob in circles": (Bad("(POST .*mount=|GET .*blobs)", turn), PublishFailed, "in circles"),
    "an upload in circles": (Bad("PATCH ", turn), PublishFailed, "in circles"),
    "a login in mid-upload": (Bad("PATCH ", say(401)), PublishFailed, "(?s)refuses PATCH.*401"),
    "a limit": (Bad("PATCH ", say(413)), PublishFailed, "(?s)refuses PATCH.*413.*raise its limit"),
    "an upload nowhere": (Bad("POST ", say(202)), PublishFailed, "without saying where"),
    "an upload that is refused at its end": (Bad("PUT .*uploads", say(400)), PublishFailed, "(?s)refuses PUT.*400"),
    "a blob that is said to be there": (
        Bad("(POST .*mount=|GET .*blobs/sha256)", have),
        PublishFailed,
        "(?s)refuses PUT.*UNKNOWN",
    ),
    "a manifest that is taken and gone": (Bad("GET .*manifests/sha256", say(404)), PublishFailed, "does not have"),
    "an upload of which it has more": (
        Bad("PATCH ", say(202, Location="/v2/f/blobs/uploads/1", Range="0-999999999")),
        BackendUnavailable,
        "keeps forgetting",
    ),
    "an upload that never grows": (
        Bad("PATCH ", say(202, Location="/v2/f/blobs/uploads/1", Range="0-0")),
        BackendUnavailable,
        "keeps forgetting",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_a_bad_registry_does_is_named_and_no_tag_moves(
    front: Front, registry_host: str, tmp_path: Path, what: str
) -> None:
    bad, error, words = BAD[what]
    layout, digest = layout_with(tmp_path, what, 5 * _CHUNK_BYTES // 2)
    repository = "bad/" + what.replace(" ", "-")
    bad.start(front)
    with pytest.raises(error, match=words) as caught:
        publish_image(digest, layout, RegistryImages(front.host, repository, _CHUNK_BYTES, pauses_s=()), ["7"])
    assert isinstance(caught.value, InsituError)
    assert RegistryImages(registry_host, repository).tags() == []


GONE = {
    "its own": (Bad("POST .*mount=", have), ()),
    "that of a repository beside": (Bad("POST .*mount=", have), ("bad/sister", "bad/brother")),
    "not even asked for": (Bad("POST .*mount=", say(503)), ()),
    "asked for too early": (Bad("PUT .*uploads", say(400), times=1), ()),
}


@pytest.mark.parametrize("what", GONE)
def test_a_blob_that_a_registry_says_to_have_and_does_not_give_is_sent(front: Front, tmp_path: Path, what: str) -> None:
    bad, others = GONE[what]
    layout, digest = layout_with(tmp_path, f"gone {what}", _CHUNK_BYTES)
    bad.start(front)
    target = RegistryImages(front.host, f"bad/gone-{what.replace(' ', '-')}", beside=lambda _: others)
    sent = publish_image(digest, layout, target, ["7"], at_once=1).sent
    assert [one.what for one in sent] == ["image layer", "image configuration", "image manifest"]
    assert target.resolve("7") == layout.resolve(digest)


def test_a_statement_that_a_registry_has_lost_is_sent_though_it_would_take_the_manifest_without(
    front: Front, tmp_path: Path
) -> None:
    first = tiny_image(tmp_path / "layout")
    target = RegistryImages(front.host, "bad/lost-statement")
    publish_image(first.digest, first.images, target, ["latest"])
    second = tiny_image(tmp_path / "layout", version="2")
    manifest = first.images.resolve(second.attached[SOFTWARE][0])
    assert manifest
    lost = parts_of(manifest[1])[1][0].digest
    Bad(f"GET .*blobs/{lost}", say(404)).start(front)
    sent = publish_image(second.digest, second.images, target, ["latest"]).sent
    assert lost.removeprefix("sha256:") in {one.sha256 for one in sent}


@pytest.mark.parametrize(("act", "words"), [(cut, "no answer"), (trickle, "too slowly")])
def test_a_blob_that_does_not_come_is_not_there(
    front: Front, registry_host: str, tmp_path: Path, act: Callable[[Handler], None], words: str
) -> None:
    layout, digest = layout_with(tmp_path, "one", _CHUNK_BYTES)
    publish_image(digest, layout, RegistryImages(registry_host, "bad/pulled"), ["7"])
    Bad("GET .*blobs/sha256", act).start(front)
    back = LayoutImages(tmp_path / "back")
    with pytest.raises(BackendUnavailable, match=words):
        publish_image(digest, RegistryImages(front.host, "bad/pulled", grace_s=0.01), back, ["7"])
    assert back.tags() == []
    assert back.resolve(digest) is None


def test_no_login_goes_where_blobs_are_kept(front: Front, registry_host: str, tmp_path: Path) -> None:
    class Login:
        def authorization(self, *_: object) -> str:
            return "Bearer a-secret"

    layout, digest = layout_with(tmp_path, "kept elsewhere", _CHUNK_BYTES)
    publish_image(digest, layout, RegistryImages(registry_host, "bad/elsewhere"), ["7"])
    logins: list[tuple[str, str | None]] = []
    with registry_front(registry_host) as elsewhere:

        def note(handler: Handler) -> bool:
            logins.append((handler.command, handler.headers.get("Authorization")))
            return False

        elsewhere.misbehave = note
        Bad(
            "GET .*blobs/sha256",
            lambda handler: handler.say(307, {"Location": f"http://localhost:{elsewhere.server_port}{handler.path}"}),
        ).start(front)
        back = LayoutImages(tmp_path / "back")
        publish_image(digest, RegistryImages(front.host, "bad/elsewhere", login=Login()), back, ["7"])
    assert logins == [("GET", None)] * 2
    assert back.resolve("7") == layout.resolve(digest)


def test_a_part_that_a_tagged_image_has_lost_is_sent_again(front: Front, registry_host: str, tmp_path: Path) -> None:
    first, one = layout_with(tmp_path, "one", _CHUNK_BYTES)
    target = RegistryImages(front.host, "bad/lost", _CHUNK_BYTES, pauses_s=())
    publish_image(one, first, target, ["latest"])
    refused = b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}'

    def refuse(handler: Handler) -> None:
        handler.body()
        handler.say(400, {}, refused)

    second, two = layout_with(tmp_path, "two", _CHUNK_BYTES, layer_of="one")
    looked = len(front.asked)
    Bad("PUT .*manifests/sha256", refuse, times=1).start(front)
    with pytest.raises(PublishFailed, match="MANIFEST_BLOB_UNKNOWN"):  # all of it is there after all
        publish_image(two, second, target, ["latest"])
    assert any(line.startswith("GET /v2/bad/lost/blobs/") for line in front.asked[looked:])
    publish_image(two, second, target, ["latest"])
    assert target.resolve("latest") == second.resolve(two)
