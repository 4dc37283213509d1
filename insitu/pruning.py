"""What a site does not need any more is looked for and taken away.

A run that nothing needs (see `insitu.retention`) loses its image, its model version, what its job left and its journal,
in this order. Of an image, tags go before manifests and manifests before blobs: no tag ever names what is not there.
The run's record stays and says so. Nothing else is noted: what is there yet is found anew each time, so the next prune
goes on where one was killed.

Nobody loses what he is about to use: a prune holds the lease of each model, for which a run that starts meanwhile
waits, and that of its champion, for which a rollback waits. What no lease speaks for: `insitu.leftovers`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlparse

from insitu.batch import Blob
from insitu.crashpoints import crashpoint
from insitu.decisions import iso
from insitu.errors import ImageFailed, RunUnderWay, UsageError
from insitu.images.manifest import parts_of
from insitu.journal import Journal
from insitu.leases import PRUNING, Lease, alone_with, only_run
from insitu.leftovers import leftovers
from insitu.ports import Descriptor, ImageRegistry, ModelVersion
from insitu.recorded import change_record
from insitu.removal import Going, Item, Stay, delete, forget, size_of
from insitu.retention import RECORD_FILE, TRAIL, PastRun, past_runs, reasons, uses
from insitu.settings import RetentionSettings
from insitu.wiring import Site


@dataclass(frozen=True)
class Look:
    """What was found of one model; *needed* are the digests of images that stay."""

    going: tuple[Going, ...]
    staying: tuple[Stay, ...]
    needed: frozenset[str]


def models_of(site: Site) -> list[str]:
    """Return every model that has runs at the site, or may have its first one now."""
    here = (file.parent.name for file in site.project.glob("models/*/model.toml"))
    return sorted({*here, *(name.split("/")[1] for name in site.state.folders("runs/"))})


def prune(
    site: Site,
    model: str | None,
    rules: RetentionSettings,
    now: datetime,
    *,
    do_it: bool = False,
    on_removed: Callable[[Item], object] = lambda _: None,
) -> tuple[list[Item], list[Stay]]:
    """Return what of *model* (None: of all, and what they share) goes and what stays; *do_it*: take it away.

    A model that is being trained stays as it is, and what models share does then.

    Raises:
        UsageError: The model has no runs here.
        BackendUnavailable: Somebody gives no answer; what is done is done.
        RunTakenOver: This process slept for so long that a run has begun.
    """
    every = models_of(site)
    if model and model not in every:
        raise UsageError(f"{model} has no runs at site {site.name}", found=f"runs of {', '.join(every) or 'nothing'}")
    with ExitStack() as held:
        wanted, leases, busy = [model] if model else every, dict[str, Lease](), list[Stay]()
        if do_it:
            leases, busy = _hold(site, wanted, held)
        free = list(leases) if do_it else wanted
        looks = {name: look_at(site, name, rules, now) for name in free}
        going = [part for look in looks.values() for part in look.going]
        if model is None and free == every:
            needed = {name: look.needed for name, look in looks.items()}
            going.append(Going(tuple(leftovers(site, needed, rules, now))))
        if do_it:
            _take_away(going, leases.values(), on_removed)
    staying = [*busy, *(stay for look in looks.values() for stay in look.staying)]
    return [item for part in going for item in part.items], staying


def _hold(site: Site, models: Iterable[str], held: ExitStack) -> tuple[dict[str, Lease], list[Stay]]:
    """Keep runs and rollbacks of *models* out until *held* ends; return the leases, and what is under way."""
    leases, busy = dict[str, Lease](), []
    for model in models:
        try:
            lease = held.enter_context(only_run(site.state, model, PRUNING))
            held.enter_context(alone_with(site.state, f"champions/{model}"))
            leases[model] = lease
        except RunUnderWay as error:
            busy.append(Stay(model, "everything", (f"{error.what}: {error.found}",)))
    return leases, busy


def look_at(site: Site, model: str, rules: RetentionSettings, now: datetime) -> Look:
    """Return what of *model* goes and what stays; changes nothing.

    Raises:
        BackendUnavailable: Somebody gives no answer: what is not known to be unneeded is not removed.
    """
    places, runs = _places(site, model, rules), past_runs(site, model)
    use = uses(site, model, places)
    why = reasons(site, runs, use, rules, now)
    gone = {run.digest for run in runs if not why[run.key]}
    needed = {run.digest for run in runs if run.digest and why[run.key]} | {digest for _, digest in use.tags} - gone
    finder = _Finder(site, rules, now, places, needed, {one.version: one for one in site.models.versions(model)})
    return Look(
        going=tuple(going for run in runs if not why[run.key] and (going := finder.of(run)).items),
        staying=tuple(Stay(model, str(run), why[run.key], finder.own_bytes(run)) for run in runs if why[run.key]),
        needed=frozenset(needed),
    )


def _take_away(going: Iterable[Going], leases: Collection[Lease], on_removed: Callable[[Item], object]) -> None:
    for part in going:
        for lease in leases:  # a process that slept for long finds them taken over, and goes no further
            lease.confirm()
        part.note()
        crashpoint("prune:noted")
        for item in part.items:
            item.remove()
            crashpoint(f"prune:{item.kind}")
            on_removed(item)


def _places(site: Site, model: str, rules: RetentionSettings) -> list[ImageRegistry]:
    """Return where images are removed: the registry first, for the layout could make it good again."""
    layout, registry = site.layout(model), site.registry(model)
    return [*([registry] if rules.registry and registry.name != layout.name else []), layout]


_Found = tuple[str, str, int, Callable[[], object]]
"""Kind, name, size in bytes, and how it is removed."""


class _Finder:
    """Finds what there is yet of runs that nothing needs."""

    def __init__(
        self,
        site: Site,
        rules: RetentionSettings,
        now: datetime,
        places: Sequence[ImageRegistry],
        needed: Iterable[str],
        versions: Mapping[str, ModelVersion],
    ) -> None:
        self._site, self._rules, self._now, self._places, self._versions = site, rules, now, places, versions
        self._counted = set(_blobs_of(places[-1], needed))
        self._job_blobs = _grouped(site.state.list("jobs/"))

    def of(self, run: PastRun) -> Going:
        """Return what goes of the run."""
        item = partial(Item, model=run.model, of=str(run), why=f"{(self._now - run.ended).days} days old, not needed")
        items = [item(*found) for look in (self._images, self._version, self._job, self._state) for found in look(run)]
        is_noted = not run.record or "pruned" in run.record
        return Going(tuple(items), (lambda: None) if is_noted else partial(_note, self._site, run, self._now))

    def own_bytes(self, run: PastRun) -> int:
        """Return what job and journal of the run take."""
        blobs = (*run.blobs, *self._job_blobs.get(run.key, ()))
        sizes = [*map(size_of, self._folders(run)), *(blob.size_bytes for blob in blobs)]
        return sum(sizes)

    def _images(self, run: PastRun) -> Iterator[_Found]:
        for images in self._places:
            if run.digest and images.resolve(run.digest):
                blobs = _blobs_of(images, [run.digest])
                size = sum(size for digest, size in blobs.items() if digest not in self._counted)
                self._counted |= set(blobs) if images is self._places[-1] else set()
                yield "image", images.reference(run.digest), size, partial(_remove_image, images, run)

    def _version(self, run: PastRun) -> Iterator[_Found]:
        if run.version and (there := self._versions.get(run.version)):
            size = size_of(Path(unquote(urlparse(there.uri).path)))
            remove = partial(self._site.models.remove, run.model, run.version)
            yield "model version", f"{run.model} {run.version}", size, remove

    def _folders(self, run: PastRun) -> list[Path]:
        work = self._site.settings.compute.work
        return [*sorted((work / "jobs").glob(f"{run.key}*")), *(work / "reports" / run.model).glob(f"{run.key}.*")]

    def _job(self, run: PastRun) -> Iterator[_Found]:
        for path in self._folders(run):
            yield "job folder", str(path), size_of(path), partial(delete, path)

    def _state(self, run: PastRun) -> Iterator[_Found]:
        days, folder = self._rules.keep_records_days, f"runs/{run.model}/{run.key}/"
        trail = {f"{folder}{name}" for name in TRAIL} if run.record else set[str]()
        blobs = [blob for blob in run.blobs if blob.name not in trail]
        blobs += self._job_blobs.get(run.key, ())
        if days and "pruned" in run.record and self._now - run.ended >= timedelta(days=days):
            blobs += self._site.state.list(f"decisions/{run.model}/{run.key}/")
            blobs += [blob for blob in run.blobs if blob.name in trail and not blob.name.endswith(RECORD_FILE)]
            blobs += [blob for blob in run.blobs if blob.name.endswith(RECORD_FILE)]  # which says that there is more
        if blobs:
            yield "state", folder, sum(blob.size_bytes for blob in blobs), partial(forget, self._site.state, blobs)


def _note(site: Site, run: PastRun, now: datetime) -> None:
    change_record(Journal(site.state, run.model, run.key), site.keys, run.record, pruned=iso(now))


def _remove_image(images: ImageRegistry, run: PastRun) -> None:
    assert run.digest
    named = images.resolve(run.version) if run.version else None
    if run.version and named and named[0].digest == run.digest:
        images.untag(run.version)
    crashpoint("prune:untagged")
    for one in images.referrers(run.digest):
        images.delete(one.digest)
    crashpoint("prune:unattested")
    images.delete(run.digest)


def _blobs_of(images: ImageRegistry, digests: Iterable[str]) -> dict[str, int]:
    """Return the blobs of these images, each with what its removal frees."""
    found = dict[str, int]()
    for digest in digests:
        there = images.resolve(digest)
        with suppress(ImageFailed):  # an index of images, which somebody has put there
            config, layers = parts_of(there[1]) if there else (None, ())
            found |= {one.digest: _freed_bytes(images, one) for one in (config, *layers) if one}
    return found


def _freed_bytes(images: ImageRegistry, blob: Descriptor) -> int:
    """Return what is free without the blob: nothing while the cache or another model's layout has it as a link."""
    path = images.local_blob(blob.digest)
    return 0 if path and path.stat().st_nlink > 1 else blob.size_bytes


def _grouped(blobs: Iterable[Blob]) -> dict[str, list[Blob]]:
    """Return the blobs of jobs by the key of their run: jobs are named for it, `jobs/KEY` and `jobs/KEY-2`."""
    found = dict[str, list[Blob]]()
    for blob in blobs:
        found.setdefault(blob.name.split("/")[1][:64], []).append(blob)
    return found
