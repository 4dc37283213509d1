"""Decisions on record: verdicts of the gate and acts of people, each signed, written once and never changed.

They lie in the site's state as `decisions/MODEL/RUN_KEY/EVIDENCE/NAME.json`, one DSSE envelope each:

    gate.json        what the gate said about this evidence
    question-N.json  that a person was asked, and until when
    answer-N.json    the one answer: approval, rejection or expiry; whoever creates it first has decided
    override-N.json  that a person publishes what was not promoted, and until when that counts

A record names the digest of the evidence that it is about, so none counts for a model that was trained anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from insitu.errors import SignatureRefused, StateDamaged
from insitu.gate import Outcome, Verdict
from insitu.ports import BlobStore
from insitu.signing import Keys, PublicKey, sign, verify

Kind = Literal["gate", "question", "approval", "rejection", "expiry", "override"]
PAYLOAD_TYPE = "application/vnd.insitu.decision.v1+json"
GATE = "insitu"
"""Who decides when no person does."""

_FILES: Mapping[Kind, str] = {
    "gate": "gate",
    "question": "question",
    "approval": "answer",
    "rejection": "answer",
    "expiry": "answer",
    "override": "override",
}
_PERCENT = re.compile(r"(?<=before, up to )\d[\d,]*(?= %)")
"""Of the limit that moves while nobody decides: what others took of a budget (`insitu.capacity`)."""


@dataclass(frozen=True)
class Record:
    """One decision.

    Attributes:
        number: Of the question that is asked or answered, or of the override; 1 for the gate's.
        batch: Fingerprint of the batch.
        evidence: Digest of what the holdout said and of the model's files.
        champion: The version that the model was compared with.
        settings: Those of the gate and its limits.
        who: The name that was given; nobody checks it.
        when: UTC, ISO form.
        expires: Until when a question may be answered, or an override counts.
    """

    kind: Kind
    number: int
    model: str
    site: str
    run_key: str
    batch: str
    evidence: str
    champion: str | None
    verdict: Verdict
    reasons: tuple[str, ...]
    settings: dict[str, Any]
    who: str
    when: str
    reason: str = ""
    expires: str | None = None

    @property
    def statement(self) -> str:
        """Digest of what is decided, without when and on which bytes: the same decision gives the same image."""
        parts = asdict(self)
        for varying in ("number", "when", "evidence"):
            del parts[varying]
        return digest_of(parts)

    def is_over(self, now: datetime) -> bool:
        """Tell whether its time is up."""
        return self.expires is not None and now >= datetime.fromisoformat(self.expires)

    def unnamed(self, over: Iterable[str]) -> list[str]:
        """Return the limits of *over* that are not among its reasons, with as many percents or more."""
        named: dict[str, int] = {}
        for limit, percent in map(_parts, self.reasons):
            named[limit] = max(percent, named.get(limit, 0))
        return [one for one in over if (part := _parts(one))[1] > named.get(part[0], -1)]

    def naming(self, more: Iterable[str]) -> Record:
        """Return it with *more* among its reasons."""
        return replace(self, reasons=tuple(dict.fromkeys((*self.reasons, *more))))


@dataclass(frozen=True)
class Kept:
    """A record as it lies in the state: its name, and the digest of its envelope."""

    name: str
    digest: str
    record: Record

    def told(self) -> dict[str, Any]:
        """Return who decided what, as JSON values."""
        told = {key: getattr(self.record, key) for key in ("kind", "who", "when", "reason", "expires")}
        return {**told, "record": self.name, "digest": self.digest}


_ADAPTER = TypeAdapter(Record)


@dataclass(frozen=True)
class Story:
    """Every record about one piece of evidence, verified."""

    gate: Kept
    questions: Mapping[int, Kept] = field(default_factory=dict)
    answers: Mapping[int, Kept] = field(default_factory=dict)
    overrides: Mapping[int, Kept] = field(default_factory=dict)

    @property
    def question(self) -> Kept | None:
        """The newest question."""
        return self.questions[max(self.questions)] if self.questions else None

    @property
    def answer(self) -> Kept | None:
        """The answer to the newest question."""
        return self.answers.get(max(self.questions)) if self.questions else None

    @property
    def override(self) -> Kept | None:
        """The newest override."""
        return self.overrides[max(self.overrides)] if self.overrides else None


@dataclass(frozen=True)
class Standing:
    """What holds now, and the record that says so."""

    outcome: Outcome
    basis: Kept

    @property
    def asks(self) -> bool:
        """Whether a person is to decide, now or once more."""
        return self.outcome in ("AwaitingApproval", "Expired")


@dataclass(frozen=True)
class Ledger:
    """The decisions about one run."""

    state: BlobStore
    keys: Keys
    site: str
    model: str
    run_key: str

    @cached_property
    def folder(self) -> str:
        """Where they are."""
        return f"decisions/{self.model}/{self.run_key}/"

    def story(self, evidence: str) -> Story | None:
        """Return what was decided about *evidence*; None before the gate has said anything.

        Raises:
            SignatureRefused: A record is not what a trusted key has signed, or is about something else.
            StateDamaged: People have decided, and the gate's record is gone.
        """
        folder = self._folder(evidence)
        found: dict[str, dict[int, Kept]] = {"gate": {}, "question": {}, "answer": {}, "override": {}}
        for name in self.state.names(folder):
            kept = self._read(name, evidence)
            found[_FILES[kept.record.kind]][kept.record.number] = kept
        if not any(found.values()):
            return None
        if not found["gate"]:
            raise StateDamaged(f"{folder}gate.json is gone, and what people decided about it is there")
        return Story(found["gate"][1], found["question"], found["answer"], found["override"])

    def newest(self) -> Story | None:
        """Return the story of the evidence that the gate judged last."""
        parts = {name.removeprefix(self.folder).partition("/")[0] for name in self.state.names(self.folder)}
        stories = [story for part in parts if (story := self.story(f"sha256:{part}"))]
        return max(stories, key=lambda story: story.gate.record.when, default=None)

    def keep(self, record: Record) -> Kept:
        """Sign *record* and write it down; raise `BlobExists` when its place is taken."""
        name = f"{self._folder(record.evidence)}{_file(record)}"
        envelope = sign(PAYLOAD_TYPE, _canonical(asdict(record)), self.keys.own())
        self.state.create(name, envelope)
        return Kept(name, f"sha256:{sha256(envelope).hexdigest()}", record)

    def _folder(self, evidence: str) -> str:
        return f"{self.folder}{evidence.removeprefix('sha256:')}/"

    def _read(self, name: str, evidence: str) -> Kept:
        envelope = self.state.read(name)
        try:
            record = opened(envelope, self.keys.trusted())
        except SignatureRefused as exc:
            raise SignatureRefused(
                f"{name} in the site's state is not trusted: {exc.what}",
                found=exc.found,
                wanted=exc.wanted,
                next_action="if the key was changed, name the earlier public key in signing.trusted (docs/gate.md);"
                " else somebody has altered it: find out who, then remove the folder to have it decided anew",
            ) from None
        here = (self.site, self.model, self.run_key, evidence, name)
        about = (record.site, record.model, record.run_key, record.evidence)
        if (*about, f"{self._folder(record.evidence)}{_file(record)}") != here:
            raise SignatureRefused(f"{name} in the site's state is a decision about something else")
        return Kept(name, f"sha256:{sha256(envelope).hexdigest()}", record)


def opened(envelope: bytes, trusted: Collection[PublicKey]) -> Record:
    """Return the decision that one of the *trusted* keys has signed; raise `SignatureRefused`."""
    payload = verify(envelope, PAYLOAD_TYPE, trusted)
    try:
        return _ADAPTER.validate_json(payload)
    except ValidationError:
        raise SignatureRefused("what is signed holds no decision") from None


def standing(story: Story, approval: str, allow_override: bool, now: datetime, over: Collection[str] = ()) -> Standing:
    """Return what holds: the gate's verdict, unless a person was asked or has overruled it.

    Args:
        story: What is on record.
        approval: When a person decides (gate.approval in model.toml).
        allow_override: Whether overrides count at the site.
        now: When it is; overrides end.
        over: Limits that the model is beyond now (`insitu.capacity`): a person decides over what would be promoted, and
            whose record does not name each of them, and as much of it, has not decided over it.
    """
    gate, question, answer, override = story.gate, story.question, story.answer, story.override
    if answer and answer.record.kind == "approval" and not answer.record.unnamed(over):
        return Standing("Approved", answer)
    if override and allow_override and not override.record.is_over(now) and not override.record.unnamed(over):
        return Standing("Overridden", override)
    if answer and answer.record.kind == "rejection":
        return Standing("Rejected", answer)
    verdict = gate.record.verdict
    if verdict == "reject":
        return Standing("Rejected", gate)
    if approval == "always" or (over and verdict == "promote") or approval == verdict == "inconclusive":
        late = answer if answer and answer.record.kind == "expiry" else None
        if question and not answer and question.record.is_over(now):
            late = question
        return Standing("Expired", late) if late else Standing("AwaitingApproval", question or gate)
    return Standing("Promoted" if verdict == "promote" else "Inconclusive", gate)


def _parts(limit: str) -> tuple[str, int]:
    """Return a limit's words without the percents that are beyond it, and these; 0 where it names none."""
    found = _PERCENT.search(limit)
    return _PERCENT.sub("", limit, count=1), int(found[0].replace(",", "")) if found else 0


def digest_of(value: Any) -> str:
    """Return the digest of JSON values, however they were written."""
    return f"sha256:{sha256(_canonical(value)).hexdigest()}"


def _file(record: Record) -> str:
    name = _FILES[record.kind]
    return "gate.json" if name == "gate" else f"{name}-{record.number}.json"


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def iso(moment: datetime) -> str:
    """Return a moment as records name it."""
    return moment.isoformat(timespec="seconds")
