"""What a run says about its image, signed by the site and attached to it before it goes anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from insitu.decisions import Kept
from insitu.egress import EGRESS, SIGNED
from insitu.images.attest import attach_statements
from insitu.images.described import describe
from insitu.images.inventory import inventory
from insitu.images.statements import bill_of_materials, decision, model_signature, provenance, residency
from insitu.journal import Journal
from insitu.residency.ledger import head
from insitu.residency.statement import residency_of
from insitu.runs import Run


def attest_image(run: Run, digest: str, allowed: Kept) -> None:
    """Attach SBOM, provenance, decision, model signature and residency statement to the image in the site's layout.

    Done again, it says the same, byte by byte, and writes nothing.

    Args:
        run: Its journal knows what training left.
        digest: Of the image.
        allowed: The decision by which it is published.

    Raises:
        ImageFailed: A layer cannot be read.
        PublishFailed: The layout lacks a part of the image, or holds other bytes.
        SettingsError: The site's key is not where its settings say.
        StorageFull: No space.
    """
    images, trained = run.site.layout(run.model.name), run.journal.entry("train")["value"]
    image = describe(images, digest)
    _settle_ledger(run.journal)
    inside = inventory(images, image.layers, run.site.settings.images.root / ".cache" / "inventories")
    statements = (
        bill_of_materials(image, inside),
        provenance(image, run.site.name, _files(trained), _batch(run)),
        decision(image, run.site.state.read(allowed.name)),
        model_signature(image, inside),
        residency(image, said_about_residency(run.journal)),
    )
    attach_statements(images, image.manifest, statements, run.site.keys.own())


def said_about_residency(journal: Journal) -> dict[str, Any]:
    """Return what is said about records in a run's image, once it is settled how much of its ledger that covers."""
    trained = journal.entry("train")["value"]
    return residency_of(trained, _files(trained), journal.entry(SIGNED) or {})


def _settle_ledger(journal: Journal) -> None:
    """Settle that the statement speaks of the egress ledger as it is now: said again later, it is the same."""
    if journal.entry(SIGNED) is None:
        entries = journal.entry(EGRESS) or []
        journal.keep(SIGNED, {"entries": len(entries), "head": head(entries)})


def _files(trained: Mapping[str, Any]) -> dict[str, str]:
    """Return what training left, by the names that it has in an image."""
    export = {"model.onnx": trained["onnx"]["sha256"]} if trained["onnx"] else {}
    return {**{f"model/{name}": digest for name, digest in trained["files"].items()}, **export}


def _batch(run: Run) -> dict[str, int]:
    return {"blobs": len(run.batch.blobs), "bytes": run.batch.size_bytes}
