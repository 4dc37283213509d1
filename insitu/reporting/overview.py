"""What the report shows of a site: its models with their runs, what waits for a person, and what left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from insitu.errors import StateDamaged
from insitu.journal import Journal
from insitu.marks import marked
from insitu.pages import number
from insitu.ports import BlobStore
from insitu.reporting.records import Record, whole
from insitu.settings import GateSettings
from insitu.training import INPUTS

_UNHAPPY = ("Failed", "ValidationFailed", "Stopped")


@dataclass(frozen=True)
class ModelView:
    """One model at the site.

    Attributes:
        records: Every run with its marks, oldest first.
        gate: What the newest judged run was judged by; None where no journal has it any more.
        damage: Why nothing is shown of it; empty where there is no reason.
    """

    name: str
    records: Sequence[Record]
    gate: GateSettings | None = None
    damage: str = ""

    @property
    def newest(self) -> Record | None:
        """The run that ended last."""
        return self.records[-1] if self.records else None

    @property
    def champion(self) -> Record | None:
        """The run that made the champion."""
        return next((one for one in self.records if "champion" in one["marks"]), None)

    @property
    def versions(self) -> int:
        """How many versions were published."""
        return sum(bool(one["publication"]) for one in self.records)

    @property
    def tone(self) -> str:
        """How the page looks at a glance: `good`, `wait` or `bad`."""
        if self.damage or (self.newest and self.newest["state"] in _UNHAPPY):
            return "bad"
        return "wait" if any(self.waiting) else "good"

    @property
    def waiting(self) -> Iterator[tuple[str, str, str]]:
        """What a person should look at: of the newest run, what happened, what was found and what to do."""
        if self.damage:
            yield "damaged", self.damage, "see to that file, then `insitu report` again"
        elif self.newest and (error := self.newest["error"]):
            yield f"{self.newest['state']} {error['code']}", str(error["what"]), str(error["next_action"] or "")
        elif self.newest and (self.newest["decision"] or {}).get("outcome") == "AwaitingApproval":
            asked = f"insitu approve {self.name} {self.newest['run_key'][:12]} --name NAME --reason REASON"
            yield "AwaitingApproval", "; ".join(self.newest["decision"]["reasons"]), asked

    def primary(self, record: Record | None) -> str:
        """Return the primary metric of a run with its name; nothing where there is none."""
        training = (record or {}).get("training")
        if not training or not training["metrics"]:
            return ""
        name = self.gate.primary if self.gate else next(iter(training["metrics"]))
        return f"{name} {number(training['metrics'].get(name))}"


@dataclass(frozen=True)
class Total:
    """What went to one place."""

    place: str
    objects: int
    size_bytes: int

    @property
    def stays(self) -> bool:
        """Whether the place is a file, most likely of this machine."""
        return self.place.startswith(("sqlite:", "file:", "oci:", "/"))


def views(state: BlobStore, models: Iterable[str]) -> Iterator[ModelView]:
    """Yield what is known of each model; of damaged records, that they are; raise `BackendUnavailable`."""
    for model in models:
        try:
            records = [whole(record) for record in marked(state, model)]
            yield ModelView(model, records, _gate(state, model, records))
        except StateDamaged as error:
            yield ModelView(model, (), damage=error.what)


def left(records: Iterable[Record]) -> list[Total]:
    """Return how much went where, the most first."""
    totals: dict[str, list[int]] = {}
    for record in records:
        for entry in record["egress"]:
            totals.setdefault(entry["destination"], []).append(entry["bytes"])
    found = [Total(place, len(sizes), sum(sizes)) for place, sizes in totals.items()]
    return sorted(found, key=lambda total: (-total.size_bytes, total.place))


def _gate(state: BlobStore, model: str, records: Sequence[Record]) -> GateSettings | None:
    for record in reversed(records):
        if record["decision"] and (inputs := Journal(state, model, record["run_key"]).entry(INPUTS)):
            return GateSettings.model_validate(inputs["settings"]["gate"])
    return None
