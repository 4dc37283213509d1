"""The one door: what a run hands over is looked at, written down in the egress ledger, and only then let out.

    words (tags, labels)     by closed lists of names and forms (`insitu.residency.rules`)
    code of a job            without data and secrets (`insitu.residency.code`)
    files of the model       by what the leak scan said of them
    layers of an image       software, a base by its digest, or the scanned files
    attestations             by their kind

What nobody has a rule for is refused, and nothing of it is sent.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.errors import EgressRefused, SettingsError, StateDamaged
from insitu.files import file_digests
from insitu.images.attest import KIND_NOTE
from insitu.images.manifest import parts_of
from insitu.images.reading import read_document
from insitu.images.statements import TITLES
from insitu.images.transfer import Sent
from insitu.journal import Journal
from insitu.ports import Descriptor, ImageRegistry
from insitu.recorded import RECORD
from insitu.residency.code import require_code
from insitu.residency.ledger import entries_since, extended, require_whole, signed_head
from insitu.residency.rules import require_annotations, require_facts, require_labels, require_tags
from insitu.settings import KNOWN_METRICS
from insitu.signing import Keys
from insitu.waivers import WAIVED, Waivers

EGRESS = "egress"
"""The journal's name of the ledger."""

SIGNED = "egress-signed"
"""The journal's name of how much of the ledger the residency statement of the image speaks of."""

HEAD = "egress-head"
"""The journal's name of the signed word how far the ledger had come when the run's record was written."""

WORDS, CODE, SOFTWARE, BASE, STATEMENT = "words on the list", "code", "software", "base by digest", "statement"
PUBLISHED = "published image"
SCANNED: Mapping[str | None, str] = {
    "clear": "scanned: no record in it",
    "warned": "scanned: single values, within the limit",
    None: "not scanned",
}
"""What a leak scan's verdict lets out, and what is said of files that nobody scanned."""

BY_WAIVER = "scanned: what was found is waived by a person"

Scan = Mapping[str, Any] | None
"""What a run's record says of the leak scan (`insitu.residency.verdict`); None: nobody scanned."""

_LAYERS: Mapping[str | None, str] = {"base": BASE, "python": SOFTWARE, "environment": SOFTWARE, "server": SOFTWARE}
_OF_A_BUNDLE = {"mediaType", "verificationMaterial", "dsseEnvelope"}
_METADATA = "INSITU_METADATA="
_METRICS = frozenset(KNOWN_METRICS)
MODEL_CODE = "model"
"""The folder of the model's own files in the code of a job; the others are insitu's."""


@dataclass(frozen=True)
class Door:
    """The way out for what one run makes; its *journal* keeps the ledger.

    Attributes:
        waivers: What people let pass of what the scan found; without them, nothing.
    """

    journal: Journal
    waivers: Waivers | None = None

    def words(self, what: str, destination: str, tags: Mapping[str, str]) -> None:
        """Let tags out; raise `EgressRefused` for one that is not on the list."""
        require_tags(tags, _METRICS, what)
        data = json.dumps(tags, sort_keys=True).encode()
        self._write(Sent(what, destination, len(data), sha256(data).hexdigest()), WORDS)

    def file(self, sent: Sent, scan: Scan) -> None:
        """Let a file of the model out, by what the leak scan has said of it, and what people have waived."""
        self._write(sent, self._scanned(sent, scan))

    def job(self, destination: str, definition: Mapping[str, Any], code: Path) -> None:
        """Let out a job's definition and the folder of its *code*; raise `EgressRefused` for data or secrets in it."""
        files = {path.relative_to(code).as_posix(): path for path in sorted(code.rglob("*")) if path.is_file()}
        require_code({name: path for name, path in files.items() if name.startswith(f"{MODEL_CODE}/")})
        data = json.dumps(definition, sort_keys=True).encode()
        self._write(Sent("job definition", destination, len(data), sha256(data).hexdigest()), WORDS)
        listed = json.dumps(file_digests(code), sort_keys=True).encode()
        size_bytes = sum(path.stat().st_size for path in files.values())
        self._write(Sent(f"job code, {len(files)} files", destination, size_bytes, sha256(listed).hexdigest()), CODE)

    def image(self, source: ImageRegistry, layers: Sequence[Mapping[str, Any]], scan: Scan) -> Callable[[Sent], None]:
        """Return what is told of each part of an image before it goes.

        Args:
            source: Where the parts are read.
            layers: Of the image that was tried: `title` and `digest` of each.
            scan: Of the files in the layer `model`.
        """
        titles = {layer["digest"]: layer["title"] for layer in layers}

        def let_out(sent: Sent) -> None:
            if sent.what == "image layer":
                title = titles.get(f"sha256:{sent.sha256}")
                self._write(sent, self._scanned(sent, scan) if title == "model" else _software(sent, title))
                return
            look = _statement if sent.what.startswith("attestation") else _words
            self._write(sent, look(sent, _document(source, sent)))

        return let_out

    def published(self, what: str, destination: str, images: ImageRegistry, digest: str) -> None:
        """Let a published image go on, to a target or into a bundle: its parts were let out before.

        Raises:
            LeakFound: What it left by is not waived any more.
        """
        if found := images.resolve(digest):
            config, layers = parts_of(found[1])
            size_bytes = len(found[1]) + sum(part.size_bytes for part in (config, *layers))
            sent = Sent(what, destination, size_bytes, digest.removeprefix("sha256:"))
            if waived := self.journal.entry(WAIVED):
                self._scanned(sent, {"verdict": "waived", "waived": waived})
            self._write(sent, PUBLISHED)

    def _scanned(self, sent: Sent, scan: Scan) -> str:
        """Return by what a file of the model may go; raise `LeakFound` when a waiver does not count any more."""
        verdict: str | None = scan["verdict"] if scan else None
        if scan and verdict == "waived" and self.waivers and scan["waived"]:
            self.waivers.settled(scan["waived"], datetime.now(UTC))
            return BY_WAIVER
        if verdict not in SCANNED:
            raise _refused(sent, f"the leak scan says {verdict}", "a file that the scan lets out")
        return SCANNED[verdict]

    def _write(self, sent: Sent, clearance: str) -> None:
        now, entry = datetime.now(UTC).isoformat(timespec="seconds"), sent.to_json()
        self.journal.change(EGRESS, lambda entries: extended(entries or [], entry, clearance, now))


