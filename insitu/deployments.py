"""Deployments of a model: each target is given the champion's image, once it has answered there, and noted.

What a target runs is in the site's state, `deployments/MODEL/NAME.json`: the digest, and what it ran before. Whoever
changes a target holds its lease, and asks while holding it which version is wanted: of a retraining and a rollback at
the same time the rollback wins.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from insitu.crashpoints import crashpoint
from insitu.egress import Door
from insitu.errors import BackendUnavailable, DeployFailed, InsituError
from insitu.gate import Decision
from insitu.leases import alone_with
from insitu.marks import DEPLOYMENTS, entries
from insitu.ports import ModelVersion, Release, Scorer, Target
from insitu.release import Published
from insitu.runs import Run
from insitu.settings import ModelSettings
from insitu.smoke import compare_answers
from insitu.triggers import documents
from insitu.wiring import CHAMPION, Site

log = logging.getLogger(__name__)

_HISTORY = 20


@dataclass(frozen=True)
class Deployed:
    """What became of one target.

    Attributes:
        address: Where people find what it runs.
        was: The digest that it ran before; None when it ran none, the same when nothing was to be done.
    """

    name: str
    kind: str
    digest: str
    version: str
    address: str
    was: str | None
    seconds: float


def deployed(site: Site, model: str) -> Mapping[str, str]:
    """Return the digest that each target of *model* runs, by the target's name, as the site's state has it."""
    return {name: str(entry["digest"]) for name, entry in entries(site.state, model).items()}


def deploy_run(run: Run, job: str, decision: Decision, version: ModelVersion, published: Published) -> list[Deployed]:
    """Give the image that the run has published to the targets of model.toml; see `deploy_to`.

    A version that is not the champion, or no more, is deployed nowhere.

    Args:
        job: The one that trained: it has left the golden rows.
    """
    site, model = run.site, run.model.name
    golden = site.jobs.output(job) / "golden.json"
    release = release_of(site, run.model, version.version, published.digest, golden)
    targets = [
        site.target(model, one)
        for one in run.model.targets(site.name)
        if one.when == "promoted" or decision.outcome == "Approved"
    ]

    def wanted() -> bool:
        champion = site.models.alias(model, CHAMPION)
        return champion is not None and champion.version == version.version

    return deploy_to(site, targets, release, run.door, wanted)


def release_of(site: Site, model: ModelSettings, version: str, digest: str, golden: Path) -> Release:
    """Return a published image; a server of it is asked the golden rows, where they still are."""

    def answers(scorer: Scorer) -> None:
        if golden.is_file():
            compare_answers(scorer, golden, model.smoke.tolerance)

    return Release(model.name, version, digest, site.registry(model.name), answers, request_sample(golden))


def request_sample(golden: Path) -> dict[str, Any]:
    """Return a request of one row with the columns of the golden rows, and no value of theirs."""
    try:
        split = json.loads(golden.read_text())["request"]["dataframe_split"]
    except FileNotFoundError:
        return {"dataframe_split": {"columns": [], "data": []}}
    first = split["data"][0] if split["data"] else []
    row = [type(value)() if isinstance(value, str | int | float) else None for value in first]
    return {"dataframe_split": {"columns": split["columns"], "data": [row]}}


def deploy_to(
    site: Site, targets: Sequence[Target], release: Release, door: Door, wanted: Callable[[], bool]
) -> list[Deployed]:
    """Give each target the image, and return what became of them; those that fail do not keep the others.

    *wanted* is asked while a target is held: where it says no, the target stays as it is and is left out.

    Args:
        door: Writes down that the image goes to a target, before it does.

    Raises:
        DeployFailed: Targets refuse the image, it does not answer there, or it may not go on by a waiver any more.
        BackendUnavailable: One target gives no answer, and the others have the image.
    """
    done, failed = [], dict[str, InsituError]()
    reference = release.images.reference(release.digest)
    for target in targets:
        name = target.settings.name
        try:
            with alone_with(site.state, f"{DEPLOYMENTS}/{release.model}/{name}"):
                if wanted():
                    door.published(f"deployment to {name}", target.address, release.images, release.digest)
                    done.append(_deploy(site, target, release, reference))
        except InsituError as error:
            failed[name] = error
        except OSError as exc:  # a file that cannot be written, say
            failed[name] = DeployFailed(f"{target.address} cannot be changed", found=exc.strerror)
        if found := failed.get(name):
            log.warning("%s is not deployed to %s: %s", release.digest[:19], name, found.what)
    if failed:
        raise _failure(release, failed, len(targets))
    return done


def _deploy(site: Site, target: Target, release: Release, reference: str) -> Deployed:
    started, before = time.monotonic(), target.serves()
    if before != release.digest:
        target.put(release)
        crashpoint("deploy:put")
    seconds = round(time.monotonic() - started, 2)
    told = target.settings
    done = Deployed(told.name, told.kind, release.digest, release.version, target.address, before, seconds)
    _note(site, release.model, done, reference)
    log.info("%s runs %s of version %s at %s", told.name, release.digest[:19], release.version, target.address)
    return done


def _note(site: Site, model: str, done: Deployed, reference: str) -> None:
    """Write down what the target runs now; what it ran before goes into its history."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    new = {key: value for key, value in asdict(done).items() if key not in ("was", "seconds")}
    new |= {"reference": reference, "when": when}

    def edit(found: Any) -> Any:
        if found is None:
            return {**new, "history": []}
        if found["digest"] == done.digest and found["address"] == done.address:
            return None
        earlier = {key: found[key] for key in ("digest", "version", "reference", "when")} | {"until": when}
        return {**new, "history": [*found["history"], earlier][-_HISTORY:]}

    documents.change(site.state, f"{DEPLOYMENTS}/{model}/{done.name}.json", edit)


def _failure(release: Release, failed: Mapping[str, InsituError], count: int) -> InsituError:
    if len(failed) == 1:
        ((name, error),) = failed.items()
        kind = type(error) if isinstance(error, DeployFailed | BackendUnavailable) else DeployFailed
        what = f"version {release.version} of {release.model} is not deployed to {name}: {error.what}"
        return kind(what, found=error.found, wanted=error.wanted, next_action=error.next_action)
    return DeployFailed(
        f"version {release.version} of {release.model} is not deployed to {len(failed)} of {count} targets",
        found="; ".join(f"{name}: {error.what}" for name, error in failed.items()),
        next_action="see to them, then start it again: what is done stays done",
    )
