"""The residency statement: what was looked for in a model before it left, what was found, and what was not looked for.

It says nothing that the run record does not say, names and counts alone, and is signed with the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from insitu.residency.waivers import Find

KEYED = "hmac-sha256:"
"""What a blob's name under the key of the site begins with."""

NOT_CHECKED = (
    "records written so that they are hidden: XOR, least significant bits of weights, encryption",
    "single short values, and shuffled rows of a few columns of low precision",
    "rows that a model was fitted to outside of scikit-learn, where they were transformed before",
    "what can be inferred from a model: who was in the data, and attributes of people",
    "records in layers of software and of the base: those are made of packages, or taken by digest",
)
"""What no scan of insitu finds; see docs/residency.md."""

NO_LENDER = "and none of the daemons was found that would lend it one"
"""What a job's `network` stands for beside its routes; see `insitu.edge.isolation.network`."""

_OF_THE_SCAN = (
    "scanner", "verdict", "rows", "rows_looked_for", "fitted", "entries", "threshold_bits", "bytes_scanned",
    "rows_found", "cells_found", "holders", "waived", "capacity",
)  # fmt: skip


def residency_of(
    trained: Mapping[str, Any] | None, waived: Sequence[Mapping[str, Any]] | None
) -> dict[str, Any] | None:
    """Return what a run's record says about records in its model.

    Args:
        trained: What its training left; None before that.
        waived: What left by waivers, as it was settled when it left; None where nothing did yet.
    """
    scan: dict[str, Any] | None = (trained or {}).get("residency")
    return scan and scan | ({"waived": list(waived)} if waived else {})


def facts_of(scan: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what a model card says of records in the model."""
    if scan is None:
        return {"records": "nobody looked for any"}
    found = f"{scan['verdict']}: {scan['rows_found']:,} rows and {scan['cells_found']:,} single values found"
    waived = {f"waived, {number}": line for number, line in enumerate(waivers_of(scan), 1)}
    return {"records": found, **waived, **({"room": room_of(scan["capacity"])} if scan.get("capacity") else {})}


def room_of(capacity: Mapping[str, Any]) -> str:
    """Return how much an artifact could hold, in one line."""
    rows, of = int(capacity["rows"]), int(capacity["of"])
    bound = f"at most {rows:,} of {of:,} rows in any encoding ({float(capacity['share']):.2%})"
    if rows >= of:
        bound = f"all of the {of:,} rows, so that the size alone bounds nothing"
    size = f"{int(capacity['compressed_bytes']):,} bytes compressed, {float(capacity['bits_per_row']):.1f} bits a row"
    return f"for {bound}: {size}"


def waivers_of(scan: Mapping[str, Any]) -> list[str]:
    """Return a line for each find that people have waived; of a scan from before there were waivers, none."""
    return [
        f"{Find.of(one).told}: waived by {one['waiver']['who']} until {one['waiver']['expires']},"
        f" {one['waiver']['reason']}"
        for one in scan.get("waived", ())
    ]


def predicate_of(
    trained: Mapping[str, Any], files: Mapping[str, str], ledger: Mapping[str, Any], blobs: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the predicate of the statement.

    Args:
        trained: What a run's record says of its training.
        files: What training left, by the name that it has in an image, each with its hex sha256.
        ledger: How many entries the egress ledger had when this was said (`entries`), and their `head`.
        blobs: The blobs of the batch, named as they may leave; none where they may not.
    """
    scan = trained["residency"]
    return {
        "scan": {name: scan[name] for name in _OF_THE_SCAN if name in scan} if scan else None,
        "files": dict(files),
        "network": trained["network"],
        **({"destinations": _counted(asked)} if (asked := trained.get("destinations")) else {}),
        "ledger": dict(ledger),
        "not_checked": list(NOT_CHECKED),
        **({"blobs": list(blobs)} if blobs else {}),
    }


def _counted(asked: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Return how many endpoints a job reached, and how many requests were refused: a job makes up those names."""
    return {"allowed": len(asked["allowed"]), "refused": sum(asked["refused"].values())}


def lines(told: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return what a statement proves and what it does not, a line each; raise `KeyError`, `TypeError`."""
    scan, proved, unproved = told["scan"], [], []
    if scan is None:
        unproved.append("that no record is in the model: nobody scanned it (residency.scan of model.toml)")
    else:
        proved.append(
            f"residency: {int(scan['rows_looked_for']):,} of {int(scan['rows']):,} rows were looked for at every byte"
            f" of what training left, with all that it contains opened: {scan['verdict']},"
            f" {int(scan['rows_found'])} rows and {int(scan['cells_found'])} single values found"
        )
        if capacity := scan.get("capacity"):
            unproved.append(f"how many rows could be in what left: estimated, room {room_of(capacity)}")
        unproved += [f"that the model holds no record: {line}" for line in waivers_of(scan)]
    if told["network"] == "none":
        proved.append(f"residency: the training job saw no network but its own loopback, {NO_LENDER}")
    elif told["network"] == "proxy":
        refused = int(told["destinations"]["refused"])
        proved.append(
            "residency: the training job saw no network but a proxy that led to the site's stores alone"
            f" ({int(told['destinations']['allowed'])} reached, {refused} requests to others refused), {NO_LENDER}"
        )
    else:
        unproved.append("that training sent nothing by itself: its job shared a network")
    proved.append(f"residency: {int(told['ledger']['entries'])} objects had been listed before they left")
    if blobs := told.get("blobs"):
        keyed = ", under the key of the site" if all(name.startswith(KEYED) for name in blobs) else ""
        proved.append(f"residency: the statement names the {len(blobs)} blobs of the batch{keyed}")
    return proved, unproved + [f"absence of {one}" for one in told["not_checked"]]
