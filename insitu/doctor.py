"""Looks at everything that a run at a site needs, all at once: what is found, what is wanted, what to do."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from insitu.building import image_checks
from insitu.errors import BlobChanged, BlobExists, InsituError, StateDamaged
from insitu.lineage import Records
from insitu.network import count_authorities
from insitu.ports import BlobStore, Check, Diagnosable, ModelRegistry, ModelVersion, Need
from insitu.readiness import check_disk_here, check_image_platform, failed_check, side_by_side
from insitu.settings import DeployTarget, ModelSettings, SiteSettings, load_settings, load_site
from insitu.surroundings import clock_check, notify_check, ports_check, versions_check
from insitu.telemetry import SWITCHES
from insitu.wiring import Site, open_site

LIMIT_S = 75.0
"""Of one probe: longer than a service that says nothing keeps its client waiting, so that the client names it."""

RESTORE = "put the model registry back from its backup: the versions are nowhere else (docs/recover.md)"
"""What to do about a registry that lacks what was published."""

_WRITTEN = "doctor/written.json"
_RECORDS = "workspace and models"
Probe = Callable[[], Sequence[Check]]


def diagnose(project: Path, site: str, environ: Mapping[str, str], model: str | None = None) -> list[Check]:
    """Return what was looked at, what failed among it.

    Writes one small blob into the site's state, to see that conditions hold there; changes nothing else.

    Args:
        model: Look at what this one needs; None: at what every model of the project does.

    Raises:
        SettingsError: The settings of the site have problems, or name something that is not there; or there is no
            such model.
    """
    settings = load_site(project, site, environ)
    models, checks = _models(project, site, environ, model)
    checks = [
        Check("settings", True, f"deployments/sites/{site}.toml is valid", "valid settings"),
        *checks,
        versions_check(),
        telemetry_check(environ),
        ports_check(settings.services),
        *notify_check(settings.notify),
    ]
    authorities = _authorities(settings)
    if not all(check.ok for check in authorities):  # nobody can be asked without them
        return [*checks, *authorities]
    return [*checks, *authorities, *side_by_side(_probes(open_site(project, settings), models), LIMIT_S)]


def service_probes(site: Site, model: str) -> dict[str, Probe]:
    """Return what asks the services of *site* whether a run of *model* can use them; local ones need no asking."""
    services = [service for service in (site.jobs, site.models) if isinstance(service, Diagnosable)]
    images = site.registry(model)
    probes: dict[str, Probe] = {}
    if site.settings.azure:
        probes["azure identity"] = site.sign_in_checks
    if services:  # one after the other: two threads that import the same large SDK for the first time block each other
        probes[_RECORDS] = lambda: _in_turn(*(service.checks for service in services))
    if isinstance(images, Diagnosable):
        probes["image registry"] = images.checks
    if site.daemon or site.settings.images.base:
        probes["images"] = lambda: image_checks(site)
    if isinstance(site.scoring, Diagnosable) and not site.daemon:  # else it is the same one
        probes["smoke test"] = site.scoring.checks
    return probes


def key_check(site: Site) -> Check:
    """Tell whether decisions can be signed; makes no key."""
    wanted = "an ed25519 key that signs decisions"
    try:
        known = site.keys.trusted()
    except InsituError as error:
        return failed_check("signing key", error, wanted)
    found = ", ".join(key.id[:12] for key in known) or "none yet: it is made at the first verdict"
    return Check("signing key", True, found, wanted)


def telemetry_check(environ: Mapping[str, str]) -> Check:
    """Tell whether *environ* leaves the telemetry of every library off, which is how insitu starts them."""
    on = [name for name, off in SWITCHES.items() if environ.get(name, off).lower() != off]
    found = ", ".join(f"{name} is set otherwise" for name in on) or f"off by {len(SWITCHES)} variables"
    next_action = f"take {', '.join(on)} out of the environment" if on else ""
    return Check("telemetry", not on, found, "no library reports to its maker", next_action)


def machine_checks(settings: SiteSettings) -> list[Check]:
    """Look at this machine, which assembles the images wherever jobs run."""
    disk = check_disk_here([settings.images.root, settings.compute.work])
    return [disk] if settings.compute.kind == "process" else [check_image_platform(), disk]


def _probes(site: Site, models: Mapping[str, ModelSettings]) -> dict[str, Probe]:
    containers = tuple(dict.fromkeys(model.data.container for model in models.values()))
    name = next(iter(models), "doctor")
    probes: dict[str, Probe] = {"compute": lambda: site.compute.readiness(_need(models.values(), containers))}
    ages = site.compute.checks if isinstance(site.compute, Diagnosable) else list
    probes["credentials"] = lambda: [*ages(), *site.age_checks()]
    probes["state"] = lambda: [_state_check(site.state), clock_check(site.state, _WRITTEN)]
    for container in containers:
        probes[f"data {container}"] = partial(_data_checks, site, container)
    if site.settings.registry:
        probes["image registry"] = lambda: [_published(site, name)]
    probes |= service_probes(site, name)
    records = probes.get(_RECORDS, list)
    probes[_RECORDS] = lambda: _in_turn(records, lambda: [_registered(site, list(models) or [name])])
    probes["signing key"] = lambda: [key_check(site)]
    targets = [(model.name, one) for model in models.values() for one in model.targets(site.name)]
    probes |= {f"target {one.name} of {model}": partial(_target_check, site, model, one) for model, one in targets}
    return {**probes, "this machine": lambda: machine_checks(site.settings)}


def _in_turn(*probes: Probe) -> list[Check]:
    """Return what *probes* find, up to the one that finds no workspace: the others would wait for it, too."""
    checks: list[Check] = []
    for probe in probes:
        if not any(check.name == "workspace" and not check.ok for check in checks):
            checks += probe()
    return checks


def _models(
    project: Path, site: str, environ: Mapping[str, str], only: str | None
) -> tuple[dict[str, ModelSettings], list[Check]]:
    models: dict[str, ModelSettings] = {}
    checks = []
    there = [file.parent.name for file in sorted(project.glob("models/*/model.toml"))]
    if only is not None and only not in there:
        load_settings(project, site, only, environ)  # says so
    for name in there if only is None else [only]:
        try:
            _, models[name] = load_settings(project, site, name, environ)  # what its targets want of the site, too
            checks.append(Check(f"model {name}", True, "settings are valid", "valid settings"))
        except InsituError as error:
            checks.append(
                Check(f"model {name}", False, error.render(), "valid settings", f"mend models/{name}/model.toml")
            )
    return models, checks


def _need(models: Iterable[ModelSettings], containers: tuple[str, ...]) -> Need:
    """Return what the most demanding model declares."""
    needs = [model.needs for model in models]
    memory_mb, disk_mb = (max((getattr(need, key) for need in needs), default=0) for key in ("memory_mb", "disk_mb"))
    cores = max((need.cores for need in needs), default=1)
    return Need(cores, memory_mb * 1_000_000, disk_mb * 1_000_000, containers)


def _authorities(settings: SiteSettings) -> list[Check]:
    bundle = settings.network.ca_bundle
    if bundle is None:
        return []
    wanted = "a PEM file of certificates"
    try:
        count = count_authorities(bundle)
    except InsituError as error:
        return [Check("ca bundle", False, error.found or error.what, wanted, error.next_action or "")]
    return [Check("ca bundle", count > 0, f"{count} authorities", wanted, "mend network.ca_bundle")]


def _state_check(state: BlobStore) -> Check:
    """Write under conditions that hold, and under one that does not: a store that ignores it would lose decisions."""
    wanted = "readable, and written under conditions only"
    try:
        blob = state.create(_WRITTEN, _content())
    except BlobExists:
        blob = state.stat(_WRITTEN)
    try:
        for _ in range(2):  # the second one is stale
            state.replace(_WRITTEN, _content(), etag=blob.etag)
    except BlobChanged:
        state.read(_WRITTEN)
        return Check("state", True, "readable and writable; a stale write is refused", wanted)
    raise StateDamaged(
        "the site's state takes a write whose condition does not hold",
        found="a version that was overwritten was overwritten again",
        wanted="a store that honours If-Match",
        next_action="keep the state elsewhere",
    )


def _content() -> bytes:
    """Return other bytes each time: a folder's ETag follows from them."""
    return json.dumps({"written": datetime.now(UTC).isoformat(), "token": uuid.uuid4().hex}).encode()


