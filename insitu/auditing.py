"""What an auditor asks of a model that was retrained here: what left the site, who looked, and what proves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from insitu.attesting import NAMES, said_about_residency
from insitu.audittrail import Answer, Finding, Status, Trail, answered
from insitu.decisions import digest_of
from insitu.egress import PUBLISHED, SCANNED
from insitu.errors import LeakFound
from insitu.images.attest import Attested, attestations
from insitu.images.statements import RESIDENCY
from insitu.journal import Journal
from insitu.lineage import FINAL_STATES, Records, significant
from insitu.residency.account import Account
from insitu.residency.names import outward
from insitu.residency.statement import NO_LENDER, NOT_CHECKED, room_of, waivers_of
from insitu.verifying import Verified
from insitu.wiring import Site

_FILE = "model file "


@dataclass(frozen=True)
class Audit:
    """The answers about one run.

    Attributes:
        findings: A question each.
        left: The egress ledger: every object that left, in order.
        not_checked: What nobody claims.
    """

    model: str
    version: str | None
    run_key: str
    site: str
    state: str
    findings: tuple[Finding, ...]
    left: tuple[Mapping[str, Any], ...]
    not_checked: tuple[str, ...] = NOT_CHECKED

    @property
    def holds(self) -> bool:
        """Whether nothing is broken."""
        return all(one.status != "broken" for one in self.findings)

    @property
    def by_destination(self) -> dict[str, dict[str, int]]:
        """How many objects and bytes went where."""
        totals: dict[str, dict[str, int]] = {}
        for entry in self.left:
            total = totals.setdefault(entry["destination"], {"objects": 0, "bytes": 0})
            total["objects"] += 1
            total["bytes"] += entry["bytes"]
        return totals

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"holds": self.holds, **asdict(self), "by_destination": self.by_destination}


def audit(site: Site, model: str, version: str) -> Audit:
    """Look at everything that is on record of a version, or of any run, and at the image where it was published.

    Args:
        site: Where it ran.
        model: Its name.
        version: A version, `latest`, or digits of a run key.

    Raises:
        UsageError: There is no such version or run.
        BackendUnavailable: The state, or the registry, gives no answer.
    """
    record = Records(site.state).of_version(model, version)
    trail = Trail(site, record, Journal(site.state, model, record["run_key"]))
    answers = ((question, answered(partial(look, trail))) for question, look in _QUESTIONS.items())
    findings = tuple(Finding(question, *answer) for question, answer in answers if answer)
    number = (record["model_version"] or {}).get("version")
    return Audit(model, number, record["run_key"], site.name, record["state"], findings, trail.entries)


def _of_scan(trail: Trail) -> Answer:
    record, scan, error = trail.record, trail.record["residency"], trail.record["error"]
    if another := trail.another(of_scan=True):
        return another
    if error and error["code"] == LeakFound.code:
        if left := sum(one["what"].startswith((_FILE, "image ")) for one in trail.entries):
            return "open", f"so it seemed: {error['found']}; {left} parts of it left all the same"
        return trail.nothing(f"so it seemed, and it was refused: {error['found']}")
    if scan is None:
        return "open", "nobody scanned it" if record["training"] else "no model was trained"
    looked = f"{scan['rows_looked_for']:,} of {scan['rows']:,} rows looked for in {scan['bytes_scanned']:,} bytes"
    found = f"{looked}: {scan['rows_found']} rows and {scan['cells_found']} single values found ({scan['verdict']})"
    if scan["verdict"] not in ("clear", "warned", "waived"):
        return "broken", found
    if unproved := trail.unproved(found):
        return unproved
    return "open" if scan["verdict"] == "waived" else "proved", found


def _of_waivers(trail: Trail) -> Answer | None:
    """Return what people have let leave: open at best, for a person's word is no proof."""
    waivers, scan = trail.site.waivers(trail.record["model"]), trail.record["residency"] or {}
    known = {one.digest: one for one in waivers.all(datetime.now(UTC))}
    status: Status = "open"
    told = []
    for waived, line in zip(scan.get("waived", ()), waivers_of(scan), strict=True):
        there = known.get(waived["waiver"]["digest"])
        if there is None or there.status == "altered":
            status = "broken"
            told.append(f"{line}; {waived['waiver']['record']} is not on record as it was signed")
        else:
            told.append(line + ("" if there.status == "counts" else f" (by now: {there.status})"))
    return (status, "; ".join(told)) if told else None


