"""Each code block of the documentation is what it looks like: commands, settings, Python, JSON, YAML.

Blocks that are marked `<!-- run -->` are run by tests/flows/test_docs_commands.py.
"""

from __future__ import annotations

import ast
import copy
import importlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from doc_blocks import REPO, Block, blocks, pages
from pydantic import BaseModel, ValidationError

from insitu.cli import main
from insitu.explanations import EXPLANATIONS
from insitu.settings import ModelSettings, SiteSettings

BLOCKS = blocks()
SHOWN = ("", "text")


def _of(*languages: str) -> pytest.MarkDecorator:
    some = [block for block in BLOCKS if block.language in languages]
    return pytest.mark.parametrize("block", some, ids=lambda block: block.place)


def test_blocks_are_found() -> None:
    assert len(BLOCKS) >= 80
    assert sum(block.exit_codes is not None for block in BLOCKS) >= 10


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_what_it_is_and_a_shell_block_whether_it_is_run(block: Block) -> None:
    assert block.language in (*SHOWN, "bash", "python", "toml", "json", "yaml")
    if block.language == "bash":
        wanted = "put <!-- run -->, <!-- run: exit 3 --> or <!-- not run: REASON --> on the line before the block"
        assert block.exit_codes or re.fullmatch(r"not run: \S.{9,}", block.mark), wanted


def test_codes_of_errors_on_the_pages_are_known() -> None:
    known = {entry.code for entry in EXPLANATIONS}
    told = {code for page in pages() for code in re.findall(r"\bE-[A-Z]{2,}\b", page.read_text())}
    assert "E-LEAK" in told
    assert told - known == set()


@_of(*SHOWN)
def test_what_is_only_shown_is_no_command(block: Block) -> None:
    commands = [line for line in block.text.splitlines() if re.match(r"\s*(\.venv/bin/)?insitu \w|make \w", line)]
    assert commands == [], "make it a bash block"


@_of("bash", *SHOWN)
def test_commands_of_insitu_and_make_are_there_with_these_options(block: Block) -> None:
    targets = re.findall(r"^([a-z]+):", (REPO / "Makefile").read_text(), re.MULTILINE)
    for words in block.commands():
        if block.language in SHOWN:  # there a command stands behind a prompt
            words = words[1:] if words[0] == "$" else []
        if words[:1] == ["make"]:
            assert [word for word in words[1:] if "=" not in word and word not in targets] == []
        elif words[:1] and words[0] in ("insitu", ".venv/bin/insitu"):
            _parse(main, words[1:])


def _parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Read the words as the command line does, and run nothing."""
    context = command.make_context(command.name, words, parent=parent)
    if isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        _, inner, left = command.resolve_command(context, rest)
        assert inner
        _parse(inner, left, context)


@_of("python")
def test_python_can_be_read_and_what_it_imports_of_insitu_is_there(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("insitu"):
            module = importlib.import_module(str(node.module))
            assert [one.name for one in node.names if not hasattr(module, one.name)] == []


@_of("json")
def test_json_can_be_read(block: Block) -> None:
    json.loads(block.text)


@_of("yaml")
def test_yaml_can_be_read(block: Block) -> None:
    text = block.text.replace("*pool", "pool")  # an anchor of the file that the block is a part of
    assert yaml.safe_load(text)


BASES: list[tuple[type[BaseModel], str, str]] = [
    (ModelSettings, "models/flights/model.toml", "flights"),
    (SiteSettings, "deployments/sites/local.toml", "local"),
    (SiteSettings, "deployments/sites/stackhub.toml", "stackhub"),
]


@_of("toml")
def test_settings_are_taken_by_a_model_or_a_site(block: Block, tmp_path: Path) -> None:
    shown = tomllib.loads(block.text.replace("sha256:…", "sha256:" + "0" * 64))
    said = []
    for kind, file, name in BASES:
        base = tomllib.loads((REPO / file).read_text())
        try:
            kind.model_validate(_laid_over(base, shown) | {"name": name}, context={"project": tmp_path})
        except ValidationError as error:
            said.append(f"{file}: {error}")
        else:
            return
    pytest.fail("\n".join(said))


def _laid_over(base: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return *base* with what is *shown*; a table of another kind takes the place of the one that was there."""
    made = copy.deepcopy(dict(base))
    for key, value in shown.items():
        before = made.get(key)
        is_other = isinstance(value, Mapping) and isinstance(before, Mapping) and "kind" in value
        if isinstance(value, Mapping) and isinstance(before, Mapping) and not is_other:
            made[key] = _laid_over(before, value)
        else:
            made[key] = value
    return made
