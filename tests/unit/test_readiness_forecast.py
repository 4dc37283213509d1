"""What a job needs is forecast from settings, batch and history; what is lacking is named at once."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from insitu.batch import Batch, Blob
from insitu.errors import NotReady
from insitu.ports import Check
from insitu.readiness import (
    BASE_BYTES,
    HEADROOM,
    LATEST,
    check_command,
    check_requirements,
    forecast,
    require_ready,
)
from insitu.settings import NeedSettings

DECLARED = NeedSettings(cores=2, memory_mb=100, disk_mb=50)


def batch_of(size_bytes: int) -> Batch:
    return Batch.of("c", [Blob("a", '"e"', size_bytes, datetime(2013, 1, 1, tzinfo=UTC))])


def record(peak: int | None, size_bytes: int) -> dict[str, Any]:
    training = None if peak is None else {"peak_memory_bytes": peak}
    return {"training": training, "batch": {"bytes": size_bytes}}


def test_without_history_the_declared_needs_hold_and_the_batch_needs_disk() -> None:
    need = forecast(DECLARED, batch_of(7), [])
    assert (need.cores, need.memory_bytes, need.disk_bytes) == (2, 100_000_000, 50_000_007)


def test_memory_grows_with_the_batch_and_has_headroom() -> None:
    need = forecast(DECLARED, batch_of(3000), [record(BASE_BYTES + 100_000_000, 1000)])
    assert need.memory_bytes == int((BASE_BYTES + 100_000_000 * 3) * HEADROOM)


def test_the_interpreter_and_its_libraries_do_not_grow_with_the_batch() -> None:
    for peak in (1, BASE_BYTES // 2, BASE_BYTES):
        assert forecast(DECLARED, batch_of(10**9), [record(peak, 1000)]).memory_bytes == int(BASE_BYTES * HEADROOM)


def test_a_smaller_batch_does_not_shrink_an_earlier_peak() -> None:
    assert forecast(DECLARED, batch_of(10), [record(600_000_000, 1000)]).memory_bytes == int(600_000_000 * HEADROOM)


def test_the_largest_of_all_counts() -> None:
    history = [record(500_000_000, 1000), record(700_000_000, 1000), record(10, 1000)]
    assert forecast(DECLARED, batch_of(1000), history).memory_bytes == int(700_000_000 * HEADROOM)
    declared = NeedSettings(cores=2, memory_mb=2000, disk_mb=50)
    assert forecast(declared, batch_of(1000), history).memory_bytes == 2_000_000_000


def test_only_the_latest_runs_that_trained_count() -> None:
    outlier, usual = record(10**12, 1000), record(500_000_000, 1000)
    later = [usual, record(None, 1000)] * (LATEST - 1)
    assert forecast(DECLARED, batch_of(1000), [outlier, *later]).memory_bytes == int(10**12 * HEADROOM)
    assert forecast(DECLARED, batch_of(1000), [outlier, *later, usual]).memory_bytes == int(500_000_000 * HEADROOM)


def test_runs_that_never_trained_or_had_no_bytes_tell_nothing() -> None:
    assert forecast(DECLARED, batch_of(1000), [record(None, 1000), record(10**12, 0)]).memory_bytes == 100_000_000


def test_compute_that_fits_raises_nothing() -> None:
    require_ready([])
    require_ready([Check("cores", True, "4", "2", "buy")])


def test_every_failed_check_is_named_with_what_was_found_wanted_and_next() -> None:
    checks = [
        Check("cores", False, "1", "2", "use a larger machine"),
        Check("disk", True, "9 MB", "3 MB", "free disk"),
        Check("memory", False, "10 MB", "20 MB", "free memory"),
    ]
    with pytest.raises(NotReady, match="cores, memory") as caught:
        require_ready(checks)
    error = caught.value
    assert error.found == "cores: 1; memory: 10 MB"
    assert error.wanted == "cores: 2; memory: 20 MB"
    assert error.next_action == "use a larger machine; free memory"


@pytest.mark.parametrize("text", ["pytest", "pytest>=1", f"pytest=={version('pytest')}", "PyTest[extra]<1000"])
def test_a_requirement_that_is_installed_is_ok(text: str) -> None:
    (check,) = check_requirements([text])
    assert check.ok
    assert check.found == version("pytest")


def test_a_requirement_of_another_version_tells_both() -> None:
    (check,) = check_requirements(["pytest==0.1"])
    assert (check.ok, check.found, check.wanted) == (False, version("pytest"), "pytest==0.1")
    assert "pytest==0.1" in check.next_action


def test_a_requirement_that_is_missing_says_how_to_install_it() -> None:
    (check,) = check_requirements(["no-such-package-at-all>=3"])
    assert (check.ok, check.found) == (False, "not installed")
    assert "no-such-package-at-all>=3" in check.next_action


def test_what_is_no_requirement_is_said_to_be_none() -> None:
    (check,) = check_requirements(["==3 what"])
    assert (check.ok, check.found) == (False, "not a requirement")


def test_a_requirement_for_other_systems_is_not_wanted_here() -> None:
    (check,) = check_requirements(['no-such-package-at-all; python_version < "3"'])
    assert check.ok


@pytest.mark.parametrize("program", ["python", "sh", "/bin/sh", "fit.sh", "bin/fit.sh"])
def test_a_command_whose_program_is_there_is_ok(tmp_path: Path, program: str) -> None:
    for name in ("fit.sh", "bin/fit.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    check = check_command([program, "train.py"], tmp_path)
    assert (check.ok, check.found, check.wanted) == (True, program, program)


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "folder"])
def test_a_command_whose_program_is_missing_is_named(tmp_path: Path, program: str) -> None:
    (tmp_path / "folder").mkdir()
    check = check_command([program, "train.py"], tmp_path)
    assert (check.ok, check.wanted) == (False, program)
    assert "train.command" in check.next_action
