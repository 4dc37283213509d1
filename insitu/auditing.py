"""What an auditor asks of a model that was retrained here: what left the site, who looked, and what proves it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from insitu.attesting import NAMES, said_about_residency
from insitu.audittrail import Finding, Status, Trail
from insitu.decisions import digest_of
from insitu.egress import EGRESS, HEAD, SCANNED, SIGNED
from insitu.errors import AccessRefused, BackendUnavailable, InsituError, LeakFound
from insitu.images.attest import Attested, attestations
from insitu.images.statements import RESIDENCY
from insitu.journal import Journal
from insitu.lineage import Records, significant
from insitu.residency.account import Account
from insitu.residency.ledger import entries_since, require_whole
from insitu.residency.names import outward
from insitu.residency.statement import NO_LENDER, NOT_CHECKED, room_of, waivers_of
from insitu.rulings import ledger_of
from insitu.signing import PublicKey
from insitu.verifying import verify_image
from insitu.wiring import Site

_ANOTHER = "the run record tells something else than what its training left"


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
    journal = Journal(site.state, model, record["run_key"])
    entries, trail = journal.entry(EGRESS) or [], Trail(record, journal)
    findings = (
        *trail.of_pruning(),
        _of_ledger(record, journal, entries, site.keys.trusted()),
        _of_scan(trail),
        *_of_waivers(site, record),
        _of_files(trail, entries),
        _of_job(trail),
        *_of_decision(site, trail),
        *_of_image(site, trail),
        *_of_names(site, record, journal),
        *_of_account(site, record),
    )
    number = (record["model_version"] or {}).get("version")
    return Audit(model, number, record["run_key"], site.name, record["state"], findings, tuple(entries))


def _of_ledger(
    record: Mapping[str, Any],
    journal: Journal,
    entries: Sequence[Mapping[str, Any]],
    trusted: Collection[PublicKey],
) -> Finding:
    question, signed = "Is the list of what left whole?", journal.entry(SIGNED)
    end = journal.entry(HEAD)
    try:
        require_whole(entries, [signed["head"]] if signed else ())
        since = entries_since(entries, journal.key, end, trusted) if end else None
    except InsituError as error:
        return Finding(question, "broken", error.what)
    if record["egress"] != list(entries)[: len(record["egress"])]:
        return Finding(question, "broken", "the run record tells another list than the ledger")
    by = f", {signed['entries']} of them in the signed residency statement" if signed else ""
    told = f"{len(entries)} entries, each bound to the one before{by}"
    if since is None:
        return Finding(question, "open", f"{told}; nobody signed their end: some could be cut off it")
    if since:
        return Finding(question, "open", f"{told}; {since} of them came after their end was signed")
    return Finding(question, "proved", f"{told}; their end is signed")


def _of_scan(trail: Trail) -> Finding:
    record, question = trail.record, "Does the model hold records of the data?"
    scan, error = record["residency"], record["error"]
    if trail.tells_another(of_scan=True):
        return Finding(question, "broken", _ANOTHER)
    if error and error["code"] == LeakFound.code:
        return Finding(question, "proved", f"so it seemed, and it was refused: {error['found']}")
    if scan is None:
        why = "nobody scanned it" if record["training"] else "no model was trained"
        return Finding(question, "open", why)
    looked = f"{scan['rows_looked_for']:,} of {scan['rows']:,} rows looked for in {scan['bytes_scanned']:,} bytes"
    found = f"{looked}: {scan['rows_found']} rows and {scan['cells_found']} single values found ({scan['verdict']})"
    if lost := trail.lost(question, found):
        return lost
    if scan["verdict"] == "waived":
        return Finding(question, "open", found)
    return Finding(question, "proved" if scan["verdict"] in SCANNED else "broken", found)


def _of_waivers(site: Site, record: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield a finding for each find that people have let leave: open at best, for a person's word is no proof."""
    known = {one.digest: one for one in site.waivers(record["model"]).all(datetime.now(UTC))}
    for waived, line in zip((scan := record["residency"] or {}).get("waived", ()), waivers_of(scan), strict=True):
        there = known.get(waived["waiver"]["digest"])
        question = "What did a person let leave?"
        if there is None or there.status == "altered":
            yield Finding(question, "broken", f"{line}; {waived['waiver']['record']} is not on record as it was signed")
        else:
            but = "" if there.status == "counts" else f" (by now: {there.status})"
            yield Finding(question, "open", line + but)


def _of_files(trail: Trail, entries: Sequence[Mapping[str, Any]]) -> Finding:
    question = "Are the files that left those that were scanned?"
    sent = {one["what"].removeprefix("model file "): one for one in entries if one["what"].startswith("model file ")}
    if sent and (lost := trail.lost(question, f"{len(sent)} files left")):
        return lost
    files = (trail.trained or {}).get("files", {})
    others = sorted(name for name, one in sent.items() if files.get(name) != one["sha256"])
    if others:
        return Finding(question, "broken", f"other bytes than training left: {', '.join(others[:5])}")
    if not sent:
        return Finding(question, "proved", "no file of the model left")
    told = sorted({one["clearance"] for one in sent.values()})
    status: Status = "open" if SCANNED[None] in told else "proved"
    return Finding(question, status, f"{len(sent)} files, sent as training left them, byte by byte; {'; '.join(told)}")


