"""What is still on record of a run, for an auditor to hold its record against; of a pruned one that is less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from insitu.egress import EGRESS, HEAD
from insitu.journal import Journal
from insitu.lineage import significant
from insitu.residency.statement import residency_of
from insitu.waivers import WAIVED

Status = Literal["proved", "estimated", "open", "broken"]
_GONE = "what training left is not on record any more, which the run record could be held against"


@dataclass(frozen=True)
class Finding:
    """One question.

    Attributes:
        status: `proved`; `estimated` (measured, by an estimate); `open` (nobody has looked, or what would prove it is
            gone); or `broken` (something is not as it was written).
    """

    question: str
    status: Status
    found: str


@dataclass(frozen=True)
class Trail:
    """The record of a run, and its journal."""

    record: Mapping[str, Any]
    journal: Journal

    @cached_property
    def trained(self) -> Mapping[str, Any] | None:
        """What its training left, as the journal has it."""
        value: Mapping[str, Any] | None = (self.journal.entry("train") or {}).get("value")
        return value

    @property
    def pruned(self) -> str | None:
        """When it was pruned."""
        when: str | None = self.record.get("pruned")
        return when

    def of_pruning(self) -> Iterator[Finding]:
        """Yield what there is yet of a run that was pruned, and what is gone."""
        if not self.pruned:
            return
        parts = {"what training left, by digests": "train", "the ledger of what left": EGRESS, "its signed end": HEAD}
        there = [told for told, name in parts.items() if self.journal.entry(name) is not None]
        gone = ["the model version with its files", "what its job left", "its report", "its steps"]
        gone += [told for told in parts if told not in there]
        told = f"still there: {', '.join(['the run record', *there])}; gone, so nothing here proves it: "
        yield Finding("What is left of the run?", "open", f"it was pruned at {self.pruned}; {told}{', '.join(gone)}")

    def lost(self, question: str, told: str) -> Finding | None:
        """Return the finding where the run record alone tells of a training, which proves nothing; else None."""
        if not self.record["training"] or self.trained:
            return None
        if self.pruned:
            return Finding(question, "open", f"{_GONE}: the run was pruned; that record says by itself: {told}")
        return Finding(question, "broken", f"{_GONE}, and nobody has pruned the run")

    def tells_another(self, *, of_scan: bool) -> bool:
        """Tell whether the record of a run that has ended tells another scan, or network, than its training left."""
        training = self.record["training"]
        if not self.trained or not training or self.record["state"] == "Unfinished":
            return False  # gone, or not written down yet
        if of_scan:
            return bool(self.record["residency"] != residency_of(self.trained, self.journal.entry(WAIVED)))
        names = ("network", "destinations")
        return any(training.get(name) != significant(self.trained.get(name)) for name in names)
