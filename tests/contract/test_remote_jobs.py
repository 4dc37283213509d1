"""Jobs on another machine: one per run wherever the flow is killed, and no word of the data in what is shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from job_places import LOADER, MLMODEL, Place, make_place, wait_for
from process_launcher import ProcessLauncher, remote_jobs

from insitu.adapters.remote import RemoteJobs
from insitu.adapters.staging import stage_code
from insitu.edge.remote import check_code
from insitu.errors import StateDamaged, TrainingFailed
from insitu.jobstate import Beat, JobState
from insitu.ports import JobStatus

SUBMIT = """
import json, sys
from pathlib import Path
from process_launcher import remote_jobs
print(remote_jobs(Path(sys.argv[1])).submit("k", json.loads(sys.stdin.read())))
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield make_place(remote_jobs, tmp_path)
    ProcessLauncher(tmp_path / "the other machine").end_all()


def launcher_of(place: Place) -> ProcessLauncher:
    assert isinstance(place.jobs, RemoteJobs)
    assert isinstance(place.jobs.launcher, ProcessLauncher)
    return place.jobs.launcher


@pytest.mark.parametrize("point", ["submit:named", "submit:started"])
def test_a_flow_that_is_killed_while_it_submits_attaches_to_the_same_job(place: Place, point: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", SUBMIT, str(place.folder.parent)],
        env={**os.environ, "INSITU_CRASH_AT": point, "PYTHONPATH": str(Path(__file__).parent)},
        input=json.dumps(place.spec()).encode(),
        capture_output=True,
        timeout=90,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    job_id = place.jobs.submit("k", place.spec())
    assert job_id == "k"
    assert place.ended(job_id) == JobStatus("completed")
    assert place.starts() == 1
    assert [path.parent.name for path in launcher_of(place).root.glob("*/pid")] == ["k"]


def test_a_job_outlives_the_process_that_submitted_it(place: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SUBMIT, str(place.folder.parent)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        input=json.dumps(place.spec()).encode(),
        capture_output=True,
        timeout=90,
    )
    assert done.stdout == b"k\n", done.stderr.decode()
    assert place.ended("k") == JobStatus("completed")
    assert (place.jobs.output("k") / "output/model/MLmodel").is_file()
    assert launcher_of(place).asked == []


def test_what_the_service_sees_of_a_job_that_fails_holds_no_word_of_it(place: Place) -> None:
    place.ended(place.jobs.submit("k", place.spec("fail")))
    folder = launcher_of(place).root / "k"
    wait_for(lambda: (folder / "exit").exists())
    lines = (folder / "output.txt").read_text().splitlines()
    assert lines[0] == "insitu edge job begins"
    assert lines[-1] == "insitu edge job failed: E-TRAIN"
    assert all(line.startswith("insitu edge job ") for line in lines)
    summary = json.loads((folder / "summary/summary.json").read_text())
    assert summary == {"state": "failed", "code": "E-TRAIN"}


def test_what_leaves_a_job_that_completes_are_counts_and_metrics_of_four_digits(place: Place) -> None:
    assert place.ended(place.jobs.submit("k", place.spec())) == JobStatus("completed")
    folder = launcher_of(place).root / "k"
    wait_for(lambda: (folder / "exit").exists())
    summary = json.loads((folder / "summary/summary.json").read_text())
    assert set(summary) == {"state", "rows", "metrics"}
    assert summary["rows"] == 170
    assert all(len(value.strip("0.")) <= 4 for value in summary["metrics"]["challenger"].values())


def test_a_failure_names_the_log_where_it_is_kept(place: Place) -> None:
    status = place.ended(place.jobs.submit("k", place.spec("fail")))
    assert status.error is not None
    assert "jobs/k/log/ of the site's state" in str(status.error.next_action)


def test_an_attempt_that_failed_is_followed_by_one_of_another_name(place: Place) -> None:
    assert place.ended(place.jobs.submit("k", place.spec("fail"))).state == "failed"
    assert place.jobs.submit("k", place.spec()) == "k-2"
    assert place.ended("k-2") == JobStatus("completed")
    assert place.jobs.submit("k", place.spec()) == "k-2"


def test_a_job_that_the_service_ended_counts_for_nothing_whatever_it_does_then(place: Place) -> None:
    job_id = place.jobs.submit("k", place.spec("hang"))
    wait_for(lambda: b"training" in place.jobs.log(job_id, 0))
    launcher_of(place).stop(job_id)
    assert place.jobs.status(job_id) == JobStatus("canceled")
    state = JobState(remote_jobs(place.folder.parent).state, job_id)
    assert state.beat(Beat(count=99, end="left"), "an old version") is None
    assert place.jobs.status(job_id) == JobStatus("canceled")


def test_a_name_that_the_service_knows_from_another_state_is_left_alone(place: Place) -> None:
    (launcher_of(place).root / "k").mkdir(parents=True)
    (launcher_of(place).root / "k/exit").write_text("0\n")
    assert place.jobs.submit("k", place.spec()) == "k-2"
    assert place.ended("k-2") == JobStatus("completed")


def test_a_training_that_takes_too_long_ends_on_its_own_machine(place: Place) -> None:
    status = place.ended(place.jobs.submit("k", place.spec("hang", timeout_s=3)))
    assert status.error is not None
    assert "did not end in time" in status.error.what
    wait_for(lambda: not launcher_of(place).group("k"))


def test_what_a_job_left_is_fetched_again_and_damage_is_told(place: Place) -> None:
    job_id = place.jobs.submit("k", place.spec())
    assert place.ended(job_id) == JobStatus("completed")
    first = {path.name for path in place.jobs.output(job_id).rglob("*")}
    elsewhere = replace(place, jobs=place.opened())
    assert isinstance(elsewhere.jobs, RemoteJobs)
    elsewhere.jobs.work = place.folder.parent / "another machine"
    assert {path.name for path in elsewhere.jobs.output(job_id).rglob("*")} == first
    for part in (place.folder.parent / "site state/parcels").iterdir():
        part.write_bytes(b"other bytes")
    elsewhere.jobs.work = place.folder.parent / "a third machine"
    with pytest.raises(StateDamaged, match="parcels/"):
        elsewhere.jobs.output(job_id)


@pytest.mark.parametrize("how", ["changed", "added", "removed", "another manifest"])
def test_code_that_is_not_what_was_sent_is_not_run(place: Place, tmp_path: Path, how: str) -> None:
    code = tmp_path / "sent"
    digest = stage_code(place.folder, place.spec()["code"], code)
    check_code(code, digest)
    if how == "changed":
        (code / "model/train.py").write_text("print('something else')")
    elif how == "added":
        (code / "insitu/sitecustomize.py").write_text("")
    elif how == "removed":
        (code / "insitu/edge/metrics.py").unlink()
    else:
        manifest = json.loads((code / "manifest.json").read_text())
        (code / "manifest.json").write_text(json.dumps(manifest | {"model/train.py": "0" * 64}))
    with pytest.raises(TrainingFailed, match="not the code that was sent"):
        check_code(code, digest)


def test_a_link_in_the_model_s_folder_travels_as_the_file_that_was_hashed(place: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.txt").write_text("shared")
    (place.folder / "link.txt").symlink_to(tmp_path / "elsewhere.txt")
    stage_code(place.folder, place.spec()["code"], tmp_path / "sent")
    assert [path for path in (tmp_path / "sent").rglob("*") if path.is_symlink()] == []
    assert (tmp_path / "sent/model/link.txt").read_text() == "shared"


def test_two_registered_models_are_compared_on_the_other_machine_and_nothing_is_trained(place: Place) -> None:
    folders = {version: place.notes / version for version in ("1", "2")}
    for version, folder in folders.items():
        (folder / "code").mkdir(parents=True)
        for name, text in (("code/tiny_model.py", LOADER), ("slope.txt", version), ("MLmodel", MLMODEL)):
            (folder / name).write_text(text)
    champion, challenger = ({"version": version, "folder": str(folder)} for version, folder in folders.items())
    spec = place.spec(command=[], code={}, champion=champion, challenger=challenger, golden_rows=0)
    job_id = place.jobs.submit("k", spec)
    assert place.ended(job_id) == JobStatus("completed")
    result = json.loads((place.jobs.output(job_id) / "result.json").read_text())
    assert result["metrics"]["challenger"]["roc_auc"] == result["metrics"]["champion"]["roc_auc"]
    assert result["metrics"]["challenger"]["log_loss"] != result["metrics"]["champion"]["log_loss"]
    assert place.starts() == 0
