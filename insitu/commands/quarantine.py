"""`insitu quarantine`: what does not become a run by itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from insitu.commands.books import open_books
from insitu.options import json_option, model_argument, project_option, site_option


@click.group()
def quarantine() -> None:
    """What is incomplete, or failed: see it, and let it go on."""


@quarantine.command("list")
@click.argument("models", nargs=-1, metavar="[MODEL...]")
@site_option
@json_option
@project_option
def show(project: Path, models: tuple[str, ...], site: str, as_json: bool) -> None:
    """List what is in quarantine, and why; of all models by default."""
    _, books = open_books(project, site, models)
    found = [{"model": book.model.name, **asdict(q)} for book in books for q in book.queues.read()[0].quarantine]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for one in found:
        where, released = one["prefix"] or "the container", " (released)" if one["released"] else ""
        why = f"{one['trouble']}: {one['reason']}, {one['since'][:19]} UTC{released}"
        click.echo(f"{one['model']}  {one['key'][:12]}  {where}  {why}")
    if not found:
        click.echo("nothing is in quarantine")
    elif any(not one["released"] for one in found):
        click.echo("next: see to the reason, then insitu quarantine release MODEL KEY")


@quarantine.command()
@model_argument
@click.argument("what", metavar="KEY|PREFIX")
@site_option
@json_option
@project_option
def release(project: Path, model: str, what: str, site: str, as_json: bool) -> None:
    """Let a batch of MODEL run again, alone; or let what is incomplete be taken as it is."""
    from insitu.triggers.orders import release as let_go

    _, (book,) = open_books(project, site, (model,))
    one = let_go(book, what)
    click.echo(
        json.dumps(asdict(one), indent=1) if as_json else f"{one.prefix or 'the container'} goes on with the next look"
    )
