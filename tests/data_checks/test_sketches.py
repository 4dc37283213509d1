"""The bounds of a summary always hold the exact answer, and are as narrow as is said."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from data_checks import sketches
from data_checks.measures import Columns, Measure, measure, merged
from data_checks.sketches import Bounds

DRAWN: dict[str, Any] = {
    "normal": lambda noise, n: noise.normal(size=n),
    "heavy tail": lambda noise, n: noise.standard_cauchy(size=n) ** 3,
    "skewed": lambda noise, n: noise.lognormal(0, 4, n),
    "ties": lambda noise, n: noise.zipf(1.3, n) % 10_000,
    "constant": lambda _, n: np.full(n, 7),
    "constant with outliers": lambda noise, n: np.where(noise.random(n) < 0.01, noise.normal(size=n), 3.5),
    "ascending": lambda _, n: np.arange(n),
    "descending": lambda _, n: -np.arange(n) / 7,
    "large whole numbers": lambda noise, n: noise.integers(-(2**63), 2**63 - 1, n),
    "infinite": lambda noise, n: np.where(noise.random(n) < 0.2, np.inf, -np.inf) * noise.integers(0, 2, n).clip(0.5),
    "tiny": lambda noise, n: noise.integers(0, 3_000, n) * 5e-324,
}


def summary(of: Measure, parts: Iterable[pl.Series]) -> Columns:
    """Return the merged measurements of *parts*, each of them sent from elsewhere."""
    found = [pickle.loads(pickle.dumps(measure(pl.DataFrame({"v": part}), [of]))) for part in parts]
    value: Columns = merged(found, [of])[of.key]
    return value


def spread(parts: Sequence[pl.Series]) -> Columns:
    return summary(sketches.spread("v", parts[0].dtype), parts)


def ordered(parts: Sequence[pl.Series]) -> np.ndarray:
    return pl.concat(parts).drop_nulls().sort().to_numpy()


part = st.tuples(st.sampled_from(sorted(DRAWN)), st.sampled_from([0, 1, 2, 513, 2_047, 2_049, 5_000]))


@settings(
    max_examples=40,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    parts=st.lists(part, min_size=1, max_size=5).filter(lambda parts: any(n for _, n in parts)), seed=st.integers(0, 9)
)
@example(parts=[(kind, 5_000) for kind in sorted(DRAWN)], seed=0)
def test_every_value_lies_within_its_bounds(parts: list[tuple[str, int]], seed: int) -> None:
    noise = np.random.default_rng(seed)
    drawn = [DRAWN[kind](noise, n) for kind, n in parts]
    whole = all(array.dtype.kind == "i" for array in drawn)
    values = [pl.Series(array, dtype=pl.Int64 if whole else pl.Float64).extend_constant(None, 3) for array in drawn]
    found, exact = spread(values), ordered(values)
    assert sketches.size(found) == len(exact)
    for rank in {0, 1, len(exact) // 4, len(exact) // 2, len(exact) * 9 // 10, len(exact) - 2, len(exact) - 1}:
        bounds = sketches.ranked(found, rank % len(exact))
        assert bounds.low <= exact[rank % len(exact)] <= bounds.high


@pytest.mark.parametrize("kind", sorted(set(DRAWN) - {"normal", "skewed", "heavy tail", "large whole numbers"}))
def test_few_distinct_values_are_known_exactly(kind: str) -> None:
    noise = np.random.default_rng(3)
    parts = [
        pl.Series(DRAWN[kind](noise, 3_000), dtype=pl.Float64).filter(pl.arange(3_000, eager=True) < 2_000)
        for _ in range(3)
    ]
    found, exact = spread(parts), ordered(parts)
    assert [sketches.ranked(found, rank) for rank in range(0, 6_000, 97)] == [
        Bounds(exact[rank], exact[rank]) for rank in range(0, 6_000, 97)
    ]


@pytest.mark.parametrize("kind", ["normal", "ascending", "heavy tail", "ties"])
def test_a_summary_of_many_parts_stays_small_and_true(kind: str) -> None:
    noise = np.random.default_rng(4)
    parts = [
        pl.Series(DRAWN[kind](noise, 3_000) + (kind == "ascending") * 3_000 * n, dtype=pl.Float64) for n in range(140)
    ]
    found, exact = spread(parts), ordered(parts)
    assert sum(map(len, found)) <= 64 * 512
    assert sketches.size(found) == len(exact) == 140 * 3_000
    for rank in range(0, len(exact), 9_973):
        bounds = sketches.ranked(found, rank)
        assert bounds.low <= exact[rank] <= bounds.high
        away = max(rank - np.searchsorted(exact, bounds.low, "right"), np.searchsorted(exact, bounds.high) - rank)
        assert away <= 0.004 * len(exact)
    lows, highs, rows = zip(*sketches.buckets(found), strict=True)
    assert (min(lows), max(highs), sum(rows), list(lows)) == (exact[0], exact[-1], len(exact), sorted(lows))
    assert len(rows) <= 2 * sketches.BUCKETS


DISTINCT: dict[str, Any] = {
    "running numbers": lambda n: pl.int_range(n, eager=True),
    "numbers far apart": lambda n: pl.int_range(n, eager=True) * 2**40,
    "decimals": lambda n: pl.int_range(n, eager=True) / 7,
    "negative": lambda n: -pl.int_range(n, eager=True).cast(pl.Int32),
    "texts": lambda n: pl.Series([f"{number:x}" for number in range(n)]),
    "instants": lambda n: (pl.int_range(n, eager=True) * 1_000_000).cast(pl.Datetime("us", "UTC")),
}


@pytest.mark.parametrize("kind", DISTINCT)
@pytest.mark.parametrize("count", [0, 1, 4_000, 4_095, 4_097, 100_000, 1_000_000])
def test_the_bounds_hold_the_number_of_distinct_values(kind: str, count: int) -> None:
    values = DISTINCT[kind](count)
    parts = [values, values[::-1].gather_every(3), values[count // 2 :].extend_constant(None, 5)]
    for over in ("", "v"):
        found = sketches.distinct_count(summary(sketches.distinct("v", "v", over=over), parts))
        assert found.low <= count <= found.high
        assert found.exact == (count < 4_096)
        assert found.high - found.low <= 0.17 * count


def test_other_parts_have_other_distinct_values() -> None:
    parts = [pl.int_range(start, start + 9_000, eager=True) for start in range(0, 720_000, 8_000)]
    found = sketches.distinct_count(summary(sketches.distinct("v", "v"), parts))
    assert found.low <= 721_000 <= found.high
    known = sketches.distinct_count(summary(sketches.distinct("odd", "v", pl.col("v") % 2_000 == 1), parts))
    assert known == Bounds(361, 361)
