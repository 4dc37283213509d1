"""What the pages are made of: run records with every field of today, and what a journal has beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from insitu.deployments import request_sample
from insitu.journal import Journal
from insitu.lineage import PROFILE
from insitu.settings import GateSettings
from insitu.training import INPUTS
from insitu.wiring import Site

Record = Mapping[str, Any]

_FIELDS = ("residency", "decision", "model_version", "image", "publication", "deployment", "error")
_OF_TRAINING = ("difference", "slices", "score_psi", "overlap", "lost", "onnx")


@dataclass(frozen=True)
class Kept:
    """What a run's journal has for its card, beside the record.

    Attributes:
        settings: What the run was made of (`settings` of its inputs); None where they are gone.
        profile: What validation kept of the training data: values are not told, only how many.
        sample: A request of one row without a value of the data; None where nobody knows its columns any more.
    """

    settings: Mapping[str, Any] | None = None
    profile: Mapping[str, Any] | None = None
    sample: Mapping[str, Any] | None = None

    @property
    def gate(self) -> GateSettings | None:
        """The settings that the gate decided by."""
        return GateSettings.model_validate(self.settings["gate"]) if self.settings else None


def kept_of(site: Site, record: Record) -> Kept:
    """Return what the journal of a run, and the files of its job where they are at hand, have for its card."""
    journal, training = Journal(site.state, record["model"], record["run_key"]), record["training"]
    golden = site.settings.compute.work / "jobs" / training["job"] / "golden.json" if training else None
    inputs = journal.entry(INPUTS)
    return Kept(
        settings=inputs["settings"] if inputs else None,
        profile=journal.entry(PROFILE),
        sample=request_sample(golden) if golden and golden.is_file() else None,
    )


def whole(record: Record) -> dict[str, Any]:
    """Return a record with every field of today: one that an earlier version of insitu wrote has fewer."""
    validation, training = record["validation"], record["training"]
    if validation:
        validation = {"drift": None, "notes": [], "outcomes": validation.get("failures", []), **validation}
    if training:
        training = {**dict.fromkeys(_OF_TRAINING), "compared": {"challenger": training["metrics"]}, **training}
    return {**dict.fromkeys(_FIELDS), **record, "validation": validation, "training": training}


def name_of(record: Record) -> str:
    """Return what people call a run: its version where it has one, else the beginning of its key."""
    version = record["model_version"]
    return f"v{version['version']}" if version else f"run {record['run_key'][:12]}"


def page_name(record: Record) -> str | None:
    """Return the file of a run's card; None of a run that was not judged."""
    return f"{name_of(record).replace(' ', '-')}.html" if record["decision"] else None
