"""What was measured lies on a hub that is in trouble: damage is measured again, no answer is no verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from example_blobs import pinned, store_of, suite_of
from stack_hub import StackHub

from data_checks.child import Job, validate_apart
from data_checks.engine import validate
from data_checks.report import Report
from insitu.adapters.azure.blobs import AzureBlobs
from insitu.errors import BackendUnavailable, StoreRefused
from insitu.settings import AzureBlobStore

SUITE = suite_of(
    ("expect_column_values_to_be_between", {"column": "k", "min_value": 10}),
    ("expect_column_values_to_be_unique", {"column": "k"}),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store_of(tmp_path / "blobs", [pa.table({"k": range(90 * n, 90 * n + 100)}) for n in range(3)])
    return tmp_path / "blobs"


@pytest.fixture
def state(hub_settings: AzureBlobStore, new_container: Callable[[], str]) -> AzureBlobs:
    return AzureBlobs(hub_settings, new_container())


def checked(root: Path, state: AzureBlobs | None) -> Report:
    return validate(SUITE, *pinned(root), state=state)


def job_of(root: Path, state: AzureBlobs) -> Job:
    file, (_, batch) = root.parent / "suite.json", pinned(root)
    file.write_text(json.dumps({"name": SUITE.name, "expectations": SUITE.expectations}))
    spec = {"kind": "azure-blob", "container": state.container, "store": state.settings.model_dump(mode="json")}
    return Job(file, {"kind": "folder", "root": str(root)}, batch, state=spec)


DAMAGE = {"emptied": lambda data: b"", "truncated": lambda data: data[:-1], "foreign": lambda data: b"\0" * len(data)}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_measured_again_and_replaced(root: Path, state: AzureBlobs, damage: str) -> None:
    sound = checked(root, state)
    entries = list(state.list())
    assert len(entries) == 8  # of each blob what was measured and its keys, how the keys compare, what the suite asks
    for entry in entries:
        state.replace(entry.name, DAMAGE[damage](state.read(entry.name)), etag=entry.etag)
    again = checked(root, state)
    assert (again.full, again.bytes_read) == (sound.full, sound.bytes_read)
    assert [note for note in again.notes if "damaged" in note and "part-00" in note and "part-02" in note]
    third = checked(root, state)
    assert (third.bytes_read, third.notes) == (0, sound.notes)


def test_a_connection_that_breaks_within_an_entry_is_no_damage(root: Path, state: AzureBlobs, hub: StackHub) -> None:
    sound = checked(root, state)
    hub.drop_after_bytes = [100, 0, 1, 500]
    again = checked(root, state)
    assert hub.drop_after_bytes == []
    assert (again.full, again.bytes_read) == (sound.full, 0)


def test_a_state_that_gives_no_answer_is_an_error_that_is_retried_and_no_verdict(
    root: Path, state: AzureBlobs, hub: StackHub, tmp_path: Path
) -> None:
    checked(root, state)
    hub.fail_with = [503] * 1000
    with pytest.raises(BackendUnavailable, match=state.container):  # the one class that tasks retry
        validate_apart(job_of(root, state), tmp_path / "work")
    hub.reset()
    assert checked(root, state).bytes_read == 0


def test_a_state_that_refuses_is_named(root: Path, state: AzureBlobs) -> None:
    with pytest.raises(StoreRefused, match="no container gone"):
        checked(root, replace(state, container="gone"))


def test_what_cannot_be_written_to_the_hub_is_told_and_not_tried_for_every_blob(
    tmp_path: Path, state: AzureBlobs, hub: StackHub
) -> None:
    store_of(tmp_path / "many", [pa.table({"k": range(9 * n, 9 * n + 10)}) for n in range(30)])
    wanted = checked(tmp_path / "many", None)
    hub.lose_answers["PUT"] = 1000
    report = checked(tmp_path / "many", state)
    tried = 1000 - hub.lose_answers["PUT"]
    assert 0 < tried < 30  # of 60 entries, each of which is tried four times
    *others, note = report.notes
    assert "is not kept" in note
    assert report.to_json() | {"notes": others} == wanted.to_json()