def sign_ledger(journal: Journal, keys: Keys) -> None:
    """Sign how far the ledger of a run has come, unless that is signed.

    One that was altered is not signed again, nor one whose signature is gone although the run has a record, nor any
    without the site's key: whoever audits the run is told.
    """
    entries, before = journal.entry(EGRESS) or [], journal.entry(HEAD)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(SettingsError, StateDamaged):
        key = keys.own()
        require_whole(entries)
        is_new = before is None and journal.entry(RECORD) is None
        if is_new or (before and entries_since(entries, journal.key, before, keys.trusted())):
            journal.keep(HEAD, signed_head(entries, journal.key, now, key))


def _software(sent: Sent, title: str | None) -> str:
    kind = title and title.partition(" ")[0]  # of a base "base 1", "base 2", ...
    if kind not in _LAYERS:
        found = f"a layer that holds {title}" if title else "a layer that the image that was tried does not have"
        raise _refused(sent, found, "a layer of that image")
    return _LAYERS[kind]


def _document(source: ImageRegistry, sent: Sent) -> Any:
    """Return the JSON document that is about to go, its bytes verified."""
    content = read_document(source, Descriptor("", f"sha256:{sent.sha256}", sent.size_bytes))
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _refused(sent, "no JSON document", "an image's configuration or manifest, or a statement")
    return document


def _words(sent: Sent, document: Any) -> str:
    """Check what the configuration or the manifest of an image says."""
    config = document.get("config") or {}
    require_annotations(document.get("annotations") or {}, sent.what)
    require_labels(config.get("Labels") or {}, sent.what)
    for entry in config.get("Env") or ():
        if entry.startswith(_METADATA):
            require_facts(entry.removeprefix(_METADATA), sent.what)
    return WORDS


def _statement(sent: Sent, document: Any) -> str:
    """Check that this is a statement of a kind that insitu makes, or one of the two documents around it."""
    part = sent.what.rpartition(" ")[2]
    if part == "configuration" and document == {}:
        return STATEMENT
    kind = (document.get("annotations") or {}).get(KIND_NOTE) if part == "manifest" else _kind_of(document)
    if kind not in TITLES:
        raise _refused(sent, f"a statement of kind {kind!a}", f"one of {', '.join(sorted(TITLES.values()))}")
    return STATEMENT


def _kind_of(bundle: Mapping[str, Any]) -> str | None:
    """Return the kind of the statement that a bundle holds; None where it holds something else, or something more."""
    try:
        payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"], validate=True))
    except (KeyError, TypeError, ValueError):
        return None
    return payload.get("predicateType") if set(bundle) <= _OF_A_BUNDLE and isinstance(payload, dict) else None


def _refused(sent: Sent, found: str, wanted: str) -> EgressRefused:
    return EgressRefused(
        f"{sent.what} was about to go to {sent.destination} and must not",
        found=found,
        wanted=wanted,
        next_action="nothing of it was sent; start the run again, or see docs/residency.md",
    )
