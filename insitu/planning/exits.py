"""What may leave a site with a run, told before it starts: each exit, where it leads, and how much can go through it.

It is what `insitu.egress` lets out and writes down, seen from before; a test holds the ledger of a run against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from insitu.residency.rules import STANDARD, TAGS
from insitu.runs import Run
from insitu.settings import KNOWN_METRICS, AzureMlTraining

_LONGEST_WORD, _LONGEST_METRIC = 500, 40
"""Characters of the longest value on the lists of `insitu.residency.rules`, and of a metric with its name."""


@dataclass(frozen=True)
class Exit:
    """One way out.

    Attributes:
        what: What goes, as the ledger begins to call it: see `covers`.
        holds: What that is, for people.
        destination: Where it goes.
        when: What the verdict has to be, or how the run has to end for a message.
        stays: Whether the destination is on this machine or at the site, so that nothing leaves.
        most_bytes: What it can be at most; None where nothing bounds it before it is made.
        last_bytes: What it was in the latest run that sent it; None where none has.
    """

    what: str
    holds: str
    destination: str
    when: str
    stays: bool
    most_bytes: int | None = None
    last_bytes: int | None = None

    def covers(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether an entry of the ledger went this way."""
        return str(entry["what"]).startswith(self.what) and entry["destination"] == self.destination


def exits_of(run: Run, earlier: Sequence[Mapping[str, Any]]) -> list[Exit]:
    """Return every way out that the run has; *earlier* are the records of the model, oldest first."""
    found = (*_of_job(run), *_of_registry(run), *_of_image(run), *_of_notices(run))
    return [_remembered(one, earlier) for one in found]


def _of_job(run: Run) -> Iterator[Exit]:
    azure = run.site.settings.azure
    if isinstance(run.site.settings.training, AzureMlTraining) and azure:
        place = f"workspace {azure.workspace}"
        yield Exit("job definition", "name, arguments and variables of the job", place, "always", stays=False)
        yield Exit("job code", "the model's files and insitu's: no data, no secrets", place, "always", stays=False)


def _of_registry(run: Run) -> Iterator[Exit]:
    place, words = run.site.models.place, sum(len(name) + _LONGEST_WORD for name in TAGS)
    words += len(KNOWN_METRICS) * _LONGEST_METRIC
    archives = run.site.models.archives_rejected
    once_made = "rejected or promoted" if archives else "promoted"
    stays = place.startswith("sqlite:")
    facts, decided = "verdict, metrics, fingerprints: a closed list", "decision and image digest: a closed list"
    yield Exit("run tags", facts, place, "always", stays, words)
    yield Exit("model file", "what train.py left, after the leak scan", place, once_made, stays)
    yield Exit("model tags", facts, place, once_made, stays, words)
    yield Exit("decision tags", decided, place, "promoted", stays, words)


def _of_image(run: Run) -> Iterator[Exit]:
    registry = run.site.registry(run.model.name)
    if run.site.settings.registry:
        most_mb = run.model.limits.max_size_mb
        most_bytes = None if most_mb is None else int(most_mb * 1e6)
        held = f"software, server and the scanned model; labels: {len(STANDARD)} standard ones and insitu's"
        yield Exit("image", held, registry.name, "promoted", False, most_bytes)
        yield Exit("attestation", "SBOM, provenance, decision, signatures", registry.name, "promoted", False)
    for one in run.model.targets(run.site.name):
        target = run.site.target(run.model.name, one)
        yield Exit(f"deployment to {one.name}", f"the image, to {one.kind}", target.address, "promoted", False)


def _of_notices(run: Run) -> Iterator[Exit]:
    told = run.site.settings.notify
    for channel in told.channels if told.tell else ():
        held = "model, state, error class, next action, link: no values"
        yield Exit("message", held, f"{channel} (notify.{channel})", " or ".join(sorted(set(told.tell))), False, 4000)


def _remembered(one: Exit, earlier: Sequence[Mapping[str, Any]]) -> Exit:
    for record in reversed(earlier):
        if sent := [entry["bytes"] for entry in record["egress"] if one.covers(entry)]:
            return replace(one, last_bytes=sum(sent))
    return one
