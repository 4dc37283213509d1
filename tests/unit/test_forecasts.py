"""A forecast says what earlier runs took, grown with the data and with a margin, and nothing where there is none."""

from __future__ import annotations

from typing import Any

from insitu.planning.forecasts import foretold, vm_for
from insitu.ports import Need

NEED = Need(cores=2, memory_bytes=2_000_000_000, disk_bytes=1_000_000)


def record(rows: int, **seconds: float) -> dict[str, Any]:
    return {"training": {"rows": 1}, "validation": {"rows": rows}, "batch": {"bytes": 10 * rows}, "seconds": seconds}


def test_without_an_earlier_run_no_seconds_are_told() -> None:
    told = foretold(NEED, [], 100, 1000)
    assert (told["earlier_runs"], told["seconds"], told["total_seconds"]) == (0, {}, None)


def test_what_grows_with_the_data_is_scaled_by_rows_and_the_longest_counts() -> None:
    runs = [record(100, train=10, publish=4), record(200, train=30, publish=2)]
    told = foretold(NEED, runs, 400, 4000)
    assert told["seconds"] == {"train": 75.0, "publish": 5.0}  # 30 s doubled, 4 s as they were; a quarter more
    assert told["total_seconds"] == 80.0
    assert foretold(NEED, runs, None, 4000)["scaled_by"] == "bytes"


def test_less_data_is_not_said_to_take_less() -> None:
    assert foretold(NEED, [record(1000, train=10)], 10, 100)["seconds"]["train"] == 12.5


def test_the_smallest_vm_that_has_room_for_the_job_and_its_system_is_named() -> None:
    small = vm_for(NEED)
    assert small
    assert small.name == "Standard_F2s_v2"
    more = vm_for(Need(cores=2, memory_bytes=6_900_000_000, disk_bytes=0))
    assert more
    assert more.memory_gb == 8  # 7 GB are too few for both
    assert vm_for(Need(cores=2, memory_bytes=10**12, disk_bytes=0)) is None
