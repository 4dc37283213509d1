"""What a recorded run is today: champion, deployed, rolled back, pruned. Its record says only how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from insitu import withdrawals
from insitu.journal import read_json
from insitu.lineage import Records, champion_of
from insitu.ports import BlobStore

DEPLOYMENTS = "deployments"
"""The folder of the site's state that says what each target runs."""


def entries(state: BlobStore, model: str) -> Mapping[str, dict[str, Any]]:
    """Return what the site's state has about each target of *model*: also of those that model.toml has no more."""
    folder = f"{DEPLOYMENTS}/{model}/"
    return {name.removeprefix(folder).removesuffix(".json"): read_json(state, name) for name in state.names(folder)}


def marked(state: BlobStore, model: str) -> list[dict[str, Any]]:
    """Return every record of *model*, oldest first, each with its `marks`.

    `champion`; `deployed to NAME`, for each target; `rolled back to vN`; `pruned`.
    """
    records = Records(state).of_model(model)
    made = {record["model_version"]["version"]: record for record in records if record["publication"]}
    champion = champion_of(made, withdrawals.told(state, model))
    targets: dict[str, list[str]] = {}
    for name, entry in entries(state, model).items():
        targets.setdefault(str(entry["digest"]), []).append(f"deployed to {name}")
    return [{**record, "marks": list(_marks(record, champion, targets))} for record in records]


def _marks(
    record: Mapping[str, Any], champion: Mapping[str, Any] | None, targets: Mapping[str, list[str]]
) -> Iterator[str]:
    if champion and champion["run_key"] == record["run_key"]:
        yield "champion"
    yield from targets.get((record["publication"] or {}).get("digest", ""), [])
    if order := record.get("rollback"):
        yield f"rolled back to v{order['to']}"
    if record.get("pruned"):
        yield "pruned"
