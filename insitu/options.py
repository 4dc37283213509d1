"""What all commands have in common: their options, and how errors end them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from insitu.errors import InsituError, UsageError


class Commands(click.Group):
    """A group that turns insitu's errors into one message and their exit code.

    Args:
        elsewhere: Commands by name that other modules hold, as "module:name"; imported when they are asked for.
    """

    def __init__(self, *args: Any, elsewhere: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._elsewhere = elsewhere or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if place := self._elsewhere.get(cmd_name):
            module, _, name = place.partition(":")
            command: click.Command = getattr(import_module(module), name)
            return command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands as click does, but cut no sentence off: long ones go on in the next line."""
        with formatter.section("Commands"):
            commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
            formatter.write_dl([(name, _summary(command)) for name, command in commands if command])

    def invoke(self, ctx: click.Context) -> Any:
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        in_json = "--json" in ctx.args  # before the command's own options are read: they may be what is wrong
        try:
            return super().invoke(ctx)
        except InsituError as error:
            if ctx.obj == "json":
                click.echo(json.dumps({"error": error.to_json()}, indent=1))
            fail(error)
        except click.UsageError as error:
            if in_json:
                click.echo(json.dumps({"error": UsageError(error.format_message()).to_json()}, indent=1))
            raise
        except BrokenPipeError:  # `| head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except KeyboardInterrupt:
            click.echo("stopped; started again, it goes on after the last finished step", err=True)
            sys.exit(128 + signal.SIGINT)


def _summary(command: click.Command) -> str:
    """Return what a command does: its first sentence up to the details."""
    told = re.sub(r" \([^)]*\)", "", command.get_short_help_str(1000))
    return re.split(r"[:;] ", told)[0].removesuffix(".")


def fail(error: InsituError) -> NoReturn:
    """Print *error* for a person, and end with its exit code."""
    click.secho(error.render(), fg="red", err=True)
    if error.code != UsageError.code:  # which has said all
        click.echo(f"  more:   insitu explain {error.code}", err=True)
    sys.exit(error.exit_code)


def project_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command a *project*: --project, INSITU_PROJECT or the nearest folder above."""

    @click.option(
        "--project",
        type=click.Path(path_type=Path),
        envvar="INSITU_PROJECT",
        help="Folder with models/ and deployments/.  [default: the nearest one from here upwards]",
    )
    @wraps(command)
    def with_project(*args: Any, project: Path | None, **options: Any) -> Any:
        from insitu.project import find_project

        return command(*args, project=find_project(project or Path.cwd(), named=project is not None), **options)

    return with_project


def maybe_project_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command a *project* as `project_option` does, or None where there is none and none is named."""

    @click.option(
        "--project",
        type=click.Path(path_type=Path),
        envvar="INSITU_PROJECT",
        help="Folder with models/ and deployments/.  [default: the nearest one from here upwards, if there is one]",
    )
    @wraps(command)
    def with_project(*args: Any, project: Path | None, **options: Any) -> Any:
        from insitu.project import find_project

        if project is not None:
            return command(*args, project=find_project(project, named=True), **options)
        with suppress(UsageError):
            project = find_project(Path.cwd())
        return command(*args, project=project, **options)

    return with_project


DEFAULT_SITE = "local"


def _names(before: str, after: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return what completes a name: those of the files BEFORE*AFTER of the project."""

    def complete(ctx: click.Context, _of: click.Parameter, begun: str) -> list[str]:
        from insitu.project import find_project

        with suppress(UsageError):
            project = find_project(ctx.params.get("project") or Path.cwd())
            files = (path.relative_to(project).as_posix() for path in project.glob(f"{before}*{after}"))
            names = (file.removeprefix(before).removesuffix(after) for file in files)
            return sorted(name for name in names if name.startswith(begun))
        return []

    return complete


site_option = click.option(
    "--site",
    default=DEFAULT_SITE,
    show_default=True,
    help="Name of a file in deployments/sites/.",
    shell_complete=_names("deployments/sites/", ".toml"),
)

model_argument = click.argument("model", shell_complete=_names("models/", "/model.toml"))
maybe_model_argument = click.argument("model", required=False, shell_complete=_names("models/", "/model.toml"))

batch_option = click.option(
    "--batch",
    metavar="FILE|VERSION|RUN_KEY",
    help="JSON manifest of pinned blobs, or the blobs of an earlier run, instead of the current ones.",
)


def name_and_reason(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command *who* decides, and the *reason*: both go on record."""
    who = click.option("--name", "who", required=True, help="Who decides. Nobody checks it: it goes on record.")
    reason = click.option("--reason", required=True, help="Why. It goes on record.")
    return who(reason(command))


def _answer_in_json(ctx: click.Context, _option: click.Parameter, wanted: bool) -> bool:
    ctx.find_root().obj = "json" if wanted else None
    return wanted


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command *as_json*, and --quiet: then standard output gets nothing that is for people."""

    @click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=_answer_in_json,
        help="Print one JSON value on standard output, also for an error.",
    )
    @click.option("-q", "--quiet", is_flag=True, help="Print errors only, and with --json the value.")
    @wraps(command)
    def speaking(*args: Any, as_json: bool, quiet: bool, **options: Any) -> Any:
        if not quiet:
            return command(*args, as_json=as_json, **options)
        # Read when Prefect is imported: on standard error; its UI still gets every line.
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "ERROR"
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(sys.stdout if as_json else nowhere):
            return command(*args, as_json=as_json, **options)

    return speaking
