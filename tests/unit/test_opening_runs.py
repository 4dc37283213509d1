"""Opening a run pins its batch, and its key follows what matters and nothing else."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from insitu.errors import DataError, UsageError
from insitu.runs import Run, open_run

MakeProject = Callable[..., Path]


def opened(project: Path, batch_file: Path | None = None) -> Run:
    return open_run(project, "flights", "local", batch_file)


def edit(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def put(project: Path, name: str, data: bytes = b"x") -> None:
    path = project / "var/blobs/flights" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_the_latest_blobs_are_the_holdout_and_the_rest_is_trained_on(make_project: MakeProject) -> None:
    run = opened(make_project(9, 10, 11))
    assert [blob.name[:8] for blob in run.training_part.blobs] == ["month=09", "month=10"]
    assert [blob.name[:8] for blob in run.holdout.blobs] == ["month=11"]
    assert run.batch.size_bytes == run.training_part.size_bytes + run.holdout.size_bytes


def test_blobs_that_the_pattern_does_not_name_are_left_alone(make_project: MakeProject) -> None:
    project = make_project(1, 2)
    before = opened(project)
    put(project, "month=03/README.txt")
    put(project, "month=03/.flights.parquet")
    assert opened(project).batch == before.batch


def test_a_missing_month_between_two_others_is_named(make_project: MakeProject) -> None:
    with pytest.raises(DataError, match="month 3, 5") as caught:
        opened(make_project(1, 2, 4, 6))
    assert caught.value.exit_code == 4


def test_a_gap_is_fine_where_the_model_does_not_ask(make_project: MakeProject) -> None:
    project = make_project(1, 2, 4)
    edit(project / "models/flights/model.toml", 'contiguous = "month"', "# any months")
    assert len(opened(project).batch.blobs) == 3


@pytest.mark.parametrize("name", ["month=x/flights.parquet", "month=/flights.parquet", "month=²/flights.parquet"])
def test_a_blob_that_does_not_tell_its_month_is_named(make_project: MakeProject, name: str) -> None:
    project = make_project(1, 2)
    put(project, name)
    with pytest.raises(DataError, match=name):
        opened(project)


def test_no_blobs_at_all_is_said_with_the_next_action(make_project: MakeProject) -> None:
    with pytest.raises(DataError, match="there are no blobs") as caught:
        opened(make_project())
    assert "container flights" in str(caught.value)
    assert caught.value.next_action


def test_too_few_blobs_tell_how_many_are_wanted(make_project: MakeProject) -> None:
    project = make_project(1, 2)
    edit(project / "models/flights/model.toml", "holdout_blobs = 1", "holdout_blobs = 2")
    with pytest.raises(DataError, match="too few") as caught:
        opened(project)
    assert (caught.value.found, str(caught.value.wanted)[:10]) == ("2", "at least 3")


def test_a_batch_file_pins_what_it_names_and_a_gap_in_it_may_be_in_quarantine(
    make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(1, 2, 3)
    first = opened(project)
    manifest = tmp_path / "batch.json"
    manifest.write_text(json.dumps(first.batch.to_json()))
    put(project, "month=04/flights.parquet")
    again = opened(project, manifest)
    assert (again.batch, again.key) == (first.batch, first.key)
    assert opened(project).key != first.key
    pinned = first.batch.to_json()
    blobs = [blob for blob in pinned["blobs"] if "month=02" not in blob["name"]]
    manifest.write_text(json.dumps({"container": pinned["container"], "blobs": blobs}))
    with pytest.raises(DataError, match="no blob for month 2") as caught:
        opened(project, manifest)
    assert "insitu quarantine list" in str(caught.value.next_action)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"blobs": []}', '{"container": "c", "blobs": [1]}', "\udcff"])
def test_a_file_that_is_no_batch_is_said_to_be_none(make_project: MakeProject, tmp_path: Path, text: str) -> None:
    manifest = tmp_path / "batch.json"
    manifest.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match="not a batch manifest"):
        opened(make_project(1, 2), manifest)


def test_a_batch_file_that_is_not_there_is_named(make_project: MakeProject, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.json cannot be read"):
        opened(make_project(1, 2), tmp_path / "nothing.json")


def test_a_batch_file_of_another_container_is_refused(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(1, 2)
    manifest = tmp_path / "batch.json"
    manifest.write_text(json.dumps(opened(project).batch.to_json() | {"container": "../state"}))
    with pytest.raises(UsageError, match="container"):
        opened(project, manifest)


def test_a_batch_file_with_a_gap_is_refused(make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(1, 2, 3)
    content = opened(project).batch.to_json()
    del content["blobs"][1], content["fingerprint"]
    (tmp_path / "batch.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="gap"):
        opened(project, tmp_path / "batch.json")


def test_a_batch_file_whose_blobs_are_not_those_of_its_fingerprint_is_refused(
    make_project: MakeProject, tmp_path: Path
) -> None:
    project = make_project(1, 2, 3)
    content = opened(project).batch.to_json()
    content["blobs"][1]["etag"] = '"another"'
    (tmp_path / "batch.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="was changed"):
        opened(project, tmp_path / "batch.json")


def test_the_holdout_is_the_latest_by_number_not_by_name(make_project: MakeProject) -> None:
    project = make_project()
    for month in (8, 9, 10):
        put(project, f"month={month}/flights.parquet")
    run = opened(project)
    assert [blob.name for blob in run.holdout.blobs] == ["month=10/flights.parquet"]
    assert {blob.name for blob in run.training_part.blobs} == {"month=8/flights.parquet", "month=9/flights.parquet"}
    edit(project / "models/flights/model.toml", 'contiguous = "month"', "# any months")
    assert [blob.name for blob in opened(project).holdout.blobs] == ["month=9/flights.parquet"]


def test_the_key_does_not_follow_time_or_place(make_project: MakeProject) -> None:
    one, two = make_project(1, 2), make_project(1, 2, name="elsewhere/with space")
    key = opened(one).key
    for path in [*one.rglob("*")]:
        os.utime(path, (time.time() - 86_400,) * 2)
    (one / "models/flights/__pycache__").mkdir()
    (one / "models/flights/__pycache__/train.pyc").write_bytes(b"x")
    (one / "models/flights/.train.py.swp").write_bytes(b"x")
    assert opened(one).key == opened(two).key == key
    assert len(key) == 64


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/flights/train.py", "max_iter=300", "max_iter=301"),
        ("models/flights/model.toml", "C = 1.0", "C = 2.0"),
        ("models/flights/model.toml", "floor = 0.60", "floor = 0.65"),
        ("data_checks/flights.json", '"name"', '"name" '),
    ],
)
def test_the_key_follows_code_parameters_and_suite(make_project: MakeProject, file: str, old: str, new: str) -> None:
    project = make_project(1, 2)
    before = opened(project).key
    edit(project / file, old, new)
    assert opened(project).key != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("timeout_s = 900", "timeout_s = 901"),
        ("relay_output = true", "relay_output = false"),
        ("[train]\n", "[train]\nmax_log_bytes = 5\n"),
        ("# seconds", "# other words"),
        ("memory_mb = ", "memory_mb = 1"),
        ('description = "', 'description = "Another: '),
    ],
)
def test_the_key_does_not_follow_comments_limits_and_words(make_project: MakeProject, old: str, new: str) -> None:
    project = make_project(1, 2)
    before = opened(project)
    edit(project / "models/flights/model.toml", old, new)
    after = opened(project)
    assert (after.key, after.code) == (before.key, before.code)


def test_the_code_of_a_run_is_its_files_without_the_settings(make_project: MakeProject) -> None:
    run = opened(make_project(1, 2))
    assert list(run.code) == ["train.py"]


def test_the_key_follows_the_batch(make_project: MakeProject) -> None:
    project = make_project(1, 2)
    keys = {opened(project).key}
    put(project, "month=02/flights.parquet", b"other bytes")
    keys.add(opened(project).key)
    put(project, "month=03/flights.parquet")
    keys.add(opened(project).key)
    assert len(keys) == 3


def test_the_key_follows_a_variable_that_overrides_a_parameter(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(1, 2)
    before = opened(project).key
    monkeypatch.setenv("INSITU_MODEL__TRAIN__PARAMS__C", "3.0")
    assert opened(project).key != before


def test_the_key_follows_where_in_the_folder_a_file_lies(make_project: MakeProject) -> None:
    project = make_project(1, 2)
    for folder in ("features", "labels"):
        (project / "models/flights" / folder).mkdir()
    helper = project / "models/flights/features/rules.py"
    helper.write_text("LIMIT = 15")
    before = opened(project).key
    helper.rename(project / "models/flights/labels/rules.py")
    assert opened(project).key != before


def test_publishing_is_a_step_of_its_own_per_destination(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(1, 2)
    names = {opened(project).step_name("publish")}
    monkeypatch.setenv("INSITU_SITE__REGISTRY", "localhost:5000")
    names.add(opened(project).step_name("publish"))
    assert len(names) == 2
    assert opened(project).step_name("train") == "train"
