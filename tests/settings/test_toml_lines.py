"""Keys are found where they stand, whatever stands around them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from insitu.settings.toml_lines import KeyPath, first_repetition, key_lines, line_of

PROJECT = Path(__file__).parents[2]

TRICKY = '''\
# [no.table] and no = "key"
a = """
b = 1 # no key
[no] ""quoted"" \\"""
"""
c = [ # [[
  "]", 'x = 1', # ]
  { d = 2, e = [
    3] },
]
f.g = { h = "}", i = 1 }
"quoted . key".'x y' = 1
j = \'\'\'
k = 1\'\'\'

[ t . "u v" ] # comment
l = 2024-01-01T00:00:00Z
\tm = "#" # tab
[[w]]
n = 1
[[w]]
n = 2
'''


def test_keys_in_strings_comments_and_lists_are_none() -> None:
    lines = key_lines(TRICKY)
    assert lines == {
        ("a",): 2,
        ("c",): 6,
        ("f",): 11,
        ("f", "g"): 11,
        ("quoted . key",): 12,
        ("quoted . key", "x y"): 12,
        ("j",): 13,
        ("t",): 16,
        ("t", "u v"): 16,
        ("t", "u v", "l"): 17,
        ("t", "u v", "m"): 18,
        ("w",): 19,
        ("w", "n"): 20,
    }
    assert set(tomllib.loads(TRICKY)) == {path[0] for path in lines}


@pytest.mark.parametrize(
    ("path", "line"),
    [(("f", "g", "h"), 11), (("c", 2, "d"), 6), (("t", "u v", "missing"), 16), (("nowhere",), 1)],
)
def test_what_has_no_line_of_its_own_stands_where_its_table_does(path: KeyPath, line: int) -> None:
    assert line_of(key_lines(TRICKY), path) == line


def test_a_repeated_key_is_found_with_both_lines() -> None:
    assert first_repetition("[a]\nb = 1\n[c]\nb = 1\n[d]\n'b' = 1\nb = 2\n") == (("d", "b"), 6, 7)
    assert first_repetition("a = 1\nb = 2\n") is None


@pytest.mark.parametrize("text", ["", "\n", "= 1", "[", "a = [", 'a = "', '"""', "a.b.", "\x00", "a = 1 b = 2"])
def test_broken_text_does_no_harm(text: str) -> None:
    assert line_of(key_lines(text), ("x",)) == 1


@pytest.mark.parametrize("file", ["deployments/sites/local.toml", "models/flights/model.toml", "pyproject.toml"])
def test_every_key_of_a_real_file_is_found_where_it_stands(file: str) -> None:
    text = (PROJECT / file).read_text()
    lines = key_lines(text)
    for path in _paths(tomllib.loads(text)):
        assert path[-1] in text.splitlines()[line_of(lines, path) - 1]


def _paths(table: dict[str, Any], outer: KeyPath = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in table.items():
        yield (*outer, key)
        if isinstance(value, dict):
            yield from _paths(value, (*outer, key))
