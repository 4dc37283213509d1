"""`insitu completion`: what lets a shell complete commands, options and names."""

from __future__ import annotations

import json

import click
from click.shell_completion import get_completion_class

from insitu.options import json_option

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
@click.pass_context
def completion(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print what lets SHELL complete commands, options, models and sites.

    \b
    For the shell that is open; for every one, put the line into its start-up file:
      bash   eval "$(insitu completion bash)"     (~/.bashrc)
      zsh    eval "$(insitu completion zsh)"      (~/.zshrc)
      fish   insitu completion fish | source      (~/.config/fish/config.fish)
    """
    kind = get_completion_class(shell)
    assert kind
    # Not `source()`, which starts bash to see how old it is: the script is the same for all.
    completer = kind(ctx.find_root().command, {}, "insitu", "_INSITU_COMPLETE")
    script = completer.source_template % completer.source_vars()
    click.echo(json.dumps({"shell": shell, "script": script}) if as_json else script)
