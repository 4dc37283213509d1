"""Jobs of the twin: they really run, under a name that is given once, and end as they do in Azure."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from azure.ai.ml import MLClient
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from ml_helpers import client_of, job_of, until, wait_for

from insitu.twin.estate import Estate
from insitu.twin.faults import Fault
from insitu.twin.server import running_estate

_WRITES = """
import json, os, pathlib, sys
print("training")
pathlib.Path(os.environ["AZURE_ML_OUTPUT_summary"], "result.json").write_text(json.dumps(dict(os.environ)))
"""
_SLEEPS = "import time, pathlib, os; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600)"


@pytest.fixture
def client(estate: Estate) -> MLClient:
    return client_of(estate)


def _log(client: MLClient, name: str, folder: Path) -> str:
    client.jobs.download(name, download_path=folder, all=True)
    return (folder / "artifacts" / "user_logs" / "std_log.txt").read_text()


def test_a_job_runs_the_code_that_was_uploaded_and_leaves_its_output(
    estate: Estate, client: MLClient, tmp_path: Path
) -> None:
    (tmp_path / "code" / "part").mkdir(parents=True)
    (tmp_path / "code" / "part" / "listed.txt").write_text("x")
    job = job_of(estate, tmp_path / "code", _WRITES, environment_variables={"INSITU_KEY": "k"})
    made = client.jobs.create_or_update(job)

    assert made.status in ("NotStarted", "Queued", "Preparing", "Running")
    assert wait_for(client, made.name) == "Completed"
    assert _log(client, made.name, tmp_path / "back") == "training\n"
    environ = json.loads((tmp_path / "back" / "named-outputs" / "summary" / "result.json").read_text())
    assert environ["INSITU_KEY"] == "k"
    assert environ["HTTPS_PROXY"] == estate.proxy
    assert environ["MLFLOW_RUN_ID"] == environ["AZUREML_RUN_ID"] == made.name
    assert not {name for name in environ if name.startswith(("PYTEST", "VIRTUAL_ENV"))}, "a variable of this process"
    assert sorted(path.name for path in (estate.folder / "jobs" / made.name / "code").iterdir()) == ["main.py", "part"]


def test_what_a_job_prints_and_leaves_is_in_the_log_of_egress(estate: Estate, client: MLClient, tmp_path: Path) -> None:
    leave = "open(os.environ['AZURE_ML_OUTPUT_summary'] + '/a', 'w').write('word-' + 'left')"
    script = f"import os; print('word-' + 'printed'); {leave}"
    made = client.jobs.create_or_update(job_of(estate, tmp_path / "code", script))
    wait_for(client, made.name)

    lines = [line for line in estate.journal.lines() if line.host == estate.names.workspace_blob and line.body]
    sent = b"".join((estate.journal.bodies / line.body).read_bytes() for line in lines)
    assert b"word-printed" in sent
    assert b"word-left" in sent


@pytest.mark.parametrize("when", ["before", "after"])
def test_storage_that_fails_for_a_while_costs_no_line_of_the_log(
    estate: Estate, client: MLClient, tmp_path: Path, when: str
) -> None:
    estate.faults.add(Fault("status:503", path="comp=appendblock", when=when, times=2))
    made = client.jobs.create_or_update(job_of(estate, tmp_path / "code", "print('once')"))

    assert wait_for(client, made.name) == "Completed"
    assert _log(client, made.name, tmp_path / "back") == "once\n"


def test_a_name_is_a_job_for_ever(estate: Estate, client: MLClient, tmp_path: Path) -> None:
    first = client.jobs.create_or_update(job_of(estate, tmp_path / "code", "print(1)"))
    with pytest.raises(HttpResponseError, match="A job with this name already exists") as caught:
        client.jobs.create_or_update(job_of(estate, tmp_path / "other", "print(2)", name=first.name))

    assert caught.value.status_code == 400
    assert "CodeId" in str(caught.value)
    assert wait_for(client, first.name) == "Completed"
    assert _log(client, first.name, tmp_path / "back") == "1\n"


@pytest.mark.parametrize("kind", ["status:503", "drop"])
def test_an_answer_that_is_lost_leaves_one_job(estate: Estate, client: MLClient, tmp_path: Path, kind: str) -> None:
    job = job_of(estate, tmp_path / "code", "print(1)")
    estate.faults.add(Fault(kind, method="PUT", path="/jobs/", when="after"))
    made = client.jobs.create_or_update(job)

    puts = [line for line in estate.journal.lines() if line.method == "PUT" and f"/jobs/{made.name}" in line.path]
    assert len(puts) == 2, "the SDK repeats the request"
    assert [found.name for found in client.jobs.list() if found.name == made.name] == [made.name]
    assert wait_for(client, made.name) == "Completed"


def test_a_job_that_fails_says_so_and_keeps_what_it_printed(estate: Estate, client: MLClient, tmp_path: Path) -> None:
    made = client.jobs.create_or_update(job_of(estate, tmp_path / "code", "print('so far'); raise SystemExit(3)"))

    assert wait_for(client, made.name) == "Failed"
    details = client.jobs._runs_operations.get_run_details(made.name)
    assert "status code 3" in details.error.error.message
    assert _log(client, made.name, tmp_path / "back") == "so far\n"


def test_a_job_that_cannot_run_is_refused(estate: Estate, client: MLClient, tmp_path: Path) -> None:
    for change, text in (({"compute": "nowhere"}, "Cannot find compute"), ({"name": "a b"}, "name")):
        job = job_of(estate, tmp_path / "code", "print(1)")
        for key, value in change.items():
            setattr(job, key, value)
        with pytest.raises(HttpResponseError, match=text):
            client.jobs.create_or_update(job)
    job = job_of(estate, tmp_path / "code", "print(1)")
    job.environment = "insitu-train:77"
    with pytest.raises(HttpResponseError, match="does not exist"):
        client.jobs.create_or_update(job)
    with pytest.raises(ResourceNotFoundError):
        client.jobs.get("no-such-job")


def test_a_cancel_ends_the_process(estate: Estate, client: MLClient, tmp_path: Path) -> None:
    made = client.jobs.create_or_update(job_of(estate, tmp_path / "code", _SLEEPS))
    pid = estate.folder / "jobs" / made.name / "code" / "pid"
    until(pid.exists, bool)
    client.jobs.begin_cancel(made.name).result()

    assert wait_for(client, made.name) == "Canceled"
    process = Path("/proc") / until(pid.read_text, bool)
    assert not process.exists() or "zombie" in (process / "status").read_text()
    client.jobs.begin_cancel(made.name).result()
    assert wait_for(client, made.name) == "Canceled"


def test_a_job_that_takes_too_long_is_canceled(estate: Estate, client: MLClient, tmp_path: Path) -> None:
    job = job_of(estate, tmp_path / "code", _SLEEPS)
    job.set_limits(timeout=1)
    made = client.jobs.create_or_update(job)
    assert wait_for(client, made.name) == "Canceled"


def test_a_stuck_queue_holds_jobs_back(estate: Estate, client: MLClient, tmp_path: Path) -> None:
    estate.set_condition("queue-stuck")
    made = client.jobs.create_or_update(job_of(estate, tmp_path / "code", "print(1)"))
    wait_for(client, made.name, "Queued")
    time.sleep(0.5)  # longer than the queue looks around
    assert client.jobs.get(made.name).status == "Queued"

    estate.clear("queue-stuck")
    assert wait_for(client, made.name) == "Completed"


def test_a_machine_runs_one_job_at_a_time(estate: Estate, client: MLClient, tmp_path: Path) -> None:
    first = client.jobs.create_or_update(job_of(estate, tmp_path / "code", _SLEEPS))
    wait_for(client, first.name, "Running")
    second = client.jobs.create_or_update(job_of(estate, tmp_path / "other", "print(2)"))
    assert wait_for(client, second.name, "Queued", "Running") == "Queued"

    client.jobs.begin_cancel(first.name).result()
    assert wait_for(client, second.name) == "Completed"


def test_a_job_whose_machine_goes_away_does_not_respond_and_then_has_failed(
    estate: Estate, client: MLClient, tmp_path: Path
) -> None:
    made = client.jobs.create_or_update(job_of(estate, tmp_path / "code", _SLEEPS))
    wait_for(client, made.name, "Running")
    estate.set_condition("vm-deallocated")
    assert wait_for(client, made.name, "NotResponding") == "NotResponding"

    estate.clear("vm-deallocated")
    assert wait_for(client, made.name) == "Failed"


def test_a_state_can_be_said_that_nobody_knows(estate: Estate, client: MLClient, tmp_path: Path) -> None:
    estate.set_condition("job-state:Hibernating")
    made = client.jobs.create_or_update(job_of(estate, tmp_path / "code", "print(1)"))
    assert client.jobs.get(made.name).status == "Hibernating"

    estate.clear("job-state:Hibernating")
    assert wait_for(client, made.name) == "Completed"


def test_jobs_of_a_cluster_run_side_by_side_and_whatever_the_machine_does(
    estate: Estate, client: MLClient, tmp_path: Path
) -> None:
    estate.set_condition("vm-deallocated")
    made = []
    for folder in ("one", "two"):
        job = job_of(estate, tmp_path / folder, _SLEEPS)
        job.compute = estate.names.cluster
        made.append(client.jobs.create_or_update(job).name)

    assert [wait_for(client, name, "Running") for name in made] == ["Running", "Running"]
    for name in made:
        client.jobs.begin_cancel(name).result()
        assert wait_for(client, name) == "Canceled"


def test_the_end_of_the_estate_ends_its_jobs_and_the_next_one_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_estate(tmp_path / "twin", in_memory=True) as first:
        for name, value in first.environment.items():
            monkeypatch.setenv(name, value)
        client = client_of(first)
        made = client.jobs.create_or_update(job_of(first, tmp_path / "code", _SLEEPS))
        pid = first.folder / "jobs" / made.name / "code" / "pid"
        process = Path("/proc") / until(lambda: pid.exists() and pid.read_text(), bool)
    assert not process.exists() or "zombie" in (process / "status").read_text()

    with running_estate(tmp_path / "twin", in_memory=True) as second:
        for name, value in second.environment.items():
            monkeypatch.setenv(name, value)
        assert wait_for(client_of(second), made.name) in ("Canceled", "Failed")
