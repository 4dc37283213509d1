"""`insitu twin`: the loopback estate that plays Azure and an Azure Stack Hub."""

from __future__ import annotations

import json
import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from insitu.options import DEFAULT_SITE, json_option, model_argument, project_option

if TYPE_CHECKING:
    from insitu.ports import BlobStore
    from insitu.twin.journal import Line

BACKENDS = ("attached-vm", "kubernetes", "docker")


@click.group()
def twin() -> None:
    """An estate on this machine that plays Azure and an Azure Stack Hub, to rehearse a site before production.

    \b
      insitu twin up --detach             the estate, and deployments/sites/twin.toml
      insitu doctor --site twin           what a run needs
      insitu retrain flights --site twin  the whole flow, as in production
      insitu twin log --egress            what went to public hosts
      insitu twin down
    """


@twin.command()
@click.option("--detach", is_flag=True, help="Come back when it is ready; it runs until `insitu twin down`.")
@click.option("--backend", type=click.Choice(BACKENDS), default=BACKENDS[0], show_default=True, help="How jobs run.")
@click.option(
    "--hub-identity", type=click.Choice(["entra", "adfs"]), default="entra", show_default=True,
    help="What the hub signs in with.",
)  # fmt: skip
@click.option("--name", "site", default="twin", show_default=True, help="Site whose settings are written.")
@click.option(
    "--install/--no-install", default=True, show_default=True, help="Install what is missing, as `make twin`."
)
@json_option
@project_option
def up(project: Path, detach: bool, backend: str, hub_identity: str, site: str, install: bool, as_json: bool) -> None:
    """Start the estate, write the site's settings and put the example data in place."""
    from insitu.twin import process

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = process.start(
        project, _folder(project), backend=backend, hub_identity=hub_identity, site=site, install=install
    )
    try:
        _put_example_data(project, site)
        told = {"site": site, "settings": f"deployments/sites/{site}.toml", "proxy": f"http://127.0.0.1:{run.port}"}
        click.echo(
            json.dumps(told | {"backend": backend, "pid": run.pid}, indent=1)
            if as_json
            else f"the twin is ready: site {site} ({told['settings']}), proxy {told['proxy']}\n"
            f"next: insitu doctor --site {site}; insitu retrain flights --site {site}"
        )
        if not detach:
            click.echo("Ctrl-C ends it", err=True)
            _wait_for_end(run)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    finally:
        if not detach:
            process.stop(run.folder)


@twin.command()
@model_argument
@json_option
@project_option
def put(project: Path, model: str, as_json: bool) -> None:
    """Put MODEL's blobs of the site local on the hub, into a container of the same name; what is there stays."""
    from insitu.settings import load_settings
    from insitu.wiring import open_site

    run = _running(project)
    local, settings = load_settings(project, DEFAULT_SITE, model, os.environ)
    here = open_site(project, local).data(settings.data.container)
    run.ask("POST", "/containers", {"name": settings.data.container})
    there = _hub_blobs(project, run.site, settings.data.container)
    present = set(there.names())
    names = [name for name in here.names() if fnmatchcase(name, settings.data.blobs) and name not in present]
    for name in names:
        there.create(name, here.read(name))
        click.echo(f"put {name}", err=as_json)
    if as_json:
        click.echo(json.dumps({"blobs": names}))
    else:
        click.echo(f"next: insitu retrain {model} --site {run.site}")


@twin.command()
@json_option
@project_option
def down(project: Path, as_json: bool) -> None:
    """End the estate. Its blobs, keys and logs stay in var/twin, and the next `up` goes on with them."""
    from insitu.twin import process

    ran = process.stop(_folder(project))
    click.echo(json.dumps({"ran": ran}) if as_json else "the twin is down" if ran else "no twin ran")


@twin.command()
@json_option
@project_option
def status(project: Path, as_json: bool) -> None:
    """Tell whether the estate runs, what it was told to do wrong, and what was asked of it. Exit 1 if it is down."""
    from insitu.twin import process
    from insitu.twin.journal import Journal

    run = process.find(_folder(project))
    if run is None:
        click.echo(json.dumps({"running": False}) if as_json else "no twin runs; next: insitu twin up --detach")
        raise SystemExit(1)
    journal = Journal(run.folder)
    counts = {side: sum(1 for _ in journal.lines(side)) for side in ("public", "hub", "unknown")}
    told = {"running": True, "site": run.site, "proxy": f"http://127.0.0.1:{run.port}", "requests": counts}
    told |= run.ask("GET", "/status")
    if as_json:
        click.echo(json.dumps(told, indent=1))
        return
    click.echo(f"site {run.site} ({run.backend}), proxy {told['proxy']}")
    click.echo(f"requests: {counts['public']} to public hosts, {counts['hub']} to the hub, {counts['unknown']} refused")
    _print_faults(told)


