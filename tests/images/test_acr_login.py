"""Azure Container Registry before a real registry: who signs in, for how long, and whose tags are locked."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from acr_front import ENTRA_TOKEN, TENANT, AcrFront, acr_front
from azure.core.credentials import AccessToken
from image_helpers import layout_with
from loopback import free_port

from insitu.adapters.azure.acr import SCOPE, AcrImages, AcrLogin
from insitu.errors import AccessRefused, BackendUnavailable, PublishFailed
from insitu.images.client import RegistryImages
from insitu.images.connection import open_pool
from insitu.images.login import Challenge, challenge_of
from insitu.images.publish import publish_image

pytestmark = pytest.mark.registry
_CHUNK_BYTES = 100_000


@pytest.fixture
def front(registry_host: str) -> Iterator[AcrFront]:
    with acr_front(registry_host) as server:
        yield server


class Tokens:
    """An identity that has these tokens, one after the other."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)

    def get_token(self, *scopes: str) -> AccessToken:
        assert scopes == (SCOPE,)
        return AccessToken(self.tokens[0], 2**31)

    def forget(self) -> None:
        self.tokens = self.tokens[1:] or self.tokens


def images_of(front: AcrFront, tmp_path: Path, *tokens: str, tenant: str = TENANT) -> AcrImages:
    login = AcrLogin(front.host, tenant, Tokens(*(tokens or (ENTRA_TOKEN,))))
    return AcrImages(front.host, f"acr/{tmp_path.name.strip('_0123456789')}", _CHUNK_BYTES, login)


@pytest.fixture
def images(front: AcrFront, tmp_path: Path) -> AcrImages:
    return images_of(front, tmp_path)


def test_an_image_is_published_with_one_exchange_and_its_tag_is_locked(
    front: AcrFront, images: AcrImages, tmp_path: Path
) -> None:
    layout, digest = layout_with(tmp_path, "one", 3 * _CHUNK_BYTES)
    publication = publish_image(digest, layout, images, ["7", "latest"])
    assert publication.reference == f"{images.name}:7"
    assert front.locked == {f"{images.repository}:7"}
    assert front.asked.count("POST /oauth2/exchange") == 1
    assert front.asked.count("POST /oauth2/token") == 2, "one for the repository's blobs, one for its tags"


def test_a_locked_tag_is_left_alone_and_latest_moves(front: AcrFront, images: AcrImages, tmp_path: Path) -> None:
    first, one = layout_with(tmp_path, "one")
    second, two = layout_with(tmp_path, "two")
    publish_image(one, first, images, ["7", "latest"])
    assert publish_image(one, first, images, ["7", "latest"]).sent == ()
    publish_image(two, second, images, ["8", "latest"])
    with pytest.raises(PublishFailed, match="names another image already"):
        publish_image(two, second, images, ["7"])
    latest = images.resolve("latest")
    assert latest is not None
    assert latest[0].digest == two


@pytest.mark.parametrize("refresh", [False, True], ids=["access token", "refresh token, too"])
def test_a_token_that_runs_out_in_the_middle_of_a_push_is_renewed(
    front: AcrFront, images: AcrImages, tmp_path: Path, refresh: bool
) -> None:
    layout, digest = layout_with(tmp_path, "one", 5 * _CHUNK_BYTES)
    assert images.resolve("latest") is None
    front.forget(refresh=refresh)
    front.uses = 3  # and again after every third request
    publish_image(digest, layout, images, ["7"], at_once=1)  # else one request ends the token of another
    assert front.asked.count("POST /oauth2/exchange") == 1 + refresh
    assert images.resolve(digest) is not None


def test_a_token_is_renewed_before_it_runs_out(front: AcrFront, images: AcrImages) -> None:
    front.life_s = 30  # less than a large request may take
    for _ in range(2):
        assert not images.has_blob(f"sha256:{'0' * 64}")
    assert front.asked.count("POST /oauth2/token") == 2
    assert front.asked.count("GET /v2/" + images.repository + "/blobs/sha256:" + "0" * 64) == 2


def test_an_upload_goes_on_at_the_same_address_spelled_otherwise(front: AcrFront, tmp_path: Path) -> None:
    front.host = front.host.replace("127.0.0.1", "localhost")
    front.shown = front.host.upper()
    images = images_of(front, tmp_path)
    layout, digest = layout_with(tmp_path, "one", 3 * _CHUNK_BYTES)
    publish_image(digest, layout, images, ["7"])
    assert images.resolve(digest) is not None