def _of_files(trail: Trail) -> Answer:
    sent = [(one["what"].removeprefix(_FILE), one) for one in trail.entries if one["what"].startswith(_FILE)]
    if not sent:
        return trail.nothing("no file of the model left")
    count = len({name for name, _ in sent})
    if lost := trail.lost(f"{count} files left"):
        return lost
    files = (trail.trained or {}).get("files", {})
    others = sorted({name for name, one in sent if files.get(name) != one["sha256"]})
    if others:
        return "broken", f"other bytes than training left: {', '.join(others[:5])}"
    clearances = sorted({one["clearance"] for _, one in sent})
    told = f"{count} files, sent as training left them, byte by byte; {'; '.join(clearances)}"
    if unproved := trail.unproved(told):
        return unproved
    if trail.ledger and trail.ledger[0] == "broken":
        return "open", f"{told}; and of others nobody knows: the list of what left is not as it was written"
    return "open" if SCANNED[None] in clearances else "proved", told


def _of_job(trail: Trail) -> Answer:
    training = trail.record["training"]
    if another := trail.another(of_scan=False):
        return another
    if training is None:
        began = (trail.record["validation"] or {}).get("success")
        return "open", "nothing is on record of what its job saw" if began else "by the run record nothing was trained"
    network = training.get("network")
    found = f"its job ({training['backend']}) shared a network; who watches that?"
    if network == "none":
        found = f"no: its job saw no network but its own loopback, {NO_LENDER}"
    elif network == "proxy":
        to, refused = training["destinations"]["allowed"], sum(training["destinations"]["refused"].values())
        found = f"no: its proxy led to the site's stores alone ({', '.join(to)}); {refused} requests to others refused"
        found = f"{found}, {NO_LENDER}"
    return trail.unproved(found) or ("proved" if network in ("none", "proxy") else "open", found)


def _of_decision(trail: Trail) -> Answer | None:
    """Return whether the verdict on record is the one that was signed, over what training left."""
    record, trained, story, decision = trail.record, trail.trained, trail.story, trail.record["decision"]
    if story is None:
        if record["publication"] and not trail.pruned:
            return "broken", "it was published, and no decision about it is kept at the site"
        return ("open", "no decision is kept at the site") if decision or trained else None
    if decision is None:  # a run may have ended just when the gate had signed, not after that
        status: Status = "broken" if record["publication"] or record["state"] in FINAL_STATES else "open"
        return status, f"the run record tells none, and {story.gate.record.verdict} is signed"
    signed, told = story.gate.record, decision["verdict"]
    # A limit may reject afterwards what the gate has let pass.
    if signed.verdict != told and (told != "reject" or record["publication"]):
        return "broken", f"the run record tells another verdict than {signed.verdict}"
    if lost := trail.lost(f"{told}, over metrics that nothing proves"):
        return lost
    if trained and digest_of(trained) != signed.evidence:
        return "broken", "it was over something else than what training left by its journal"
    if trained and not _tells_metrics(record["training"] or {}, significant(trained["metrics"])):
        return "broken", "the run record tells other metrics than were judged"
    return "proved", f"{signed.verdict}, signed at {signed.when} over the metrics on record"


