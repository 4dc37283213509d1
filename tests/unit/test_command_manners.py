"""What every command has in common: JSON, quiet, colours, exit codes, completion."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from insitu.cli import main

REPO = Path(__file__).parents[2]
INSITU = Path(sys.executable).parent / "insitu"


def _commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(_commands())


def _run(*arguments: str, cwd: Path = REPO, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INSITU_")}
    return subprocess.run(
        [str(INSITU), *arguments], cwd=cwd, env=environ | variables, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_speaks_json_can_be_quiet_and_explains_each_option(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    options = [one for one in command.params if isinstance(one, click.Option)]
    known = {name for option in options for name in option.opts}
    assert {"--json", "--quiet"} <= known
    assert command.help
    assert [one.name for one in options if not one.help] == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_with_json_a_wrong_option_is_answered_in_json_too(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, [*path, "--no-such-option", "--json"])
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["code"] == "E-USE"
    assert "--no-such-option" in done.stderr


SOMEBODYS_KEY = "tests/unit/somebody.pub"
EXIT_CODES = {
    "help": (["--help"], 0),
    "all errors": (["explain"], 0),
    "a misspelt command": (["retrian"], 2),
    "no model": (["retrain"], 2),
    "an unknown model": (["plan", "fligths"], 2),
    "an unknown site": (["doctor", "--site", "locl"], 2),
    "an unknown error": (["explain", "E-NONE"], 2),
    "a shell that has no completion": (["completion", "tcsh"], 2),
    "a bundle that is no bundle": (["verify", "README.md", "--key", SOMEBODYS_KEY], 1),
    "no project": (["history", "flights", "--project", "/"], 2),
}


@pytest.mark.parametrize(("arguments", "code"), EXIT_CODES.values(), ids=EXIT_CODES.keys())
def test_exit_codes_are_those_of_the_contract(arguments: list[str], code: int) -> None:
    done = _run(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == bool(code)


def test_quiet_leaves_only_errors_and_json() -> None:
    assert (_run("explain", "--quiet").stdout, _run("explain", "-q").stderr) == ("", "")
    assert json.loads(_run("explain", "E-NET", "-q", "--json").stdout)["code"] == "E-NET"
    refused = _run("explain", "E-NONE", "-q")
    assert (refused.stdout, refused.stderr[:6]) == ("", "E-USE ")


def _on_a_terminal(*arguments: str, **variables: str) -> str:
    """Return what the command writes to a terminal."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", **variables}
    with subprocess.Popen([str(INSITU), *arguments], cwd=REPO, env=environ, stdout=theirs, stderr=theirs):
        os.close(theirs)
        written = b""
        try:
            while block := os.read(ours, 4096):
                written += block
        except OSError:  # a terminal ends so
            pass
    os.close(ours)
    return written.decode()


def test_errors_are_red_on_a_terminal_and_nowhere_else() -> None:
    wrong = ("explain", "E-NONE")
    assert "\x1b[31m" in _on_a_terminal(*wrong)
    assert "\x1b" not in _on_a_terminal(*wrong, NO_COLOR="1")
    assert "\x1b" not in _run(*wrong).stderr


def test_bash_completes_commands_models_and_sites() -> None:
    def completed(words: str) -> set[str]:
        count = len(words.split(" ")) - 1
        script = 'eval "$(insitu completion bash)"; COMP_WORDS=($1); COMP_CWORD=$2; _insitu_completion insitu; '
        script += 'printf "%s\\n" "${COMPREPLY[@]}"'
        environ = {**os.environ, "PATH": f"{INSITU.parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", script, "bash", words, str(count)],
            cwd=REPO, env=environ, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return set(done.stdout.split())

    assert {"retrain", "report"} <= completed("insitu re")
    assert completed("insitu retrain fl") == {"flights"}
    assert completed("insitu doctor --site loc") == {"local"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_help_says_how_completion_is_switched_on(shell: str) -> None:
    assert f"insitu completion {shell}" in _run("completion", "--help").stdout
    assert "_INSITU_COMPLETE" in _run("completion", shell).stdout
