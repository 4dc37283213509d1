"""`insitu up`: the services of a site."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from insitu.options import json_option, project_option, site_option


@click.command()
@click.option("--status", "only_status", is_flag=True, help="Tell what is up, and change nothing.")
@click.option("--only", metavar="SERVICE", help="Be this one service, for systemd, containers and the like.")
@site_option
@json_option
@project_option
def up(project: Path, site: str, only: str | None, only_status: bool, as_json: bool) -> None:
    """Run Prefect server with UI, worker, watcher and MLflow UI of a site, until Ctrl-C.

    A service that dies is started again; one that dies again and again ends all of them, with an error.
    Runs that are under way when it is stopped go on at the next start. With --json what it says is one JSON value on a
    line of its own each.
    """
    if only_status:
        _tell(project, as_json)
        return
    from flows.running.services import run_service, run_services
    from insitu.settings import load_site

    settings = load_site(project, site, os.environ)
    if only:
        run_service(project, settings, only)
    for sign in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(sign) != signal.SIG_IGN:  # as with nohup
            signal.signal(sign, signal.default_int_handler)

    def say(text: str) -> None:
        click.echo(json.dumps({"said": text}) if as_json else text)

    try:
        run_services(project, settings, say)
    except KeyboardInterrupt:
        say("stopped")


def _tell(project: Path, as_json: bool) -> None:
    """Print what is up; exit code 1 when nothing is."""
    from flows.running.server import running_server
    from flows.running.services import board

    server = running_server(project)
    services = json.loads(board(project).read_text()) if server and board(project).exists() else []
    if as_json:
        click.echo(json.dumps({"server": server and server.url, "site": server and server.site, "services": services}))
    elif server:
        click.echo(f"Prefect server {server.url.removesuffix('/api')} of site {server.site}, process {server.pid}")
        click.echo(_table(services), nl=bool(services))
    else:
        click.echo("nothing runs; start it with: insitu up")
    if not server:
        sys.exit(1)


def _table(services: Sequence[Mapping[str, Any]]) -> str:
    form = "{name:<10} {state:<11} {since:<26} {restarts:>8}  {log}"
    titles = {name: name for name in ("name", "state", "since", "restarts", "log")}
    return "\n".join(form.format(**one) for one in [titles, *services] if services)
