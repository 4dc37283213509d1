"""What an auditor asks of a model that was retrained here: what left the site, who looked, and what proves it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from insitu.attesting import NAMES, said_about_residency
from insitu.egress import EGRESS, HEAD, SCANNED, SIGNED
from insitu.errors import AccessRefused, BackendUnavailable, InsituError, LeakFound
from insitu.images.attest import Attested, attestations
from insitu.images.statements import RESIDENCY
from insitu.journal import Journal
from insitu.lineage import Records
from insitu.residency.account import Account
from insitu.residency.ledger import entries_since, require_whole
from insitu.residency.names import outward
from insitu.residency.statement import NO_LENDER, NOT_CHECKED, room_of, waivers_of
from insitu.signing import PublicKey
from insitu.verifying import verify_image
from insitu.wiring import Site

Status = Literal["proved", "open", "broken"]


@dataclass(frozen=True)
class Finding:
    """One question: `proved`, `open` (nobody has looked), or `broken` (something is not as it was written)."""

    question: str
    status: Status
    found: str


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
    entries = journal.entry(EGRESS) or []
    findings = (
        _of_ledger(record, journal, entries, site.keys.trusted()),
        _of_scan(record),
        *_of_waivers(site, record),
        _of_files(record, journal, entries),
        _of_job(record),
        *_of_image(site, record, journal),
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


def _of_scan(record: Mapping[str, Any]) -> Finding:
    question, scan, error = "Does the model hold records of the data?", record["residency"], record["error"]
    if error and error["code"] == LeakFound.code:
        return Finding(question, "proved", f"so it seemed, and it was refused: {error['found']}")
    if scan is None:
        why = "nobody scanned it" if record["training"] else "no model was trained"
        return Finding(question, "open", why)
    looked = f"{scan['rows_looked_for']:,} of {scan['rows']:,} rows looked for in {scan['bytes_scanned']:,} bytes"
    found = f"{looked}: {scan['rows_found']} rows and {scan['cells_found']} single values found ({scan['verdict']})"
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


def _of_files(record: Mapping[str, Any], journal: Journal, entries: Sequence[Mapping[str, Any]]) -> Finding:
    question = "Are the files that left those that were scanned?"
    sent = {one["what"].removeprefix("model file "): one for one in entries if one["what"].startswith("model file ")}
    trained = (journal.entry("train") or {}).get("value", {}).get("files", {})
    others = sorted(name for name, one in sent.items() if trained.get(name) != one["sha256"])
    if others:
        return Finding(question, "broken", f"other bytes than training left: {', '.join(others[:5])}")
    if not sent:
        return Finding(question, "proved", "no file of the model left")
    told = sorted({one["clearance"] for one in sent.values()})
    status: Status = "open" if SCANNED[None] in told else "proved"
    return Finding(question, status, f"{len(sent)} files, byte by byte what training left; {'; '.join(told)}")


def _of_job(record: Mapping[str, Any]) -> Finding:
    question, training = "Could training send anything by itself?", record["training"]
    if training is None:
        began = (record["validation"] or {}).get("success")
        told = "nothing is on record of what its job saw" if began else "nothing was trained"
        return Finding(question, "open" if began else "proved", told)
    if training.get("network") == "none":
        return Finding(question, "proved", f"no: its job saw no network but its own loopback, {NO_LENDER}")
    if training.get("network") == "proxy":
        to, refused = training["destinations"]["allowed"], sum(training["destinations"]["refused"].values())
        found = f"no: its proxy led to the site's stores alone ({', '.join(to)}); {refused} requests to others refused"
        return Finding(question, "proved", f"{found}, {NO_LENDER}")
    return Finding(question, "open", f"its job ({training['backend']}) shared a network; who watches that?")


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
    entries = Account(site.state, container).entries()
    mine = next((one["rows"] for one in entries if one["run_key"] == record["run_key"]), 0)
    total, share = sum(one["rows"] for one in entries), sum(one["rows"] for one in entries) / max(1, capacity["of"])
    told = f"room {room_of(capacity)}; of it left {mine:,} rows' worth; of {container} by {len(entries)} runs {total:,}"
    yield Finding("How many rows could have left, whatever the encoding?", "proved", f"{told} ({share:.2%})")


def _of_image(site: Site, record: Mapping[str, Any], journal: Journal) -> Iterator[Finding]:
    question = "Is the published image what its statements say?"
    if record["publication"] is None:
        yield Finding(question, "proved", "no image was published")
        return
    images, digest, trusted = site.registry(record["model"]), record["publication"]["digest"], site.keys.trusted()
    if "pruned" in record and images.resolve(digest) is None:
        yield Finding(question, "open", f"it was pruned at {record['pruned']}: {images.name} has it no more")
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
    elif any(one != said_about_residency(journal) for one in said):
        yield Finding(question, "broken", "it says something else than the run's record")
    else:
        yield Finding(question, "proved", f"it does, signed by key {verified.keys[0][:12]}")