def _tells_metrics(told: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    return bool(told.get("compared", metrics) == metrics and told.get("metrics") == metrics["challenger"])


def _of_names(trail: Trail) -> Answer | None:
    """Return whether the names in the statement are those of the batch, where it has any."""
    if not (said := trail.journal.entry(NAMES)):
        return None
    names, keys = [blob["name"] for blob in trail.record["batch"]["manifest"]["blobs"]], trail.site.keys
    if said == names or (keys.trusted() and said == outward(names, "keyed", keys.own())):
        return "proved", f"all {len(names)}, name by name"
    return "open", "they are named under another key than the site has now"


def _of_account(trail: Trail) -> Answer | None:
    """Return how much what left of the dataset could hold: of this run, and of all together."""
    record, capacity = trail.record, (trail.record["residency"] or {}).get("capacity")
    if not capacity:
        return None
    container = record["batch"]["manifest"]["container"]
    entries = Account(trail.site.state, container).entries()
    mine = next((one["rows"] for one in entries if one["run_key"] == record["run_key"]), 0)
    if record["publication"] and mine < capacity["rows"]:
        return "broken", f"the account of {container} tells of less than the run record does"
    total = sum(one["rows"] for one in entries)
    told = f"room {room_of(capacity)}; of it left {mine:,} rows' worth"
    account = f"of {container} by {len(entries)} runs {total:,} ({total / max(1, capacity['of']):.2%})"
    limits = "; an upper estimate, for the bits of a row are one; and that account is not signed"
    return "estimated", f"{told}; {account}{limits}"


def _of_image(trail: Trail) -> Answer:
    if trail.record["publication"] is None:
        parts = [one for one in trail.entries if one["what"].startswith(("image ", "attestation"))]
        parts += [one for one in trail.entries if one["clearance"] == PUBLISHED]
        if parts:
            return "open", f"parts of an image left ({len(parts)} objects); the record names no publication"
        return trail.nothing("no image was published")
    if (verified := trail.verified) is None:
        place, digest = trail.site.registry(trail.record["model"]).name, trail.record["publication"]["digest"]
        told = f"it was pruned: {place} has neither it nor its signed statements, which nobody can look at here"
        return "open", f"{told}; whoever has a copy of {digest} may ask `insitu verify`"
    if isinstance(verified, str):
        return "broken", verified
    return "proved", f"{verified.hashed_bytes:,} bytes hashed; {'; '.join(verified.proved[1:3])}"


def _of_use(trail: Trail) -> Answer | None:
    if isinstance(trail.verified, Verified) and trail.verified.ended:
        return "open", f"what a person decided held until {trail.verified.ended}"
    return None


def _of_statement(trail: Trail) -> Answer | None:
    if not isinstance(verified := trail.verified, Verified):
        return None
    images, trusted = trail.site.registry(trail.record["model"]), trail.site.keys.trusted()
    found = attestations(images, verified.digest, trusted)
    said = [one.predicate for one in found if isinstance(one, Attested) and one.kind == RESIDENCY]
    if not said:
        return "open", "the image has none"
    if lost := trail.lost("nothing of what the statement says"):
        return lost
    told = said_about_residency(trail.journal)
    own = {"not_checked": told["not_checked"]}  # words of the insitu that signed, which may be an earlier one
    if any({**one, **own} != told for one in said):
        return "broken", "it says something else than the run's record"
    return "proved", f"it does, signed by key {verified.keys[0][:12]}"


_QUESTIONS: Mapping[str, Callable[[Trail], Answer | None]] = {
    "What is left of the run?": Trail.of_pruning,
    "Is the run record as it was written?": lambda trail: trail.signed,
    "Is the list of what left whole?": lambda trail: trail.ledger,
    "Does the model hold records of the data?": _of_scan,
    "What did a person let leave?": _of_waivers,
    "Are the files that left those that were scanned?": _of_files,
    "Could training send anything by itself?": _of_job,
    "Is the verdict the one that was signed?": _of_decision,
    "Is the published image what its statements say?": _of_image,
    "May the image still be used?": _of_use,
    "Does the residency statement say what is on record?": _of_statement,
    "Are the blobs that the statement names those of the batch?": _of_names,
    "How many rows could have left, whatever the encoding?": _of_account,
}
