"""Which runs of a model a site still needs, and why: what nothing of this speaks for may be pruned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from insitu.batch import Blob
from insitu.decisions import Story
from insitu.deployments import deployed
from insitu.errors import InsituError, UsageError
from insitu.journal import read_json
from insitu.leases import is_over, look, of_model
from insitu.ports import ImageRegistry
from insitu.recorded import RECORD
from insitu.rollback import way_back
from insitu.rulings import ledger_of
from insitu.settings import RetentionSettings
from insitu.wiring import CHAMPION, Site

RECORD_FILE = f"{RECORD}.json"
TRAIL = (
    *(RECORD_FILE, "train.json", "waived.json", "blob-names.json"),
    *("egress.json", "egress-signed.json", "egress-head.json"),
)
"""What stays of a run's journal, as an audit trail: its record, what it trained, what was waived, and its ledger."""


@dataclass(frozen=True)
class PastRun:
    """A run as the site's state has it.

    Attributes:
        record: Its record; empty when it was killed before it wrote one.
        blobs: Everything of it below `runs/MODEL/KEY/`.
    """

    model: str
    key: str
    record: Mapping[str, Any]
    blobs: tuple[Blob, ...] = field(repr=False)

    @property
    def version(self) -> str | None:
        """The version that it registered."""
        return (self.record.get("model_version") or {}).get("version")

    @property
    def digest(self) -> str | None:
        """The image that it built."""
        return (self.record.get("image") or {}).get("digest")

    @property
    def is_published(self) -> bool:
        """Whether its image was published, and not pruned since."""
        return bool(self.record.get("publication")) and "pruned" not in self.record

    @property
    def ended(self) -> datetime:
        """When it ended, as far as is known."""
        if finished := self.record.get("finished"):
            return datetime.fromisoformat(finished).replace(tzinfo=UTC)
        return max(blob.last_modified for blob in self.blobs)

    def __str__(self) -> str:
        version = f"version {self.version}, " if self.record.get("publication") else ""
        return f"{version}run {self.key[:12]}"


@dataclass(frozen=True)
class Uses:
    """What of a model is in use now.

    Attributes:
        aliases: Alias to version.
        deployed: Target to digest.
        tags: Tag to digest, wherever images would be removed.
        under_way: Key of the run that is under way.
    """

    aliases: Mapping[str, str]
    deployed: Mapping[str, str]
    tags: Sequence[tuple[str, str]]
    under_way: str | None


def past_runs(site: Site, model: str) -> list[PastRun]:
    """Return every run of *model*, oldest first."""
    folder, found = f"runs/{model}/", dict[str, list[Blob]]()
    for blob in site.state.list(folder):
        key, slash, _ = blob.name.removeprefix(folder).partition("/")
        if slash:
            found.setdefault(key, []).append(blob)
    runs = [PastRun(model, key, _record(site, f"{folder}{key}/", blobs), tuple(blobs)) for key, blobs in found.items()]
    return sorted(runs, key=lambda run: run.ended)


def uses(site: Site, model: str, places: Sequence[ImageRegistry]) -> Uses:
    """Look what of *model* is in use; raise `BackendUnavailable`, since what is not known is not removed."""
    tags = [(tag, there[0].digest) for images in places for tag in images.tags() if (there := images.resolve(tag))]
    name = of_model(model)
    held = look(site.state, name)
    under_way = held.work if held and not is_over(site.state, name, held) else None
    return Uses(site.models.aliases(model), deployed(site, model), tags, under_way)


def reasons(
    site: Site, runs: Sequence[PastRun], use: Uses, rules: RetentionSettings, now: datetime
) -> dict[str, tuple[str, ...]]:
    """Return by run key why the run stays; no reason: nothing needs it."""
    published = {run.version: run.record for run in runs if run.version and run.is_published}
    newest = sorted(published, key=int)[-rules.keep_versions :]
    back, ordered = _way_back(site, runs, use, published), _ordered(site, runs)
    return {
        run.key: tuple(
            [
                *_in_use(run, use),
                *(["`insitu rollback` would go back to it"] if back and run.version == back else []),
                *(["a rollback to it is under way"] if run.version in ordered else []),
                *([f"one of the {rules.keep_versions} newest versions"] if run.version in newest else []),
                *(["the newest run"] if run is runs[-1] else []),
                *_young(run, rules, now),
            ]
            or _asked_for(site, run, now)
        )
        for run in runs
    }


def _in_use(run: PastRun, use: Uses) -> Iterator[str]:
    yield from (f"alias {alias}" for alias, version in use.aliases.items() if version == run.version)
    yield from (f"deployed to {target}" for target, digest in use.deployed.items() if digest == run.digest)
    named = {tag for tag, digest in use.tags if digest == run.digest and tag != run.version}
    yield from (f"tag {tag}" for tag in sorted(named))
    if use.under_way == run.key:
        yield "under way"


def _young(run: PastRun, rules: RetentionSettings, now: datetime) -> Iterator[str]:
    if now - run.ended < timedelta(days=rules.keep_days):
        yield f"{(now - run.ended).days} days old"


def _way_back(site: Site, runs: Sequence[PastRun], use: Uses, published: Mapping[str, Mapping[str, Any]]) -> str | None:
    champion = use.aliases.get(CHAMPION)
    if not runs or champion is None:
        return None
    model = runs[0].model
    with suppress(UsageError):  # there is none
        return way_back(model, champion, published, site.withdrawals(model).withdrawn())
    return None


def _ordered(site: Site, runs: Sequence[PastRun]) -> set[str]:
    """Return the version that an order to roll back names which is not done yet."""
    ledger = site.withdrawals(runs[0].model) if runs else None
    return {order.to for order in ledger.orders()[-1:] if ledger.outcome(order) is None} if ledger else set()


def _asked_for(site: Site, run: PastRun, now: datetime) -> list[str]:
    """Return what people, or a job, still have to do with an old run that nothing else needs."""
    try:
        if site.has_job(run.key):
            return ["its job is under way"]
        story = ledger_of(site, run.model, run.key).newest()
    except InsituError as error:
        return [f"it cannot be told whether it is needed: {error.what}"]
    return [] if run.record.get("publication") or story is None else list(_open(story, now))


def _open(story: Story, now: datetime) -> Iterator[str]:
    question, override = story.question, story.override
    if question and not story.answer and not question.record.is_over(now):
        yield "a person is asked about it"
    if story.answer and story.answer.record.kind == "approval":
        yield f"{story.answer.record.who} has approved it, and it is not published yet"
    if override and not override.record.is_over(now):
        yield f"{override.record.who} has let it pass, and it is not published yet"


def _record(site: Site, folder: str, blobs: Sequence[Blob]) -> Mapping[str, Any]:
    if not any(blob.name == f"{folder}{RECORD_FILE}" for blob in blobs):
        return {}
    found: Mapping[str, Any] = read_json(site.state, f"{folder}{RECORD_FILE}")
    return found
