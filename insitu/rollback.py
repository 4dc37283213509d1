"""Back to an earlier published version, in one order: alias `champion`, tag `latest`, and every deployment.

The order is signed and written down first: from then on no run makes the version that gave way champion again, and
whoever starts a rollback after one that was interrupted goes on with it. Nothing is built, and where the images are
still at hand nothing is sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from insitu.acts import Act
from insitu.crashpoints import crashpoint
from insitu.deployments import Deployed, deploy_to, release_of
from insitu.egress import Door, sign_ledger
from insitu.errors import BlobExists, InsituError, PublishFailed, RegistryFailed, UsageError
from insitu.images.publish import Sent, publish_image
from insitu.journal import Journal
from insitu.leases import alone_with
from insitu.lineage import Records, now
from insitu.marks import entries
from insitu.ports import Target
from insitu.rulings import require_approver
from insitu.settings import ModelSettings
from insitu.waivers import WAIVED
from insitu.wiring import CHAMPION, Site
from insitu.withdrawals import Rollback

Published = Mapping[str, Mapping[str, Any]]
"""The run record of each published version."""


@dataclass(frozen=True)
class Outcome:
    """What a rollback has brought about.

    Attributes:
        was: The version that gave way; None when *to* was in place before.
        to: The version that is champion now.
        order: Name of the signed order in the site's state; None when there was none to give.
        deployment: What became of each target.
        left: Targets that stay as they are, and why.
        egress: What the registry had lost and was sent again.
    """

    model: str
    was: str | None
    to: str
    digest: str
    reference: str
    order: str | None
    who: str
    reason: str
    when: str
    deployment: tuple[Deployed, ...]
    left: Mapping[str, str]
    egress: tuple[dict[str, Any], ...]
    seconds: float


def roll_back(site: Site, model: ModelSettings, to: str | None, act: Act) -> Outcome:
    """Put an earlier published version in the place of the champion; None: the one that it has replaced.

    An interrupted rollback is gone on with. Where the champion is in place by a rollback already, or is *to*, there
    is no further one: alias, tag and deployments are only seen to.

    Raises:
        UsageError: There is no such version, or none before.
        DecisionRefused: The site does not let this person decide.
        LeakFound: What the version left by is not waived any more.
        SignatureRefused: An earlier order is not what a trusted key has signed.
        PublishFailed: Neither registry nor layout has the image any more.
        DeployFailed: A target does not take it; the others have been tried.
        BackendUnavailable: No answer; started again, it goes on.
    """
    started, ledger = time.monotonic(), site.withdrawals(model.name)
    require_approver(site, act.who)
    with alone_with(site.state, f"champions/{model.name}"):  # runs that publish, and prunes, come before or after
        published = _published(site, model.name)
        order = _order(site, model.name, published, to and to.removeprefix("v"), act)
        crashpoint("rollback:ordered")
        reference, sent = _crown(site, order, published[order.to])
    is_done = not order.number or ledger.outcome(order) is not None
    done, left = _redeploy(site, model, order, published)
    outcome = Outcome(
        model=model.name,
        was=None if is_done else order.was,
        to=order.to,
        digest=order.digest,
        reference=reference,
        order=ledger.name(order) if order.number else None,
        who=order.who,
        reason=order.reason,
        when=order.when,
        deployment=tuple(done),
        left=left,
        egress=tuple(one.to_json() for one in sent),
        seconds=round(time.monotonic() - started, 2),
    )
    if not is_done:
        ledger.close(order, asdict(outcome))
    return outcome


def _published(site: Site, model: str) -> Published:
    """Return the records of what is published; also of a run that failed afterwards, while it was deployed."""
    records = Records(site.state).of_model(model)
    return {one["model_version"]["version"]: one for one in records if one["publication"] and "pruned" not in one}


def _order(site: Site, model: str, published: Published, to: str | None, act: Act) -> Rollback:
    """Return the order that holds now: one that is open, or a new one; number 0 where nothing is to be ordered."""
    ledger, champion = site.withdrawals(model), site.models.alias(model, CHAMPION)
    orders = ledger.orders()
    newest = orders[-1] if orders else None
    if newest and to in (None, newest.to) and champion:
        is_open = ledger.outcome(newest) is None
        if champion.version == newest.to or (is_open and champion.version == newest.was):
            return newest
    if champion is None:
        if published:
            raise UsageError(
                f"{model} has no champion",
                found=f"none in {site.models.place}; published were versions {', '.join(published)}",
                wanted="the model registry that those runs published to",
                next_action="if the registry was lost, put it back before the next run (docs/recover.md)",
            )
        raise UsageError(f"{model} has no champion: nothing was published", next_action=f"see `insitu history {model}`")
    wanted = to or way_back(model, champion.version, published, ledger.withdrawn())
    if wanted not in published:
        raise UsageError(
            f"{model} has no published version {wanted}",
            found=f"versions {', '.join(published)}" if published else "none",
            next_action=f"see `insitu history {model}`",
        )
    number = 0 if wanted == champion.version else (newest.number + 1 if newest else 1)
    digest = published[wanted]["publication"]["digest"]
    order = Rollback(number, model, site.name, champion.version, wanted, digest, act.who, act.reason, now())
    if number:
        if waived := Journal(site.state, model, published[wanted]["run_key"]).entry(WAIVED):
            site.waivers(model).settled(waived, datetime.now(UTC))  # else targets would refuse it half-way
        with suppress(BlobExists):  # only one who has lost the lease meanwhile can come second
            ledger.give(order)
    return order


def way_back(model: str, version: str, published: Published, withdrawn: frozenset[str]) -> str:
    """Return the version that *version* has replaced; of those that were rolled back from, what these had replaced."""
    seen = {version}
    while version in published:
        version = (published[version]["decision"] or {}).get("champion") or ""
        if version in published and version not in withdrawn:
            return version
        if version in seen:
            break
        seen.add(version)
    raise UsageError(
        f"{model} has no earlier version to go back to",
        found=f"versions {', '.join(published)}" if published else "none",
        wanted="--to VERSION of a published one",
    )


def _crown(site: Site, order: Rollback, record: Mapping[str, Any]) -> tuple[str, list[Sent]]:
    """Point alias and tag at the version; return its reference, and what had to be sent for it."""
    registry, layout = site.registry(order.model), site.layout(order.model)
    source = next((one for one in (registry, layout) if one.resolve(order.digest)), None)
    if source is None:
        raise PublishFailed(
            f"the image of {order.model} version {order.to} is gone",
            found=f"neither {registry.name} nor {layout.name} has it",
            wanted=order.digest,
            next_action="import its bundle, if there is one, or name another version with --to",
        )
    try:
        site.models.set_alias(order.model, CHAMPION, order.to)
    except RegistryFailed as error:
        error.next_action = error.next_action or "name another version with --to"
        raise
    crashpoint("rollback:alias")
    sent: list[Sent] = []
    door = Door(Journal(site.state, order.model, record["run_key"]), site.waivers(order.model))
    let_out = door.image(source, record["image"]["layers"], record.get("residency"))

    def note(one: Sent) -> None:
        let_out(one)
        sent.append(one)

    publication = publish_image(order.digest, source, registry, (order.to, "latest"), note)
    sign_ledger(door.journal, site.keys)
    crashpoint("rollback:tagged")
    return publication.reference, sent


def _redeploy(
    site: Site, model: ModelSettings, order: Rollback, published: Published
) -> tuple[list[Deployed], dict[str, str]]:
    """Give the image to every target that follows the champion; return what became of them, and which stay."""
    record = published[order.to]
    golden = site.jobs.output(record["training"]["job"]) / "golden.json"
    release = release_of(site, model, order.to, order.digest, golden)
    targets, left = _following(site, model, order, published)

    def wanted() -> bool:
        champion = site.models.alias(model.name, CHAMPION)
        return champion is not None and champion.version == order.to

    door = Door(Journal(site.state, model.name, record["run_key"]), site.waivers(model.name))
    done = deploy_to(site, targets, release, door, wanted)
    sign_ledger(door.journal, site.keys)
    return done, left


def _following(
    site: Site, model: ModelSettings, order: Rollback, published: Published
) -> tuple[list[Target], dict[str, str]]:
    """Return the targets that go back, and why the others do not."""
    known, settings = entries(site.state, model.name), model.targets(site.name)
    names = {one.name for one in settings}
    left = {name: "model.toml does not name it any more" for name in known if name not in names}
    gave_way = ((published.get(order.was) or {}).get("publication") or {}).get("digest")
    targets = []
    for one in settings:
        target, noted = site.target(model.name, one), known.get(one.name)
        if noted is None and _is_empty(target):
            left[one.name] = "nothing was deployed there"
        elif noted and one.when == "approved" and noted["digest"] not in (gave_way, order.digest):
            left[one.name] = f"it runs version {noted['version']}, and is given what a person has let pass"
        else:
            targets.append(target)
    return targets, left


def _is_empty(target: Target) -> bool:
    """Tell whether the target runs nothing; one that cannot be asked may."""
    try:
        return target.serves() is None
    except InsituError:
        return False