@twin.command()
@click.option("--egress", is_flag=True, help="Only what went to public hosts, or to hosts that the twin does not play.")
@click.option("--lines", is_flag=True, help="Every request, instead of sums.")
@click.option("--clear", is_flag=True, help="Forget the requests up to now, and the bodies that were kept.")
@json_option
@project_option
def log(project: Path, egress: bool, lines: bool, clear: bool, as_json: bool) -> None:
    """Show what was asked of the estate: destination, kind, bytes. var/twin/bodies has what went to public hosts."""
    from insitu.twin.journal import Journal

    journal = Journal(_folder(project))
    if clear:
        journal.clear()
        if as_json:
            click.echo("[]")
        return
    found = list(journal.lines(*(("public", "unknown") if egress else ("public", "unknown", "hub"))))
    if as_json:
        click.echo(json.dumps([line.__dict__ for line in found], indent=1))
    elif lines:
        for line in sorted(found, key=lambda one: one.time):
            click.echo(
                f"{line.time[11:23]}  {line.status:>3}  {line.bytes_out:>10,}  {line.bytes_in:>10,}  {line.kind:<14}  "
                f"{line.method} {line.host}{line.path}"
            )
    else:
        _print_sums(found)


@twin.group()
def fault() -> None:
    """Let the estate fail: single answers (add), or something that lasts (set)."""


@fault.command()
@click.argument("kind")
@click.option("--host", default="*", show_default=True, help="Which hosts, such as '*.azurecr.io'.")
@click.option("--path", default="", help="Which paths with their query: a regular expression that is searched for.")
@click.option("--method", default="*", show_default=True, help="Which requests, such as PUT.")
@click.option(
    "--when", type=click.Choice(["before", "after"]), default="before", show_default=True,
    help="Before the service sees the request, or after its work is done: then only the answer is lost.",
)  # fmt: skip
@click.option("--times", type=click.IntRange(0), default=1, show_default=True, help="How often; 0 is always.")
@click.option("--skip", type=click.IntRange(0), default=0, show_default=True, help="Let so many through first.")
@json_option
@project_option
def add(project: Path, as_json: bool, **asked: Any) -> None:
    """Let answers to the next requests go wrong.

    \b
    KIND is one of
      status:503              this status
      status:429:7            this status, with Retry-After: 7
      drop                    the connection is reset
      silence                 nothing is said any more
      garbage                 a page of somebody else, status 200
      truncate                half of the body, then the end
      slow:5                  the answer comes 5 seconds late
      certificate:expired     also certificate:foreign, certificate:other-host
    """
    _tell_faults(_running(project).ask("POST", "/faults", asked), as_json)


@fault.command("set")
@click.argument("condition")
@json_option
@project_option
def set_(project: Path, condition: str, as_json: bool) -> None:
    """Let CONDITION hold until it is cleared, such as queue-stuck; a wrong one is answered with all there are."""
    _tell_faults(_running(project).ask("POST", "/faults", {"condition": condition}), as_json)


@fault.command("clear")
@click.argument("condition", required=False)
@json_option
@project_option
def clear_(project: Path, condition: str | None, as_json: bool) -> None:
    """Let everything go well again, or undo one CONDITION."""
    query = f"?condition={condition}" if condition else ""
    _tell_faults(_running(project).ask("DELETE", f"/faults{query}"), as_json)


def _folder(project: Path) -> Path:
    return project / "var" / "twin"


def _running(project: Path) -> Any:
    from insitu.twin import process

    return process.require(_folder(project))


def _put_example_data(project: Path, site: str) -> None:
    """Put the first months on the hub, as an operator would, unless there are some."""
    from insitu import demo

    store = _hub_blobs(project, site, "flights")
    if not demo.months_in_place(store):
        demo.put_months(store, range(1, demo.FIRST_MONTHS + 1))


def _hub_blobs(project: Path, site: str, container: str) -> BlobStore:
    from insitu.network import use_network
    from insitu.settings import load_site
    from insitu.stores import open_blobs

    settings = load_site(project, site, os.environ)
    use_network(settings.network)
    data = settings.data
    return open_blobs({"kind": data.kind, "container": container, "store": data.model_dump(mode="json")})


def _wait_for_end(run: Any) -> None:
    import time

    from insitu.twin import process

    while process.find(run.folder):
        time.sleep(0.5)


def _tell_faults(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        _print_faults(told)


def _print_faults(told: dict[str, Any]) -> None:
    for condition in told["conditions"]:
        click.echo(f"condition  {condition}")
    for one in told["faults"]:
        often = f"{one['times']} times" if one["times"] else "always"
        place = f"{one['method']} {one['host']} {one['path']}".rstrip()
        click.echo(
            f"fault      {one['kind']} {one['when']} {place}, {often}" + (f" after {one['skip']}" * bool(one["skip"]))
        )
    if not told["conditions"] and not told["faults"]:
        click.echo("no faults")


def _print_sums(lines: Iterable[Line]) -> None:
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for line in lines:
        one = sums[line.side, line.host, line.kind]
        one[0], one[1], one[2] = one[0] + 1, one[1] + line.bytes_out, one[2] + line.bytes_in
    click.echo(f"{'destination':<48} {'kind':<16} {'requests':>8} {'bytes out':>14} {'bytes in':>14}")
    for (side, host, kind), (requests, bytes_out, bytes_in) in sorted(sums.items()):
        place = f"{host} (refused)" if side == "unknown" else host
        click.echo(f"{place:<48} {kind:<16} {requests:>8,} {bytes_out:>14,} {bytes_in:>14,}")
    total = [sum(one[index] for one in sums.values()) for index in range(3)]
    click.echo(f"{'total':<65} {total[0]:>8,} {total[1]:>14,} {total[2]:>14,}")
