"""Conditions on texts: looked at once per distinct value, and patterns in whichever engine is the faster one."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from example_blobs import pinned, store_of, suite_of
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from data_checks.conditions import Column, matches
from data_checks.engine import validate
from data_checks.patterns import _PORTABLE

pytestmark = pytest.mark.filterwarnings("ignore:This pattern is interpreted")
QUICK = settings(
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
CONDITIONS: list[tuple[str, dict[str, Any], Any]] = [
    ("to_be_in_set", {"value_set": ["a", "ü", ""]}, lambda s: s in ("a", "ü", "")),
    ("to_not_be_in_set", {"value_set": ["a", "b\n"]}, lambda s: s not in ("a", "b\n")),
    ("to_match_regex", {"regex": "^[a-z]+$"}, lambda s: re.search("^[a-z]+$", s)),
    ("to_match_regex", {"regex": r"^\w+\Z"}, lambda s: re.search(r"^\w+\Z", s)),
    ("to_not_match_regex", {"regex": "a|ü"}, lambda s: not re.search("a|ü", s)),
    ("to_match_regex_list", {"regex_list": ["^a", "b$"]}, lambda s: re.search("^a|b$", s)),
    (
        "to_match_regex_list",
        {"regex_list": ["a", r"(?!<a)b"], "match_on": "all"},
        lambda s: re.search("a", s) and re.search(r"(?!<a)b", s),
    ),
    ("to_not_match_regex_list", {"regex_list": ["a", "ü"]}, lambda s: not re.search("a|ü", s)),
    ("lengths_to_be_between", {"min_value": 1, "max_value": 2}, lambda s: 1 <= len(s) <= 2),
    ("lengths_to_equal", {"value": 1}, lambda s: len(s) == 1),
]
SUITE = suite_of(
    *[
        (f"expect_column_value_{what}".replace("value_to", "values_to"), {"column": "s", **kwargs})
        for what, kwargs, _ in CONDITIONS
    ]
)
texts = st.none() | st.sampled_from(["", "a", "b", "ab", "b\n", "A", "ü", "Ü", "日本", "a\n", "aab", "٣"])


@settings(QUICK, max_examples=20)
@given(rows=st.lists(texts, min_size=1, max_size=40), size=st.integers(1, 40))
@example(rows=["a"] * 30 + [None] * 5 + ["b"], size=10)
@example(rows=[None] * 3, size=2)
def test_what_holds_for_distinct_values_is_counted_by_rows(rows: list[str | None], size: int) -> None:
    table = pa.table({"s": pa.array(rows, pa.string())})
    with tempfile.TemporaryDirectory() as folder:
        store_of(Path(folder), [table[: size // 2], table[size // 2 :]], row_group_size=size)
        report = validate(SUITE, *pinned(Path(folder)))
    present = [text for text in rows if text is not None]
    for (what, kwargs, holds), outcome in zip(CONDITIONS, report.outcomes, strict=True):
        assert outcome.unexpected_count == sum(not holds(text) for text in present), (what, kwargs)
        assert outcome.rows == len(rows)


ITEMS = ["a", "B", "0", "a-c", "0-9", "A-z", " ", "_", ".", ":", "+", r"\]", r"\^", r"\-", r"\\"]
SOUP = [*"ab0^$.|()[]?*+{}-,:\\12&~ \n", "(?:", "[a-", "[^", "{1}", "\\d", "\\b", "(?=", "ü"]
atom = st.one_of(
    st.sampled_from(list("abAB019 _/:@,;=<>#%&~'\"!.-")),
    st.sampled_from([rf"\{sign}" for sign in "][.+*?(){}|^$/\\-"]),
    st.tuples(st.sampled_from(["[", "[^"]), st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3).map("".join)).map(
        lambda found: f"{found[0]}{found[1]}]"
    ),
)
quantified = st.tuples(atom, st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{1,}", "{0,2}", "??", "*?", "{1,2}?"]))
sequence = st.lists(quantified.map("".join), max_size=4).map("".join)
group = st.tuples(st.sampled_from(["(", "(?:"]), sequence, sequence, st.sampled_from(["", "?", "*", "+", "{2}"])).map(
    lambda found: f"{found[0]}{found[1]}|{found[2]}){found[3]}"
)
pattern = st.tuples(
    st.sampled_from(["", "^"]), sequence | group, sequence | group | st.just("|a"), st.sampled_from(["", "$"])
).map("".join)
soup = st.lists(st.sampled_from(SOUP), max_size=9).map("".join)
letter = st.sampled_from(
    [*"abABC019 _/:@,;=<>#%&~'\"!.-][+*?(){}|^$\\z\n\r\t\0", "ü", "ſ", "٣", "\u2028", "😀", "\x85"]
)
subject = st.text(letter, max_size=8)


def found_by_python(asked: str, strings: list[str]) -> list[bool]:
    return [re.search(asked, text) is not None for text in strings]


def found_by_pandas(asked: str, strings: list[str]) -> list[bool]:
    """Search as GX does on its pandas engine."""
    return pd.Series(strings, dtype="str").str.contains(asked).tolist()


def found_by_us(asked: str, strings: list[str]) -> list[bool]:
    condition = matches([Column("s", pl.String())], {"regex": asked})
    assert condition is not None
    return pl.DataFrame({"s": strings}, schema={"s": pl.String}).select(condition).to_series().to_list()


ALIKE = ["^[A-Z]{2}$", "^[A-Z0-9]+$", "^[A-Z]{1,3}$", "^[A-Z]{2,}$", "^[A-Z ._-]{0,2}$", "^[A-C-]{2}$", "^[A-Z]{0}$"]


@pytest.mark.parametrize("asked", ALIKE)
def test_texts_of_one_class_of_letters_are_told_from_all_others(asked: str) -> None:
    texts = ["", "A", "AB", "ABC", "ABCD", "A-", "abc", "A1\n", "AB\n", "\n", "Ü", "AÜ"]
    for strings in ([one, other] for one in texts for other in texts):
        assert found_by_us(asked, strings) == found_by_python(asked, strings), strings


@settings(QUICK, max_examples=500)
@given(asked=pattern, strings=st.lists(subject, min_size=1, max_size=8))
@example(asked="a$", strings=["a", "a\n", "a\n\n", "a\r", "ab", "\na"])
@example(asked="^$", strings=["", "\n", "\n\n", " "])
@example(asked="", strings=["", "a"])
@example(asked="$", strings=["", "a\n"])
@example(asked=r"\$", strings=["$", "a", ""])
@example(asked=r"\\$", strings=["\\", "\\\n", "$"])
@example(asked="[:alpha:]", strings=["a", ":", "z", "p"])
@example(asked="^.$", strings=["\n", "a", "ü", "😀", "\r", "\u2028", "\x85"])
@example(asked="[^a]", strings=["\n", "a", "aa", "ü"])
@example(asked="a|b$", strings=["ac", "bc", "b\n", "b"])
def test_plain_patterns_mean_the_same_in_the_fast_engine(asked: str, strings: list[str]) -> None:
    assert _PORTABLE.fullmatch(asked)
    assert found_by_us(asked, strings) == found_by_python(asked, strings) == found_by_pandas(asked, strings)


@settings(QUICK, max_examples=500)
@given(asked=soup, strings=st.lists(subject, min_size=1, max_size=4))
@example(asked=r"\d", strings=["٣", "3"])
@example(asked="a{,2}b$", strings=["b", "aab", "a{,2}b"])
@example(asked="[a-z&&b]", strings=["a", "b", "&"])
@example(asked="(a$|b)c", strings=["bc", "ac"])
def test_patterns_that_dialects_see_differently_are_left_to_pandas(asked: str, strings: list[str]) -> None:
    try:
        re.compile(asked)
    except re.error:
        assert matches([Column("s", pl.String())], {"regex": asked}) is None
        return
    try:
        wanted = found_by_pandas(asked, strings)
    except pa.ArrowInvalid:  # GX cannot judge it either
        assert not _PORTABLE.fullmatch(asked)
    else:
        assert found_by_us(asked, strings) == wanted
