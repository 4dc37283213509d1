"""Every error that insitu can raise is explained, each under a code of its own."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from insitu.errors import UsageError
from insitu.explanations import EXPLANATIONS, Explanation, explain

REPO = Path(__file__).parents[2]
INSITU = Path(sys.executable).parent / "insitu"


def _classes_of_errors() -> dict[str, str | None]:
    """Return the code that each error class of the sources declares, by its name."""
    folders = ("insitu", "flows", "tasks", "data_checks")
    trees = (ast.parse(path.read_bytes()) for folder in folders for path in (REPO / folder).rglob("*.py"))
    classes = [node for node in chain.from_iterable(map(ast.walk, trees)) if isinstance(node, ast.ClassDef)]
    ours, known = {"InsituError"}, 0
    while known < len(ours):
        known = len(ours)
        ours |= {one.name for one in classes if {base.id for base in one.bases if isinstance(base, ast.Name)} & ours}
    return {one.name: _code(one) for one in classes if one.name in ours}


def _code(one: ast.ClassDef) -> str | None:
    values = [s.value for s in one.body if isinstance(s, (ast.Assign, ast.AnnAssign)) and "code" in ast.unparse(s)[:5]]
    return next((value.value for value in values if isinstance(value, ast.Constant)), None)


def test_each_error_class_has_a_code_of_its_own_and_an_entry_under_it() -> None:
    declared = _classes_of_errors()
    assert len(declared) >= 30
    assert [name for name, code in declared.items() if code is None] == []
    assert [code for code, times in Counter(declared.values()).items() if times > 1] == []
    assert {entry.kind: entry.code for entry in EXPLANATIONS} == declared


@pytest.mark.parametrize("entry", EXPLANATIONS, ids=lambda entry: entry.code)
def test_an_entry_is_complete_and_reads_well(entry: Explanation) -> None:
    assert entry.causes
    assert entry.to_do
    for text in (entry.meaning, entry.kept, *entry.causes, *entry.to_do):
        assert len(text) > 10
        assert text == text.strip()
    assert entry.meaning.endswith(".")


def test_the_entries_are_in_the_order_of_their_codes() -> None:
    assert [entry.code for entry in EXPLANATIONS] == sorted(entry.code for entry in EXPLANATIONS)


@pytest.mark.parametrize("word", ["E-LEAK", "e-leak", "leak", "LeakFound", " E-LEAK\n"])
def test_a_code_is_understood_however_it_is_written(word: str) -> None:
    assert explain(word).code == "E-LEAK"


@pytest.mark.parametrize("word", ["E-LAEK", "leek", "E-LEAKS"])
def test_an_unknown_code_is_answered_with_the_nearest(word: str) -> None:
    with pytest.raises(UsageError, match=r"did you mean E-LEAK\?"):
        explain(word)


@pytest.mark.parametrize("word", ["", "!", "E-", "€"])
def test_what_is_near_to_nothing_says_where_all_are(word: str) -> None:
    with pytest.raises(UsageError, match="insitu explain lists all"):
        explain(word)


def test_an_error_on_the_terminal_names_the_command_that_says_more(tmp_path: Path) -> None:
    done = subprocess.run([str(INSITU), "doctor", "--site", "none"], cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 2
    *_, last = done.stderr.splitlines()
    command = last.removeprefix("  more:   ").split()
    assert command == ["insitu", "explain", "E-CONF"]
    said = subprocess.run([str(INSITU), *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("E-CONF (SettingsError): ")
    asked = subprocess.run([str(INSITU), *command[1:], "--json"], cwd=tmp_path, capture_output=True, check=True)
    assert set(json.loads(asked.stdout)) == {"code", "kind", "meaning", "causes", "kept", "to_do"}


def test_without_a_code_every_one_is_listed(tmp_path: Path) -> None:
    done = subprocess.run([str(INSITU), "explain"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [entry.code for entry in EXPLANATIONS]