def test_a_registry_says_by_itself_how_it_is_called_and_where_its_tokens_are(
    front: AcrFront, images: AcrImages
) -> None:
    front.service, front.oauth = "registry.westeurope.geo", "/sign/in/"
    assert images.resolve("latest") is None
    assert "POST /sign/in/exchange" in front.asked


def test_no_token_goes_where_a_challenge_of_the_registry_points_to(front: AcrFront, images: AcrImages) -> None:
    with acr_front(front.registry) as other:
        there, other.service, front.host = front.host, front.service, other.host
        assert images.resolve("latest") is None
        assert other.asked == []
    assert f"http://{there}" not in front.asked


def test_a_registry_that_is_in_trouble_for_a_moment_is_asked_again(front: AcrFront, images: AcrImages) -> None:
    front.fail = {"/oauth2/exchange": [503], "/oauth2/token": [429, 503], "/v2/": [429, 503]}
    assert not images.has_blob(f"sha256:{'0' * 64}")


def test_who_is_nobody_there_gets_an_error_without_the_token(front: AcrFront, tmp_path: Path) -> None:
    for images in (images_of(front, tmp_path, "a-stolen-token"), images_of(front, tmp_path, tenant="other")):
        with pytest.raises(AccessRefused, match="refuses who insitu is") as caught:
            images.resolve("latest")
        assert "token" not in str(caught.value).replace("a token", "")


def test_a_token_of_entra_that_was_revoked_is_asked_for_anew(front: AcrFront, tmp_path: Path) -> None:
    assert images_of(front, tmp_path, "a-revoked-token", ENTRA_TOKEN).resolve("latest") is None


def test_who_may_not_push_is_told_so_by_the_checks(front: AcrFront, images: AcrImages) -> None:
    assert [check.ok for check in images.checks()] == [True, True]
    assert front.asked[-1].startswith("DELETE ")
    front.forget()
    front.actions = {"pull", "push"}
    assert images.checks()[1].ok, "an upload that cannot be ended ends by itself"
    front.forget()
    front.actions = {"pull"}
    login, push = images.checks()
    assert login.ok
    assert not push.ok
    assert "401" in push.found
    assert push.next_action


def test_a_lock_that_is_refused_is_no_success(front: AcrFront, images: AcrImages, tmp_path: Path) -> None:
    front.actions = {"pull", "push"}
    layout, digest = layout_with(tmp_path, "one")
    with pytest.raises(PublishFailed, match="refuses PATCH"):
        publish_image(digest, layout, images, ["7"])


def test_nobody_at_the_login_server_is_worth_a_retry() -> None:
    host = f"127.0.0.1:{free_port()}"
    images = AcrImages(host, "flights", login=AcrLogin(host, TENANT, Tokens(ENTRA_TOKEN)))
    with pytest.raises(BackendUnavailable, match="signs nobody in"):
        images.resolve("latest")
    (login,) = images.checks()
    assert not login.ok


def test_a_proxy_that_wants_a_login_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://some%40body:pass@proxy.example:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    wanted = b64encode(b"some@body:pass").decode()
    assert open_pool("insitu.azurecr.io").proxy_headers == {"proxy-authorization": f"Basic {wanted}"}
    assert not open_pool("127.0.0.1:5000").proxy


def test_a_registry_that_wants_a_login_says_how(front: AcrFront) -> None:
    with pytest.raises(PublishFailed, match="registry_login"):
        RegistryImages(front.host, "flights").resolve("latest")


def test_no_secret_is_in_a_representation(front: AcrFront, images: AcrImages) -> None:
    images.resolve("latest")
    shown = repr((images, images.login))
    assert not any(token in shown for token in [ENTRA_TOKEN, *front.refresh_tokens, *front.access_tokens])


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (
            'Bearer realm="https://a.azurecr.io/oauth2/token",service="a.azurecr.io",scope="repository:f/x:pull,push"',
            Challenge("a.azurecr.io", "repository:f/x:pull,push", "https://a.azurecr.io/oauth2/token"),
        ),
        ('bearer realm="https://a/t", service=a , error="invalid_token"', Challenge("a", realm="https://a/t")),
        ('Basic realm="a"', None),
        ("", None),
        (None, None),
    ],
)
def test_a_challenge_is_read_as_registries_write_it(header: str | None, challenge: Challenge | None) -> None:
    assert challenge_of(header) == challenge
