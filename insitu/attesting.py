"""What a run says about its image, signed by the site and attached to it before it goes anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from insitu.decisions import Kept
from insitu.egress import EGRESS, SIGNED
from insitu.images.attest import attach_statements
from insitu.images.bills import bill_of_materials, bill_of_software, software_layers
from insitu.images.described import describe
from insitu.images.inventory import inventory
from insitu.images.statements import decision, model_signature, provenance, residency
from insitu.journal import Journal
from insitu.residency.ledger import head
from insitu.residency.names import outward
from insitu.residency.statement import predicate_of, residency_of
from insitu.runs import Run
from insitu.waivers import WAIVED

NAMES = "blob-names"
"""The journal's name of how the residency statement names the blobs."""


def attest_image(run: Run, digest: str, allowed: Kept) -> None:
    """Attach SBOM, provenance, decision, model signature and residency statement to the image in the site's layout.

    Done again, it says the same, byte by byte, and writes nothing.

    Args:
        run: Its journal knows what training left.
        digest: Of the image.
        allowed: The decision by which it is published.

    Raises:
        ImageFailed: A layer cannot be read.
        LeakFound: What was waived is not waived any more.
        PublishFailed: The layout lacks a part of the image, or holds other bytes.
        SettingsError: The site's key is not where its settings say.
        StorageFull: No space.
    """
    images, trained = run.site.layout(run.model.name), run.journal.entry("train")["value"]
    image = describe(images, digest)
    _settle_ledger(run.journal)
    _settle_waivers(run)
    _settle_names(run)
    notes = run.site.settings.images.root / ".cache" / "inventories"
    software = inventory(images, software_layers(image), notes)
    inside = software.below(inventory(images, image.layers[-1:], notes))
    statements = (
        bill_of_software(image, software),
        bill_of_materials(image, inside),
        provenance(image, run.site.name, _files(trained), _batch(run)),
        decision(image, run.site.state.read(allowed.name)),
        model_signature(image, inside),
        residency(image, said_about_residency(run.journal)),
    )
    attach_statements(images, image.manifest, filter(None, statements), run.site.keys.own())


def said_about_residency(journal: Journal) -> dict[str, Any]:
    """Return what is said about records in a run's image, once it is settled how much of its ledger that covers."""
    trained = journal.entry("train")["value"]
    told = {**trained, "residency": residency_of(trained, journal.entry(WAIVED))}
    return predicate_of(told, _files(trained), journal.entry(SIGNED) or {}, journal.entry(NAMES) or ())


def _settle_ledger(journal: Journal) -> None:
    """Settle that the statement speaks of the egress ledger as it is now: said again later, it is the same."""
    if journal.entry(SIGNED) is None:
        entries = journal.entry(EGRESS) or []
        journal.keep(SIGNED, {"entries": len(entries), "head": head(entries)})


def _settle_waivers(run: Run) -> None:
    """Settle by which waivers the model leaves: said again later, by whichever it may then, it is the same.

    Raises:
        LeakFound: Something is not waived any more.
    """
    scan, kept = run.journal.entry("train")["value"].get("residency") or {}, run.journal.entry(WAIVED)
    if waived := kept or scan.get("waived"):
        settled = run.site.waivers(run.model.name).settled(waived, datetime.now(UTC))
        if kept is None:
            run.journal.keep(WAIVED, settled)


def _settle_names(run: Run) -> None:
    """Settle how the statement names the blobs, if it does: said again later, or with another key, it is the same."""
    naming = run.site.settings.residency.blob_names
    if naming != "none" and run.journal.entry(NAMES) is None:
        names = outward((blob.name for blob in run.batch.blobs), naming, run.site.keys.own())
        run.journal.keep(NAMES, names)


def _files(trained: Mapping[str, Any]) -> dict[str, str]:
    """Return what training left, by the names that it has in an image."""
    export = {"model.onnx": trained["onnx"]["sha256"]} if trained["onnx"] else {}
    return {**{f"model/{name}": digest for name, digest in trained["files"].items()}, **export}


def _batch(run: Run) -> dict[str, int]:
    return {"blobs": len(run.batch.blobs), "bytes": run.batch.size_bytes}
