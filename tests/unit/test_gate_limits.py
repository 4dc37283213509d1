"""An image beyond a limit is named with what it takes; what was not measured keeps no limit."""

from __future__ import annotations

import pytest

from insitu.limits import exceeded
from insitu.settings import LimitSettings

ALL = LimitSettings(max_size_mb=100, max_latency_ms=20, max_memory_mb=300)


def test_without_limits_everything_goes() -> None:
    assert list(exceeded(LimitSettings(), 10**12, None, None)) == []


def test_a_limit_that_is_just_kept_holds() -> None:
    assert list(exceeded(ALL, 100_000_000, 20.0, 300_000_000)) == []


@pytest.mark.parametrize(
    ("size_bytes", "latency_ms", "memory_bytes", "reason"),
    [
        (100_100_000, 1.0, 1, "the image's size is 100.1 MB, wanted at most 100 MB (limits.max_size_mb)"),
        (1, 20.5, 1, "the image's time for one row is 20.5 ms, wanted at most 20 ms (limits.max_latency_ms)"),
        (1, 1.0, 301_000_000, "memory of its server is 301 MB, wanted at most 300 MB (limits.max_memory_mb)"),
        (1, None, 1, "time for one row was not measured"),
        (1, float("nan"), 1, "time for one row is nan ms"),
        (1, 1.0, None, "memory of its server was not measured"),
    ],
)
def test_each_limit_names_itself(
    size_bytes: int, latency_ms: float | None, memory_bytes: int | None, reason: str
) -> None:
    [told] = exceeded(ALL, size_bytes, latency_ms, memory_bytes)
    assert reason in told


def test_every_limit_that_is_not_kept_is_a_reason() -> None:
    assert len(list(exceeded(ALL, 10**12, 1e6, 10**12))) == 3


def test_of_a_server_that_was_ended_memory_and_size_are_told() -> None:
    assert list(exceeded(ALL, 200_000_000, None, None, ended=True)) == [
        "the image's server took more memory than 300 MB (limits.max_memory_mb), and was ended",
        "the image's size is 200 MB, wanted at most 100 MB (limits.max_size_mb)",
    ]
