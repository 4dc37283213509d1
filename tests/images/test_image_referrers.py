"""What refers to an image, tags and removal: one contract for layout, registry without the API, and ACR with it."""

from __future__ import annotations

import json
import threading
from hashlib import sha256
from pathlib import Path

import pytest
from image_helpers import blob_of, manifest_of

from insitu.adapters.local.images import LayoutImages
from insitu.errors import PublishFailed
from insitu.images.client import RegistryImages
from insitu.images.manifest import MANIFEST_TYPE, canonical, to_json
from insitu.ports import Descriptor, ImageRegistry

Manifest = tuple[Descriptor, bytes]


def image_in(images: ImageRegistry, folder: Path, words: bytes = b"an image") -> Descriptor:
    """Store an image; return its manifest's descriptor."""
    found = manifest_of(images, folder, words)
    images.put_manifest(*found)
    return found[0]


def note_on(images: ImageRegistry, folder: Path, subject: Descriptor, words: str) -> Manifest:
    """Store what a manifest that refers to *subject* is made of, and return the manifest."""
    path = folder / words
    layer, config = blob_of(path, words.encode()), blob_of(folder / "empty", b"{}", "application/vnd.oci.empty.v1+json")
    images.put_blob(layer, path)
    images.put_blob(config, folder / "empty")
    content = canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": "application/vnd.example",
            "annotations": {"words": words, "org.opencontainers.image.ref.name": "latest"},  # nobody's tag by that
            "config": to_json(config),
            "layers": [to_json(layer)],
            "subject": to_json(subject),
        }
    )
    return Descriptor(MANIFEST_TYPE, f"sha256:{sha256(content).hexdigest()}", len(content)), content


def test_what_is_attached_is_listed_in_digest_order_and_once(images: ImageRegistry, tmp_path: Path) -> None:
    subject, other = image_in(images, tmp_path), image_in(images, tmp_path, b"another")
    assert images.referrers(subject.digest) == []
    notes = [note_on(images, tmp_path, subject, words) for words in ("one", "two", "three")]
    for note in (*notes, notes[0]):
        images.attach(subject.digest, note)
    assert images.referrers(subject.digest) == sorted((note[0] for note in notes), key=lambda one: one.digest)
    assert images.referrers(other.digest) == []
    assert images.resolve(notes[1][0].digest) == notes[1]
    assert images.tags() == []


def test_what_does_not_refer_to_the_image_is_not_attached(images: ImageRegistry, tmp_path: Path) -> None:
    subject, other = image_in(images, tmp_path), image_in(images, tmp_path, b"another")
    note = note_on(images, tmp_path, other, "of another")
    with pytest.raises(PublishFailed, match="does not refer to"):
        images.attach(subject.digest, note)
    assert images.referrers(subject.digest) == images.referrers(other.digest) == []


def test_tags_are_listed_without_lists_of_referrers(images: ImageRegistry, tmp_path: Path) -> None:
    assert images.tags() == []
    found = manifest_of(images, tmp_path, b"tagged")
    for tag in ("8", "10", "latest"):
        images.tag(tag, *found)
    images.attach(found[0].digest, note_on(images, tmp_path, found[0], "one"))
    assert images.tags() == ["10", "8", "latest"]


def test_an_untagged_manifest_stays_and_other_tags_do(images: ImageRegistry, tmp_path: Path) -> None:
    found = manifest_of(images, tmp_path, b"tagged")
    for tag in ("7", "latest"):
        images.tag(tag, *found)
    images.lock("7")
    for _ in range(2):
        images.untag("7")
        assert images.tags() == ["latest"]
    assert images.resolve("7") is None
    assert images.resolve(found[0].digest) == images.resolve("latest") == found


def test_a_deleted_manifest_takes_its_tags_along_and_is_listed_no_more(images: ImageRegistry, tmp_path: Path) -> None:
    found = manifest_of(images, tmp_path, b"to go")
    images.tag("latest", *found)
    notes = [note_on(images, tmp_path, found[0], words) for words in ("one", "two")]
    for note in notes:
        images.attach(found[0].digest, note)
    for _ in range(2):
        images.delete(notes[0][0].digest)
        assert images.referrers(found[0].digest) == [notes[1][0]]
    for _ in range(2):
        images.delete(found[0].digest)
        assert images.tags() == []
        assert images.resolve(found[0].digest) is None
    assert images.resolve(notes[1][0].digest) == notes[1]


def test_a_layout_frees_what_no_other_manifest_needs(tmp_path: Path) -> None:
    images = LayoutImages(tmp_path / "layout")
    found = image_in(images, tmp_path)
    notes = [note_on(images, tmp_path, found, words) for words in ("one", "two")]
    for note in notes:
        images.attach(found.digest, note)
    images.delete(notes[0][0].digest)
    freed, kept = (json.loads(content)["layers"][0]["digest"] for _, content in notes)
    empty = json.loads(notes[0][1])["config"]["digest"]
    assert (images.has_blob(freed), images.has_blob(kept), images.has_blob(empty)) == (False, True, True)


@pytest.mark.registry
def test_writers_that_attach_at_once_lose_nothing(registry_host: str, tmp_path: Path) -> None:
    first = RegistryImages(registry_host, "contract/at-once")
    subject = image_in(first, tmp_path)
    notes = [note_on(first, tmp_path, subject, f"note {n}") for n in range(4)]
    both = threading.Barrier(len(notes))

    def attach(note: Manifest) -> None:
        mine = RegistryImages(registry_host, "contract/at-once")
        both.wait()
        while note[0] not in mine.referrers(subject.digest):
            mine.attach(subject.digest, note)

    threads = [threading.Thread(target=attach, args=(note,)) for note in notes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(first.referrers(subject.digest)) == len(notes)
