"""What is still on record of a run, for an auditor to hold its record against; of a pruned one that is less."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from insitu.decisions import Story, digest_of
from insitu.egress import EGRESS, HEAD, SIGNED
from insitu.errors import AccessRefused, BackendUnavailable, InsituError, StateDamaged
from insitu.journal import Journal
from insitu.lineage import significant
from insitu.recorded import RECORD, SIGNATURE, require_signed
from insitu.residency.ledger import FIELDS, entries_since, require_whole
from insitu.residency.statement import residency_of
from insitu.rulings import ledger_of
from insitu.verifying import Verified, verify_image
from insitu.waivers import WAIVED
from insitu.wiring import Site

Status = Literal["proved", "estimated", "open", "broken"]
Answer = tuple[Status, str]
"""`proved`; `estimated` (measured, by an estimate); `open` (nobody has looked, or what would prove it is gone); or
`broken` (something is not as it was written); and what was found."""

_GONE = "what training left is not on record any more, which the run record could be held against"
_ANOTHER = "the run record tells something else than what its training left"


@dataclass(frozen=True)
class Finding:
    """One question, and its `Answer`."""

    question: str
    status: Status
    found: str


def answered(look: Callable[[], Answer | None]) -> Answer | None:
    """Return what *look* returns: what is garbled, or not as it was signed, is an answer and no error."""
    try:
        return look()
    except (BackendUnavailable, AccessRefused):
        raise
    except InsituError as error:
        return "broken", error.what
    except (LookupError, TypeError, ValueError, AttributeError):
        return "broken", "what is on record is not as insitu writes it"


@dataclass(frozen=True)
class Trail:
    """The record of a run, its journal, and what is signed of both."""

    site: Site
    record: Mapping[str, Any]
    journal: Journal

    @cached_property
    def trained(self) -> Mapping[str, Any] | None:
        """What its training left, as the journal has it; raise `ValueError` where that is garbled."""
        if (entry := self.journal.entry("train")) is None:
            return None
        value: Mapping[str, Any] = entry["value"]
        if not value or not isinstance(value, Mapping):
            raise ValueError(type(value))
        return value

    @cached_property
    def signed(self) -> Answer:
        """Whether the run record is the one that the site wrote, which all that it tells by itself hangs on."""
        kept, order = self.journal.entry(RECORD) or {}, self.record.get("rollback")
        try:
            require_signed(kept, self.site.keys.trusted())
        except StateDamaged as error:
            # What is published has a decision, so the site's key was there to sign the record, too.
            is_due = self.record.get(SIGNATURE) or self.record["publication"]
            return ("broken" if is_due else "open"), error.what
        if self.record != (kept | {"rollback": order} if order else kept):
            return "broken", "there is another one of the same run key"
        return "proved", "every field as it was signed"

    @cached_property
    def story(self) -> Story | None:
        """What was decided about the run, verified: of what the gate judged last."""
        return ledger_of(self.site, self.record["model"], self.record["run_key"]).newest()

    @cached_property
    def is_signed(self) -> bool:
        """Whether the gate has signed a verdict over what training left, as the journal has it."""
        try:
            ledger = ledger_of(self.site, self.record["model"], self.record["run_key"])
            return self.trained is not None and ledger.story(digest_of(self.trained)) is not None
        except (BackendUnavailable, AccessRefused):
            raise
        except InsituError:  # an answer of its own
            return False

    @cached_property
    def entries(self) -> tuple[Mapping[str, Any], ...]:
        """The egress ledger, as far as it can be read; whether that is all of it, `ledger` says."""
        try:
            kept = self.journal.entry(EGRESS)
        except StateDamaged:
            return ()
        return tuple(one for one in kept if _is_entry(one)) if isinstance(kept, list) else ()

    @cached_property
    def ledger(self) -> Answer | None:
        """Whether the list of what left is whole."""
        return answered(self._look_at_ledger)

    def _look_at_ledger(self) -> Answer:
        kept, signed, end = (self.journal.entry(name) for name in (EGRESS, SIGNED, HEAD))
        if len(kept or []) != len(self.entries):
            raise ValueError(EGRESS)
        require_whole(self.entries, [signed["head"]] if signed else ())
        since = entries_since(self.entries, self.journal.key, end, self.site.keys.trusted()) if end else None
        if self.record["egress"] != list(self.entries)[: len(self.record["egress"])]:
            return "broken", "the run record tells another list than the ledger"
        by = f", {signed['entries']} of them in the signed residency statement" if signed else ""
        told = f"{len(self.entries)} entries, each bound to the one before{by}"
        if since is None:
            return "open", f"{told}; nobody signed their end: some could be cut off it"
        if since:
            return "open", f"{told}; {since} of them came after their end was signed"
        return "proved", f"{told}; their end is signed"

    def nothing(self, told: str) -> Answer:
        """Return the answer that something is not in the ledger: proved by one that is whole to its signed end."""
        if self.ledger and self.ledger[0] == "proved":
            return "proved", told
        return "open", f"{told}, by a list of what left that is not proved to be whole"

    @cached_property
    def verified(self) -> Verified | str | None:
        """The published image, verified; what is wrong with it; None where none is on record, or it was pruned."""
        if self.record["publication"] is None:
            return None
        images, digest = self.site.registry(self.record["model"]), self.record["publication"]["digest"]
        if self.pruned and images.resolve(digest) is None:
            return None
        try:
            return verify_image(images, digest, self.site.keys.trusted())
        except (BackendUnavailable, AccessRefused):
            raise
        except InsituError as error:
            return error.what

    @property
    def pruned(self) -> str | None:
        """When it was pruned."""
        when: str | None = self.record.get("pruned")
        return when

    def of_pruning(self) -> Answer | None:
        """Return what there is yet of a run that was pruned, and what is gone."""
        if not self.pruned:
            return None
        parts = {"what training left, by digests": "train", "the ledger of what left": EGRESS, "its signed end": HEAD}
        there = [told for told, name in parts.items() if self.journal.entry(name) is not None]
        gone = ["the model version with its files", "what its job left", "its report", "its steps"]
        gone += [told for told in parts if told not in there]
        told = f"still there: {', '.join(['the run record', *there])}; gone, so nothing here proves it: "
        return "open", f"it was pruned at {self.pruned}; {told}{', '.join(gone)}"

    def lost(self, told: str) -> Answer | None:
        """Return the answer where the run record alone tells of a training, which proves nothing; else None."""
        if not self.record["training"] or self.trained:
            return None
        if self.pruned:
            return "open", f"{_GONE}: the run was pruned; that record says by itself: {told}"
        return "broken", f"{_GONE}, and nobody has pruned the run"

    def unproved(self, told: str) -> Answer | None:
        """Return the answer where what training left is gone, or where nobody signed it; else None."""
        if lost := self.lost(told):
            return lost
        if self.trained and not self.is_signed:
            return "open", f"nobody signed what training left, which says by itself: {told}"
        return None

    def another(self, *, of_scan: bool) -> Answer | None:
        """Return the answer where the record tells another scan, or network, than the training left; else None."""
        if not self._tells_another(of_scan):
            return None
        if self.record["state"] == "Unfinished":
            return "open", f"the run has not ended: {_ANOTHER}"
        return "broken", _ANOTHER

    def _tells_another(self, of_scan: bool) -> bool:
        training = self.record["training"]
        if not self.trained:
            return False
        if not training:
            return True
        if of_scan:
            return bool(self.record["residency"] != residency_of(self.trained, self.journal.entry(WAIVED)))
        names = ("network", "destinations")
        return any(training.get(name) != significant(self.trained.get(name)) for name in names)


def _is_entry(one: Any) -> bool:
    return isinstance(one, Mapping) and all(isinstance(one.get(n), int if n == "bytes" else str) for n in FIELDS)
