"""What every `Compute` promises: it compares itself with a need, in numbers, and never raises."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from insitu.adapters.local.compute import LocalCompute
from insitu.errors import NotReady
from insitu.ports import Check, Compute, Need
from insitu.readiness import require_ready

SMALL = Need(cores=1, memory_bytes=1, disk_bytes=1)
HUGE = 10**18


def local(work: Path) -> Compute:
    return LocalCompute(work / "not yet there", reserve_memory_bytes=0, reserve_disk_bytes=0)


def stack_hub(request: pytest.FixtureRequest) -> Compute:
    from insitu.adapters.azure.compute import StackHubCompute

    load = request.getfixturevalue("twin_site")
    return StackHubCompute(load(COMPUTE__RESERVE_MEMORY_MB="0", COMPUTE__RESERVE_DISK_MB="0"))


ADAPTERS: dict[str, Callable[[pytest.FixtureRequest], Compute]] = {
    "local": lambda request: local(request.getfixturevalue("tmp_path")),
    "stack-hub-vm": stack_hub,
}


@pytest.fixture(params=ADAPTERS.values(), ids=list(ADAPTERS))
def compute(request: pytest.FixtureRequest) -> Compute:
    made: Compute = request.param(request)
    return made


def check(compute: Compute, name: str, need: Need) -> Check:
    return next(check for check in compute.readiness(need) if check.name == name)


def test_waking_what_runs_changes_nothing(compute: Compute) -> None:
    compute.wake()
    assert all(check.ok for check in compute.readiness(SMALL))


def test_a_small_job_fits(compute: Compute) -> None:
    assert all(check.ok for check in compute.readiness(SMALL))
    require_ready(compute.readiness(SMALL))


@pytest.mark.parametrize(
    ("name", "need"),
    [
        ("cores", Need(100_000, 1, 1)),
        ("memory", Need(1, HUGE, 1)),
        ("disk", Need(1, 1, HUGE)),
    ],
)
def test_what_is_too_much_is_told_with_what_was_found_wanted_and_next(compute: Compute, name: str, need: Need) -> None:
    failed = [check for check in compute.readiness(need) if not check.ok]
    assert [check.name for check in failed] == [name]
    assert any(digit.isdigit() for digit in failed[0].found)
    assert any(digit.isdigit() for digit in failed[0].wanted)
    assert failed[0].next_action
    with pytest.raises(NotReady, match=name):
        require_ready(failed)


def test_amounts_are_in_megabytes(compute: Compute) -> None:
    assert check(compute, "memory", Need(1, 5_000_000_000, 1)).wanted == "5,000 MB"


def test_the_reserve_is_wanted_on_top(tmp_path: Path) -> None:
    compute = LocalCompute(tmp_path, reserve_memory_bytes=2_000_000, reserve_disk_bytes=3_000_000)
    need = Need(1, 1_000_000, 1_000_000)
    assert (check(compute, "memory", need).wanted, check(compute, "disk", need).wanted) == ("3 MB", "4 MB")


def test_the_numbers_of_this_machine_are_found(tmp_path: Path) -> None:
    compute = local(tmp_path)
    assert check(compute, "cores", SMALL).found == str(len(os.sched_getaffinity(0)))
    free_mb = int(check(compute, "disk", SMALL).found.split(" MB")[0].replace(",", ""))
    assert free_mb == pytest.approx(shutil.disk_usage(tmp_path).free / 1e6, rel=0.1)
    memory_mb = int(check(compute, "memory", SMALL).found.removesuffix(" MB").replace(",", ""))
    assert 0 < memory_mb <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_cores_that_this_process_may_not_use_do_not_count(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        found = check(local(tmp_path), "cores", Need(2, 1, 1))
    finally:
        os.sched_setaffinity(0, allowed)
    assert (found.ok, found.found, found.wanted) == (False, "1", "2")
