"""The residency statement: what was looked for in a model before it left, what was found, and what was not looked for.

It says nothing that the run record does not say, names and counts alone, and is signed with the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NOT_CHECKED = (
    "records written so that they are hidden: XOR, least significant bits of weights, encryption",
    "single short values, and shuffled rows of a few columns of low precision",
    "rows that a model was fitted to outside of scikit-learn, where they were transformed before",
    "what can be inferred from a model: who was in the data, and attributes of people",
    "records in layers of software and of the base: those are made of packages, or taken by digest",
)
"""What no scan of insitu finds; see docs/residency.md."""

_OF_THE_SCAN = (
    "scanner", "verdict", "rows", "rows_looked_for", "fitted", "entries", "threshold_bits", "bytes_scanned",
    "rows_found", "cells_found", "holders",
)  # fmt: skip


def residency_of(trained: Mapping[str, Any], files: Mapping[str, str], ledger: Mapping[str, Any]) -> dict[str, Any]:
    """Return the predicate of the statement.

    Args:
        trained: What a run's record says of its training.
        files: What training left, by the name that it has in an image, each with its hex sha256.
        ledger: How many entries the egress ledger had when this was said (`entries`), and their `head`.
    """
    scan = trained["residency"]
    return {
        "scan": {name: scan[name] for name in _OF_THE_SCAN if name in scan} if scan else None,
        "files": dict(files),
        "network": trained["network"],
        "ledger": dict(ledger),
        "not_checked": list(NOT_CHECKED),
    }


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
    if told["network"] == "none":
        proved.append("residency: the training job had no way out to any network")
    else:
        unproved.append("that training sent nothing by itself: its job shared a network")
    proved.append(f"residency: {int(told['ledger']['entries'])} objects had been listed before they left")
    return proved, unproved + [f"absence of {one}" for one in told["not_checked"]]
