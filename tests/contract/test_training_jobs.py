"""What every `TrainingJobs` promises: one job per key, its own error, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from job_places import LOADER, MLMODEL, TRAIN, Place, alive, make_place, started_pids, wait_for
from process_launcher import ProcessLauncher, remote_jobs

from insitu.adapters.local.jobs import ProcessJobs
from insitu.enclosure import without_network
from insitu.errors import BlobChanged, DataError, TrainingFailed
from insitu.ports import JobStatus, TrainingJobs


def local(root: Path) -> TrainingJobs:
    return ProcessJobs(root / "jobs with space")


ADAPTERS: dict[str, Callable[[Path], TrainingJobs]] = {"local": local, "remote": remote_jobs}
KINDS = [*ADAPTERS, "attached-vm"]


@pytest.fixture(scope="module")
def adapter_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Callable[[Path], TrainingJobs]]]:
    """Return the way of running jobs that has a name; the twin starts when it is asked for."""
    with pytest.MonkeyPatch.context() as surroundings:

        def find(kind: str) -> Callable[[Path], TrainingJobs]:
            if kind in ADAPTERS:
                return ADAPTERS[kind]
            from twin_places import twin_jobs

            running = request.getfixturevalue("_running_estate")
            for name, value in running.environment.items():
                surroundings.setenv(name, value)
            return partial(twin_jobs, running)

        yield find


@pytest.fixture(params=KINDS)
def place(
    request: pytest.FixtureRequest, tmp_path: Path, adapter_of: Callable[[str], Callable[[Path], TrainingJobs]]
) -> Iterator[Place]:
    yield make_place(adapter_of(request.param), tmp_path)
    ProcessLauncher(tmp_path / "the other machine").end_all()


@pytest.fixture(scope="module", params=KINDS)
def done(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    adapter_of: Callable[[str], Callable[[Path], TrainingJobs]],
) -> tuple[Place, str]:
    """A job that completed, with a champion on the same rows; made once, for it takes seconds."""
    root = tmp_path_factory.mktemp("done")
    place = make_place(adapter_of(request.param), root)
    champion = root / "champion"
    (champion / "code").mkdir(parents=True)
    for name, text in (("code/tiny_model.py", LOADER), ("slope.txt", "1.0"), ("MLmodel", MLMODEL)):
        (champion / name).write_text(text)
    spec = place.spec(champion={"version": "7", "folder": str(champion)})
    job_id = place.jobs.submit("key-of-done", spec)
    assert place.jobs.submit("key-of-done", spec) == job_id
    status = place.ended(job_id, 120)
    assert status == JobStatus("completed"), place.jobs.log(job_id, 0).decode()
    return place, job_id


# --- a job that completes ---


def test_a_finished_job_leaves_model_result_and_golden_rows(done: tuple[Place, str]) -> None:
    place, job_id = done
    output = place.jobs.output(job_id)
    result = json.loads((output / "result.json").read_text())
    assert (result["rows"], result["champion"], result["onnx"]) == (170, "7", None)
    assert set(result["metrics"]) == {"challenger", "champion"}
    assert 0.6 < result["metrics"]["challenger"]["roc_auc"] < 1
    assert {result["difference"][end] for end in ("estimate", "low", "high")} == {0}
    assert result["claimed"] == {"train_rows": 340}
    assert "MLmodel" in result["files"]
    assert result["peak_memory_bytes"] > 10_000_000
    assert len(json.loads((output / "golden.json").read_text())["predictions"]) == 5
    assert (output / "output/model/MLmodel").is_file()


def test_a_result_holds_no_row_of_the_data(done: tuple[Place, str]) -> None:
    place, job_id = done
    text = (place.jobs.output(job_id) / "result.json").read_text()
    for month in (1, 2, 3):
        for value in pq.read_table(place.store.root / f"month={month}/a.parquet")["x"].to_pylist():
            assert repr(value) not in text


def test_a_job_says_how_it_is_looked_at(done: tuple[Place, str]) -> None:
    jobs = done[0].jobs
    first_s, most_s = jobs.poll_s
    assert 0 < first_s <= most_s <= 30
    assert all(limit > 0 for limit in jobs.limits_s.values())
    assert jobs.backend


def test_the_same_key_is_one_job_even_for_another_process(done: tuple[Place, str]) -> None:
    place, job_id = done
    for jobs in (place.jobs, place.opened()):
        assert jobs.submit("key-of-done", place.spec()) == job_id
        assert jobs.status(job_id) == JobStatus("completed")
    assert place.starts() == 1


def test_a_log_is_read_on_from_an_offset(done: tuple[Place, str]) -> None:
    place, job_id = done
    log = place.jobs.log(job_id, 0)
    for text in (b"training on 340 rows\n", b"trained\n", b"::progress 1.00 done\n"):
        assert text in log
    assert place.jobs.log(job_id, 30) == log[30:]
    assert place.jobs.log(job_id, len(log)) == b""
    assert place.jobs.log(job_id, len(log) + 100) == b""


def test_cancelling_a_finished_job_changes_nothing(done: tuple[Place, str]) -> None:
    place, job_id = done
    place.jobs.cancel(job_id)
    assert place.jobs.status(job_id) == JobStatus("completed")


# --- a job that does not ---


def test_a_script_that_fails_is_told_without_its_words(place: Place) -> None:
    job_id = place.jobs.submit("k", place.spec("fail"))
    status = place.ended(job_id)
    assert status.state == "failed"
    assert isinstance(status.error, TrainingFailed)
    assert status.error.found == "ValueError"
    assert "Ada" not in str(status.error)
    assert b"Ada-Lovelace-1815" in place.jobs.log(job_id, 0)


def test_a_failed_job_is_started_again_by_the_next_process(place: Place) -> None:
    place.ended(place.jobs.submit("k", place.spec("fail")))
    again = replace(place, jobs=place.opened())
    assert again.ended(again.jobs.submit("k", place.spec("fail"))).state == "failed"
    assert place.starts() == 2


def test_a_failed_job_is_started_again_by_the_same_process(place: Place) -> None:
    for _ in range(2):
        assert place.ended(place.jobs.submit("k", place.spec("fail"))).state == "failed"
    assert place.starts() == 2


def test_a_script_that_was_changed_after_its_run_began_is_not_run(place: Place) -> None:
    spec = place.spec()
    (place.folder / "train.py").write_text(TRAIN + "print('changed')")
    error = place.error("k", spec)
    assert isinstance(error, TrainingFailed)
    assert "train.py" in error.what
    assert "was changed" in error.what
    assert place.starts() == 0


def test_a_column_that_is_not_there_is_told_as_bad_data(place: Place) -> None:
    ask = "from insitu.edge.data import open_batch; open_batch().examples(['x', 'height'])"
    status = place.ended(place.jobs.submit("k", place.spec(command=["python", "-c", ask])))
    assert isinstance(status.error, DataError), status
    assert "no column height" in status.error.what


def test_a_script_that_leaves_no_model_is_told_as_that(place: Place) -> None:
    status = place.ended(place.jobs.submit("k", place.spec(command=["python", "-c", "pass"])))
    assert isinstance(status.error, TrainingFailed)
    assert "no model" in status.error.what


def test_a_blob_that_changed_under_the_evaluation_is_told_as_that(place: Place) -> None:
    spec = place.spec()
    (place.store.root / "month=3/a.parquet").write_bytes(b"other bytes")
    status = place.ended(place.jobs.submit("k", spec))
    assert isinstance(status.error, BlobChanged), status
    assert "month=3/a.parquet" in str(status.error)


def test_an_unknown_key_is_no_running_job(place: Place) -> None:
    status = place.jobs.status("never-submitted")
    assert status.state == "failed"
    assert status.error is not None
    assert place.jobs.log("never-submitted", 0) == b""
    place.jobs.cancel("never-submitted")


def test_cancelling_ends_every_process_even_one_that_ignores_sigterm(place: Place) -> None:
    job_id = place.jobs.submit("k", place.spec("hang"))
    pids = started_pids(place.notes)
    wait_for(lambda: b"stubborn" in place.jobs.log(job_id, 0))
    assert place.jobs.status(job_id).state == "running"
    place.jobs.cancel(job_id)
    wait_for(lambda: not alive(pids), 5)
    assert place.jobs.status(job_id).state == "canceled"


def test_when_cancelling_returns_the_processes_are_gone(place: Place) -> None:
    job_id = place.jobs.submit("k", place.spec("hang"))
    pids = started_pids(place.notes)
    place.jobs.cancel(job_id)
    assert alive(pids) == []


@pytest.fixture
def isolated(tmp_path: Path) -> Place:
    """Jobs that reach a blob service through a proxy and nothing else: that of the holdout, which is never read."""
    if not without_network():
        pytest.skip("the kernel lets nobody here make a network namespace")
    return make_place(lambda root: ProcessJobs(root / "jobs", isolated=True), tmp_path)


def far_holdout(place: Place) -> dict[str, object]:
    store = {"kind": "azure-blob", "container": "c", "store": {"account_url": "https://hub.example"}}
    return {"holdout": place.spec()["holdout"] | {"store": store}}


def test_cancelling_an_isolated_job_ends_its_proxy_too(isolated: Place) -> None:
    job_id = isolated.jobs.submit("k", isolated.spec("hang", **far_holdout(isolated)))
    job, *others = started_pids(isolated.notes)
    proxy = int(Path(f"/proc/{job}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"insitu.edge.proxy" in Path(f"/proc/{proxy}/cmdline").read_bytes()
    isolated.jobs.cancel(job_id)
    assert alive([proxy, job, *others]) == []
    assert isolated.jobs.status(job_id).state == "canceled"


def test_a_script_that_wants_to_reach_others_is_told_why_it_cannot(isolated: Place) -> None:
    fetch = "import urllib.request; urllib.request.urlopen('https://elsewhere.example/')"
    error = isolated.error("k", isolated.spec(command=["python", "-c", fetch], **far_holdout(isolated)))
    assert isinstance(error, TrainingFailed)
    assert error.found == "urllib.error.URLError"
    assert error.next_action
    assert "it reaches nothing but its data: see network of [training]" in error.next_action


SUBMITTER = """
import json, os, signal, sys, time
from pathlib import Path
from insitu.adapters.local.jobs import ProcessJobs

spec = json.loads(sys.stdin.read())
jobs = ProcessJobs(Path(sys.argv[1]))
jobs.submit("k", spec)
print(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[0], flush=True)
if sys.argv[2] == "at-once":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(600)
"""


@pytest.mark.parametrize("when", ["at-once", "later"])
def test_a_job_ends_when_the_process_that_submitted_it_is_killed(tmp_path: Path, when: str) -> None:
    place = make_place(local, tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, tmp_path / "jobs", when], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as submitter:
        assert submitter.stdin is not None
        assert submitter.stdout is not None
        submitter.stdin.write(json.dumps(place.spec("hang")).encode())
        submitter.stdin.close()
        pids = [int(submitter.stdout.readline())]
        if when == "later":
            pids = started_pids(place.notes)
            submitter.send_signal(signal.SIGKILL)
        submitter.wait(10)
    try:
        wait_for(lambda: not alive(pids), 8)
        if (place.notes / "pids.json").exists():
            wait_for(lambda: not alive(started_pids(place.notes)), 3)
    finally:
        started = started_pids(place.notes) if (place.notes / "pids.json").exists() else []
        for pid in alive([*pids, *started]):
            os.kill(pid, signal.SIGKILL)