def _data_checks(site: Site, container: str) -> list[Check]:
    store, name, wanted = site.data(container), f"data {container}", "a container that can be listed and read"
    first = next(iter(store.names()), None)
    if first is None:
        return [Check(name, True, f"readable; no blob yet in {site.data_place(container)}", wanted)]
    blob = store.stat(first)
    store.read(first, etag=blob.etag, length=1)
    return [Check(name, True, "readable", wanted)]


def unregistered(
    registry: ModelRegistry, model: str, records: Iterable[Mapping[str, Any]], versions: Iterable[ModelVersion]
) -> list[str]:
    """Return the versions of *model* that its *records* say are published, and the registry lacks.

    Args:
        versions: Those that the registry lists; it has others, too, which somebody has archived.

    Raises:
        InsituError: The registry cannot be read.
    """
    listed = {version.version for version in versions}
    published = {one["model_version"]["version"]: one for one in records if one["publication"] and "pruned" not in one}
    missing = ((version, one["run_key"]) for version, one in published.items() if version not in listed)
    return [version for version, run_key in missing if registry.find(model, run_key) is None]


def _registered(site: Site, models: Sequence[str]) -> Check:
    place, records = site.models.place, Records(site.state)
    try:
        listed = {model: site.models.versions(model) for model in models}
        lost = {model: unregistered(site.models, model, records.of_model(model), listed[model]) for model in models}
    except InsituError as error:
        return failed_check("model registry", error, place)
    if not any(lost.values()):
        counts = ", ".join(f"{len(versions)} versions of {model}" for model, versions in listed.items())
        return Check("model registry", True, f"answers; it has {counts}", place)
    named = "; ".join(f"{', '.join(f'v{one}' for one in some)} of {model}" for model, some in lost.items() if some)
    return Check(
        "model registry",
        False,
        f"answers, but lacks what was published: {named}",
        f"every published version, in {place}",
        f"{RESTORE}; until then a run may meet no champion",
    )


def _published(site: Site, model: str) -> Check:
    images = site.registry(model)
    there = images.resolve("latest") is not None
    return Check(
        "image registry", True, f"answers; latest of {model} is {'there' if there else 'not there yet'}", images.name
    )


def _target_check(site: Site, model: str, wanted: DeployTarget) -> list[Check]:
    target, name = site.target(model, wanted), f"target {wanted.name} of {model}"
    digest = target.serves()
    return [Check(name, True, f"runs {digest[:19]}" if digest else "runs no image of it yet", target.address)]
