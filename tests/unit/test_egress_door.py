"""The one door: what a run hands over is looked at, listed, and only then let out; what nobody knows stays."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from insitu.adapters.local.blobs import FolderBlobs
from insitu.adapters.local.images import LayoutImages
from insitu.egress import EGRESS, Door
from insitu.errors import EgressRefused, PublishFailed
from insitu.images.transfer import Sent
from insitu.journal import Journal
from insitu.ports import Descriptor
from insitu.residency.ledger import require_whole

CLEAR = {"verdict": "clear"}
ROW = "Jane Doe, 1931-04-02, E11.9"


@pytest.fixture
def door(tmp_path: Path) -> Door:
    (tmp_path / "state").mkdir()
    return Door(Journal(FolderBlobs(tmp_path / "state"), "flights", "f" * 64))


@pytest.fixture
def images(tmp_path: Path) -> LayoutImages:
    return LayoutImages(tmp_path / "images")


def ledger(door: Door) -> list[dict[str, Any]]:
    return list(door.journal.entry(EGRESS) or [])


def stored(images: LayoutImages, what: str, content: bytes, tmp_path: Path) -> Sent:
    descriptor = Descriptor("any", f"sha256:{sha256(content).hexdigest()}", len(content))
    (tmp_path / "blob").write_bytes(content)
    images.put_blob(descriptor, tmp_path / "blob")
    return Sent(what, "registry", len(content), descriptor.digest.removeprefix("sha256:"))


def config(**more: Any) -> dict[str, Any]:
    facts = json.dumps({"model": "flights", "version": "3", **more.pop("facts", {})})
    labels = {"io.insitu.model": "flights", "maintainer": "who made the base", **more.pop("labels", {})}
    return {"config": {"Labels": labels, "Env": ["PATH=/bin", f"INSITU_METADATA={facts}"]}, **more}


def bundle(kind: str) -> dict[str, Any]:
    payload = base64.b64encode(json.dumps({"predicateType": kind}).encode()).decode()
    return {"dsseEnvelope": {"payload": payload}}


def test_words_are_listed_before_they_go_and_once(door: Door) -> None:
    for _ in range(2):
        door.words("run tags", "workspace", {"insitu.verdict": "promote", "metric.roc_auc": "0.61"})
    (entry,) = ledger(door)
    assert (entry["what"], entry["destination"], entry["clearance"]) == ("run tags", "workspace", "words on the list")
    require_whole(ledger(door))


def test_words_that_are_on_no_list_are_neither_listed_nor_let_out(door: Door) -> None:
    with pytest.raises(EgressRefused) as refused:
        door.words("run tags", "workspace", {"insitu.note": ROW})
    assert ROW not in refused.value.render()
    assert ledger(door) == []


@pytest.mark.parametrize(("verdict", "told"), [("clear", "no record"), ("warned", "within"), (None, "not scanned")])
def test_a_file_goes_by_what_the_scan_said(door: Door, verdict: str | None, told: str) -> None:
    door.file(Sent("model file MLmodel", "registry", 5, "a" * 64), verdict and {"verdict": verdict})
    assert told in ledger(door)[0]["clearance"]


def test_a_file_that_the_scan_blocks_stays(door: Door) -> None:
    with pytest.raises(EgressRefused, match="blocked"):
        door.file(Sent("model file MLmodel", "registry", 5, "a" * 64), {"verdict": "blocked"})
    assert ledger(door) == []


def test_an_image_goes_part_by_part(door: Door, images: LayoutImages, tmp_path: Path) -> None:
    titles = {"a": "base 1", "b": "environment", "c": "server", "d": "model"}
    layers = [{"digest": f"sha256:{letter * 64}", "title": title} for letter, title in titles.items()]
    let_out = door.image(images, layers, CLEAR)
    for letter in titles:
        let_out(Sent("image layer", "registry", 9, letter * 64))
    documents = {
        "image configuration": config(),
        "image manifest": {"annotations": {"io.insitu.version": "3", "org.opencontainers.image.version": "3"}},
        "attestation layer": bundle("https://slsa.dev/provenance/v1"),
        "attestation configuration": {},
        "attestation manifest": {"annotations": {"dev.sigstore.bundle.predicateType": "urn:insitu:decision:v1"}},
    }
    for what, document in documents.items():
        let_out(stored(images, what, json.dumps(document).encode(), tmp_path))
    told = [(entry["what"], entry["clearance"]) for entry in ledger(door)]
    assert told[3] == ("image layer", "scanned: no record in it")
    assert told[0][1] == "base by digest"
    assert len(told) == 9
    require_whole(ledger(door))


@pytest.mark.parametrize(
    ("what", "document"),
    [
        ("image configuration", config(labels={"io.insitu.note": ROW})),
        ("image configuration", config(labels={"io.insitu.model": ROW})),
        ("image configuration", config(facts={"first_row": ROW})),
        ("image manifest", {"annotations": {"org.opencontainers.image.description": ROW}}),
        ("attestation layer", bundle("https://example.org/rows")),
        ("attestation layer", {"rows": [ROW]}),
        ("attestation layer", bundle("https://slsa.dev/provenance/v1") | {"rows": [ROW]}),
        ("attestation layer", {"annotations": {"dev.sigstore.bundle.predicateType": "urn:insitu:decision:v1"}}),
        ("attestation layer", {}),
        ("attestation manifest", {"annotations": {"rows": ROW}}),
        ("image manifest", [ROW]),
    ],
)
def test_a_document_that_says_more_stays(
    door: Door, images: LayoutImages, tmp_path: Path, what: str, document: Any
) -> None:
    with pytest.raises(EgressRefused) as refused:
        door.image(images, [], CLEAR)(stored(images, what, json.dumps(document).encode(), tmp_path))
    assert ROW not in refused.value.render()
    assert ledger(door) == []


@pytest.mark.parametrize(
    ("title", "verdict"), [("model", "blocked"), ("model", "waived"), ("rows", "clear"), ("", "clear")]
)
def test_a_layer_that_nobody_knows_or_cleared_stays(door: Door, images: LayoutImages, title: str, verdict: str) -> None:
    layers = [{"digest": f"sha256:{'a' * 64}", "title": title}] if title else []
    with pytest.raises(EgressRefused):
        door.image(images, layers, {"verdict": verdict})(Sent("image layer", "registry", 9, "a" * 64))


def test_what_is_looked_at_is_what_its_digest_names(door: Door, images: LayoutImages, tmp_path: Path) -> None:
    sent = stored(images, "image configuration", json.dumps(config()).encode(), tmp_path)
    blob = images.local_blob(f"sha256:{sent.sha256}")
    assert blob
    blob.write_bytes(blob.read_bytes().replace(b"flights", b"Jane Do"))
    with pytest.raises(PublishFailed):
        door.image(images, [], CLEAR)(sent)
    assert ledger(door) == []
