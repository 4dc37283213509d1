"""Every key of the example files, misspelt: told with file, line, what was found, what is known, and what was meant."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.errors import SettingsError
from insitu.settings import load_model, load_site

REPO = Path(__file__).parents[2]
LOADERS = {
    "deployments/sites/local.toml": lambda project: load_site(project, "local", {}),
    "deployments/sites/stackhub.toml": lambda project: load_site(project, "stackhub", {}),
    "models/flights/model.toml": lambda project: load_model(project, "flights", {}),
}
NAMED_BY_PEOPLE = ("params", "forms", "metrics", "slices")
"""Tables whose keys are not insitu's: nothing there is misspelt."""


def _keys() -> Iterator[tuple[str, int, str]]:
    """Yield file, line and key of what the examples set, outside of tables that people name the keys of."""
    for file in LOADERS:
        is_ours = True
        for number, line in enumerate((REPO / file).read_text().splitlines(), 1):
            if table := re.match(r"\[+([\w.]+)\]", line):
                is_ours = not set(table[1].split(".")) & set(NAMED_BY_PEOPLE)
            elif (found := re.match(r"(\w+) *=", line)) and is_ours and len(found[1]) > 3 and found[1] != "kind":
                yield file, number, found[1]


def _misspelt(key: str) -> str:
    """Return the key with two letters in each other's place, as fingers do it."""
    middle = next((n for n in range(len(key) // 2, 0, -1) if key[n] != key[n - 1]), 1)
    return key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]


KEYS = list(_keys())


def test_the_corpus_is_large() -> None:
    assert len(KEYS) >= 60


@pytest.mark.parametrize(("file", "line", "key"), KEYS, ids=[f"{Path(f).stem}-{n}-{k}" for f, n, k in KEYS])
def test_a_misspelt_key_is_told_with_its_place_and_what_was_meant(
    tmp_path: Path, file: str, line: int, key: str
) -> None:
    shutil.copytree(REPO / "deployments/sites", tmp_path / "deployments/sites")
    shutil.copytree(REPO / "models/flights", tmp_path / "models/flights")
    lines = (REPO / file).read_text().splitlines()
    lines[line - 1] = lines[line - 1].replace(key, _misspelt(key), 1)
    (tmp_path / file).write_text("\n".join(lines))
    with pytest.raises(SettingsError) as caught:
        LOADERS[file](tmp_path)
    told = [one for one in caught.value.problems if one.line == line]
    assert [(one.file, one.key.rpartition(".")[2]) for one in told] == [(file, _misspelt(key))]
    (problem,) = told
    assert problem.found
    assert key in problem.wanted
    assert f"{key}?" in str(problem.hint)
