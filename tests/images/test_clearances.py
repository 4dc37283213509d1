"""A clearance holds for the bytes that were looked at: others do not go by it, and without one nothing goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attested import Attested, tiny_image

from insitu.adapters.local.blobs import FolderBlobs
from insitu.adapters.local.images import LayoutImages
from insitu.egress import EGRESS, Door
from insitu.errors import EgressRefused, PublishFailed
from insitu.images.described import describe
from insitu.images.publish import publish_image
from insitu.images.transfer import Sent
from insitu.journal import Journal

CLEAR = {"verdict": "clear"}


@pytest.fixture
def made(tmp_path: Path) -> Attested:
    return tiny_image(tmp_path / "layout")


@pytest.fixture
def target(tmp_path: Path) -> LayoutImages:
    return LayoutImages(tmp_path / "target")


@pytest.fixture
def let_out(made: Attested, tmp_path: Path) -> Callable[..., Callable[[Sent], None]]:
    """Return what makes the door of the image; *scan* says what was found, *layers* what was tried."""
    (tmp_path / "state").mkdir()

    def opened(scan: Any = CLEAR, **changes: str) -> Callable[[Sent], None]:
        layers = [{"title": changes.get(title, title), "digest": digest} for title, digest in titled(made).items()]
        return Door(journal(tmp_path)).image(made.images, layers, scan)

    return opened


def journal(root: Path) -> Journal:
    return Journal(FolderBlobs(root / "state"), "tiny", "f" * 64)


def titled(made: Attested) -> dict[str, str]:
    """Return the digest of each layer, by its title."""
    image = describe(made.images, made.digest)
    return {title: layer.digest for title, layer in zip(image.titles, image.layers, strict=True)}


def test_what_is_cleared_goes_and_is_listed(
    made: Attested, target: LayoutImages, let_out: Callable[..., Callable[[Sent], None]], tmp_path: Path
) -> None:
    sent = publish_image(made.digest, made.images, target, ["1"], let_out()).sent
    assert target.resolve("1")
    assert [one["sha256"] for one in journal(tmp_path).entry(EGRESS)] == [one.sha256 for one in sent]


@pytest.mark.parametrize("title", ["model", "server"])
def test_other_bytes_do_not_go_by_a_clearance(
    made: Attested, target: LayoutImages, let_out: Callable[..., Callable[[Sent], None]], title: str
) -> None:
    """The layer is replaced in the moment after it was let out, by bytes of the same size."""
    layer, door = titled(made)[title], let_out()
    path = made.images.local_blob(layer)
    assert path is not None

    def replace_after(sent: Sent) -> None:
        door(sent)
        if layer.endswith(sent.sha256):
            path.write_bytes(bytes(path.stat().st_size))

    with pytest.raises(PublishFailed, match="is not what was read"):
        publish_image(made.digest, made.images, target, ["1"], replace_after)
    assert target.resolve("1") is None
    assert target.local_blob(layer) is None


@pytest.mark.parametrize(
    ("scan", "changes"),
    [({"verdict": "blocked"}, {}), (CLEAR, {"server": "something else"})],
    ids=["blocked", "unknown layer"],
)
def test_what_is_not_cleared_keeps_the_whole_image_back(
    made: Attested,
    target: LayoutImages,
    let_out: Callable[..., Callable[[Sent], None]],
    scan: Any,
    changes: dict[str, str],
) -> None:
    with pytest.raises(EgressRefused):
        publish_image(made.digest, made.images, target, ["1"], let_out(scan, **changes))
    assert target.resolve("1") is None
    assert target.resolve(made.digest) is None


def test_a_clearance_of_one_layer_is_none_for_another(
    made: Attested, target: LayoutImages, let_out: Callable[..., Callable[[Sent], None]]
) -> None:
    """What is announced under a digest that was cleared, but sent under another, is another object."""
    door, cleared = let_out(), titled(made)["server"]
    stranger = Sent("image layer", target.name, 5, "0" * 64)
    door(replace(stranger, sha256=cleared.removeprefix("sha256:")))
    with pytest.raises(EgressRefused, match="does not have"):
        door(stranger)