def _of_job(trail: Trail) -> Finding:
    question, training = "Could training send anything by itself?", trail.record["training"]
    if trail.tells_another(of_scan=False):
        return Finding(question, "broken", _ANOTHER)
    if training is None:
        began = (trail.record["validation"] or {}).get("success")
        told = "nothing is on record of what its job saw" if began else "nothing was trained"
        return Finding(question, "open" if began else "proved", told)
    if lost := trail.lost(question, f"network {training.get('network')}"):
        return lost
    if training.get("network") == "none":
        return Finding(question, "proved", f"no: its job saw no network but its own loopback, {NO_LENDER}")
    if training.get("network") == "proxy":
        to, refused = training["destinations"]["allowed"], sum(training["destinations"]["refused"].values())
        found = f"no: its proxy led to the site's stores alone ({', '.join(to)}); {refused} requests to others refused"
        return Finding(question, "proved", f"{found}, {NO_LENDER}")
    return Finding(question, "open", f"its job ({training['backend']}) shared a network; who watches that?")


def _of_decision(site: Site, trail: Trail) -> Iterator[Finding]:
    """Yield whether the verdict on record is the one that was signed, over what training left."""
    record, trained, question = trail.record, trail.trained, "Is the verdict the one that was signed?"
    if not record["decision"]:
        return
    try:
        story = ledger_of(site, record["model"], record["run_key"]).newest()
    except (BackendUnavailable, AccessRefused):
        raise
    except InsituError as error:
        yield Finding(question, "broken", error.what)
        return
    if story is None:
        yield Finding(question, "open", "no decision is kept at the site")
        return
    signed, told = story.gate.record, record["decision"]["verdict"]
    # A limit may reject afterwards what the gate has let pass.
    if signed.verdict != told and (told != "reject" or record["publication"]):
        yield Finding(question, "broken", f"the run record tells another verdict than {signed.verdict}")
    elif lost := trail.lost(question, f"{told}, over metrics that nothing proves"):
        yield lost
    elif trained and digest_of(trained) != signed.evidence:
        yield Finding(question, "broken", "it was over something else than what training left by its journal")
    elif trained and not _tells_metrics(record["training"], significant(trained["metrics"])):
        yield Finding(question, "broken", "the run record tells other metrics than were judged")
    else:
        yield Finding(question, "proved", f"{signed.verdict}, signed at {signed.when} over the metrics on record")


def _tells_metrics(told: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
    return bool(told.get("compared", metrics) == metrics and told["metrics"] == metrics["challenger"])


def _of_names(site: Site, record: Mapping[str, Any], journal: Journal) -> Iterator[Finding]:
    """Yield whether the names in the statement are those of the batch, where it has any."""
    said, names = journal.entry(NAMES), [blob["name"] for blob in record["batch"]["manifest"]["blobs"]]
    if not said:
        return
    question = "Are the blobs that the statement names those of the batch?"
    if said == names or (site.keys.trusted() and said == outward(names, "keyed", site.keys.own())):
        yield Finding(question, "proved", f"all {len(names)}, name by name")
    else:
        yield Finding(question, "open", "they are named under another key than the site has now")


def _of_account(site: Site, record: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield how much what left of the dataset could hold: of this run, and of all together."""
    capacity = (record["residency"] or {}).get("capacity")
    if not capacity:
        return
    container = record["batch"]["manifest"]["container"]
    question = "How many rows could have left, whatever the encoding?"
    entries = Account(site.state, container).entries()
    mine = next((one["rows"] for one in entries if one["run_key"] == record["run_key"]), 0)
    if record["publication"] and 0 < mine < capacity["rows"]:
        yield Finding(question, "broken", f"the account of {container} tells of less than the run record does")
        return
    total = sum(one["rows"] for one in entries)
    told = f"room {room_of(capacity)}; of it left {mine:,} rows' worth"
    account = f"of {container} by {len(entries)} runs {total:,} ({total / max(1, capacity['of']):.2%})"
    limits = "; an upper estimate, for the bits of a row are one; and that account is not signed"
    yield Finding(question, "estimated", f"{told}; {account}{limits}")


def _of_image(site: Site, trail: Trail) -> Iterator[Finding]:
    record, question = trail.record, "Is the published image what its statements say?"
    if record["publication"] is None:
        yield Finding(question, "proved", "no image was published")
        return
    images, digest, trusted = site.registry(record["model"]), record["publication"]["digest"], site.keys.trusted()
    if trail.pruned and images.resolve(digest) is None:
        told = f"it was pruned: {images.name} has neither it nor its signed statements, which nobody can look at here"
        yield Finding(question, "open", f"{told}; whoever has a copy of {digest} may ask `insitu verify`")
        return
    published = datetime.fromisoformat(record["finished"])
    try:
        verified = verify_image(images, digest, trusted, now=published)
        found = list(attestations(images, digest, trusted))
    except (BackendUnavailable, AccessRefused):
        raise
    except InsituError as error:
        yield Finding(question, "broken", error.what)
        return
    yield Finding(question, "proved", f"{verified.hashed_bytes:,} bytes hashed; {'; '.join(verified.proved[1:3])}")
    until = (record["decision"].get("approval") or {}).get("expires")
    if until and datetime.fromisoformat(until).astimezone(UTC) < datetime.now(UTC):
        yield Finding("May the image still be used?", "open", f"what a person decided held until {until}")
    question = "Does the residency statement say what is on record?"
    said = [one.predicate for one in found if isinstance(one, Attested) and one.kind == RESIDENCY]
    if not said:
        yield Finding(question, "open", "the image has none")
    elif lost := trail.lost(question, "nothing of what the statement says"):
        yield lost
    elif any(one != said_about_residency(trail.journal) for one in said):
        yield Finding(question, "broken", "it says something else than the run's record")
    else:
        yield Finding(question, "proved", f"it does, signed by key {verified.keys[0][:12]}")
