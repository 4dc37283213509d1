"""A workspace that loses answers, forgets tokens and says odd words: one of everything, and no data leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from job_places import Place, make_place, started_pids, wait_for
from twin_places import attach_cluster, state_of, twin_jobs, twin_models, twin_settings

from insitu.adapters.azure.jobs import AzureMlJobs
from insitu.adapters.azure.models import AzureMlModels
from insitu.adapters.azure.tracking import Experiments
from insitu.adapters.azure.workspace import Workspace
from insitu.adapters.remote import STATE_VARIABLE
from insitu.adapters.staging import on_the_machine, state_spec
from insitu.errors import AccessRefused, BackendUnavailable, InsituError, RegistryFailed, TrainingFailed
from insitu.joblog import LogRelay
from insitu.jobstate import JobState
from insitu.ports import JobStatus
from insitu.settings import AzureMlTraining
from insitu.training import do_job
from insitu.twin.estate import Estate
from insitu.twin.faults import Fault

TAGS = {"insitu.verdict": "promote", "metric.roc_auc": "0.71"}
LOST = ["status:503", "drop"]
_numbers = count(1)


@pytest.fixture
def models(estate: Estate, tmp_path: Path) -> AzureMlModels:
    return twin_models(estate, tmp_path)


@pytest.fixture
def model() -> str:
    return f"model-{next(_numbers)}"


@pytest.fixture
def trained(tmp_path: Path, model: str) -> Path:
    folder = tmp_path / "trained"
    folder.mkdir()
    (folder / "MLmodel").write_text(f"flavors: {{}} # {model}\n")
    (folder / "weights.bin").write_bytes(model.encode() * 100)
    return folder


@pytest.fixture
def place(estate: Estate, tmp_path: Path) -> Iterator[Place]:
    made = make_place(lambda root: twin_jobs(estate, root), tmp_path)
    yield made
    estate.clear()
    for job in jobs_of(made):
        made.jobs.cancel(job)


def jobs_of(place: Place) -> list[str]:
    """Return the jobs that the workspace has for this place's run."""
    key = key_of(place)
    listed: list[Any] = azure(place).workspace.ask(lambda client: list(client.jobs.list()))
    return [job.name for job in listed if job.tags.get("insitu.run_key") == key]


def azure(place: Place) -> AzureMlJobs:
    assert isinstance(place.jobs, AzureMlJobs)
    return place.jobs


def key_of(place: Place) -> str:
    """Return a run key that no other test has."""
    return "".join(letter for letter in str(place.folder.parent) if letter.isalnum())[-60:]


def as_a_task(call: Callable[[], Any]) -> Any:
    """Return what *call* returns; an absent answer is worth another try, as in a task."""
    for _ in range(4):
        try:
            return call()
        except BackendUnavailable:
            continue
    return call()


def runs_of(models: AzureMlModels, model: str, run_key: str) -> list[dict[str, Any]]:
    """Return the runs that the workspace has recorded for a run key."""
    experiments = models._experiments
    asked = {"experiment_ids": [experiments._experiment(model)], "max_results": 100}
    runs = experiments._require("POST", "runs/search", asked).get("runs") or []
    marks = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
    return [run for run, tags in zip(runs, marks, strict=True) if tags.get("insitu.run_key") == run_key]


# --- answers that are lost after the work was done ---


@pytest.mark.parametrize(
    ("kind", "path", "method"),
    [
        *((kind, "/models/[^/]+/versions/", "PUT") for kind in LOST),
        *((kind, "listSecrets", "POST") for kind in LOST),
        # Microsoft's library waits 15 s before it tries that again.
        pytest.param("drop", "LocalUpload.*/weights", "PUT", marks=pytest.mark.slow),
    ],
)
def test_a_lost_answer_while_registering_leaves_one_version(
    estate: Estate, models: AzureMlModels, model: str, trained: Path, kind: str, path: str, method: str
) -> None:
    estate.faults.add(Fault(kind, path=path, method=method, when="after", times=2))
    made = as_a_task(lambda: models.register(model, "key-1", trained, TAGS))
    assert made.version == "1"
    assert [version.version for version in models.versions(model)] == ["1"]
    assert as_a_task(lambda: models.register(model, "key-2", trained, TAGS)).version == "2"


@pytest.mark.parametrize("kind", LOST)
def test_a_lost_answer_while_an_alias_moves_leaves_one_champion(
    estate: Estate, models: AzureMlModels, model: str, trained: Path, kind: str
) -> None:
    for key in ("key-1", "key-2"):
        models.register(model, key, trained, TAGS)
    models.set_alias(model, "champion", "1")
    estate.faults.add(Fault(kind, path="/models/", method="PUT", when="after", times=5))
    estate.faults.add(Fault(kind, path="/aliases/", method="PUT", when="after", times=2))
    as_a_task(lambda: models.set_alias(model, "champion", "2"))
    named = models.alias(model, "champion")
    assert named is not None
    assert named.version == "2"
    marked = [version.version for version in models.versions(model) if "insitu.alias.champion" in version.tags]
    assert marked == ["2"]


@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("path", ["experiments/create", "runs/create", "runs/log-batch", "runs/update"])
def test_a_lost_answer_while_recording_leaves_one_run_with_each_metric_once(
    estate: Estate, models: AzureMlModels, model: str, kind: str, path: str
) -> None:
    estate.faults.add(Fault(kind, path=path, method="POST", when="after", times=1))
    as_a_task(lambda: models.record(model, "key-1", "no-job", TAGS))
    (run,) = runs_of(models, model, "key-1")
    assert [metric["key"] for metric in run["data"]["metrics"]] == ["roc_auc"]
    assert run["info"]["status"] == "FINISHED"


@pytest.mark.parametrize(
    ("kind", "path", "method"),
    [
        *((kind, r"/jobs/[^/]+\?", "PUT") for kind in LOST),
        *((kind, "/codes/.*/versions/", "PUT") for kind in LOST),
        ("drop", "startPendingUpload", "POST"),
        # Microsoft's library waits 15 s before it tries that again.
        pytest.param("drop", "manifest.json", "PUT", marks=pytest.mark.slow),
    ],
)
def test_a_lost_answer_while_submitting_leaves_one_job(
    estate: Estate, place: Place, kind: str, path: str, method: str
) -> None:
    key = key_of(place)
    estate.faults.add(Fault(kind, path=path, method=method, when="after", times=2))
    job_id = as_a_task(lambda: place.jobs.submit(key, place.spec("hang")))
    assert place.jobs.submit(key, place.spec("hang")) == job_id
    assert jobs_of(place) == [job_id]


@pytest.mark.slow
def test_a_silent_connection_while_submitting_is_noticed_and_leaves_one_job(estate: Estate, place: Place) -> None:
    key, started = key_of(place), time.monotonic()
    estate.faults.add(Fault("silence", path=r"/jobs/[^/]+\?", method="PUT", when="after", times=1))
    job_id = as_a_task(lambda: place.jobs.submit(key, place.spec("hang")))
    assert jobs_of(place) == [job_id]
    assert time.monotonic() - started < 60 + 30  # seconds of silence, and those of the work


# --- a flow that is killed ---

SUBMIT = """
import json, sys
from pathlib import Path
from insitu.adapters.azure.blobs import AzureBlobs
from insitu.adapters.azure.jobs import AzureMlJobs
from insitu.settings import SiteSettings
root = Path(sys.argv[1])
settings = SiteSettings.model_validate_json((root / "settings.json").read_text())
jobs = AzureMlJobs(settings, AzureBlobs(settings.state, settings.state.container), root / "jobs with space")
print(jobs.submit(sys.argv[2], json.loads(sys.stdin.read())))
"""


@pytest.mark.parametrize("point", ["submit:named", "submit:created", "submit:started"])
def test_a_flow_that_is_killed_while_it_submits_attaches_to_the_same_job(place: Place, point: str) -> None:
    key = key_of(place)
    killed = subprocess.run(
        [sys.executable, "-c", SUBMIT, str(place.folder.parent), key],
        env={**os.environ, "INSITU_CRASH_AT": point},
        input=json.dumps(place.spec("hang")).encode(),
        capture_output=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert place.jobs.submit(key, place.spec("hang")) == key
    assert jobs_of(place) == [key]
    started_pids(place.notes)
    assert place.starts() == 1


# --- the way to a cluster ---


def test_a_job_for_a_cluster_names_its_target_and_instance_type(estate: Estate, tmp_path: Path) -> None:
    estate.set_condition("queue-stuck")
    overrides = {"TRAINING__KIND": "kubernetes", "TRAINING__TARGET": "cluster", "TRAINING__INSTANCE_TYPE": "large"}
    place = make_place(lambda root: twin_jobs(estate, root, **overrides), tmp_path)
    attach_cluster(azure(place).workspace, estate)
    key = key_of(place)
    place.jobs.submit(key, place.spec("hang"))
    job: Any = azure(place).workspace.ask(lambda client: client.jobs.get(key))
    assert (job.compute, job.resources.instance_type) == ("cluster", "large")
    assert all(check.ok for check in azure(place).checks())
    wrong = twin_settings(estate, tmp_path, TRAINING__KIND="kubernetes").training  # and the VM as the target
    assert isinstance(wrong, AzureMlTraining)
    assert [check.name for check in azure(place).workspace.checks(wrong) if not check.ok] == ["compute target"]
    place.jobs.cancel(key)
    assert place.jobs.status(key) == JobStatus("canceled")


# --- words, tokens and refusals ---


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("NotStarted", JobStatus("running", phase="queued")),
        ("Queued", JobStatus("running", phase="queued")),
        ("Preparing", JobStatus("running", phase="preparing")),
        ("NotResponding", JobStatus("running")),
        ("Paused", JobStatus("running")),
        ("CancelRequested", JobStatus("running")),
        ("Unknown", JobStatus("running")),
        ("Hibernating", JobStatus("running")),
        ("Canceled", JobStatus("canceled")),
        ("Completed", JobStatus("completed")),
    ],
)
def test_only_three_words_are_an_end(estate: Estate, place: Place, word: str, status: JobStatus) -> None:
    key = key_of(place)
    estate.set_condition("queue-stuck")
    place.jobs.submit(key, place.spec("hang"))
    estate.set_condition(f"job-state:{word}")
    assert azure(place).launcher.look(key) == status


def test_a_job_that_the_service_completed_without_a_word_of_its_own_is_no_success(estate: Estate, place: Place) -> None:
    key = key_of(place)
    estate.set_condition("queue-stuck")
    place.jobs.submit(key, place.spec("hang"))
    estate.set_condition("job-state:Completed")
    status = place.jobs.status(key)
    assert status.state == "failed"
    assert isinstance(status.error, TrainingFailed)


class WithoutExperiments(Workspace):
    """A workspace that names no address of MLflow."""

    def ask(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(mlflow_tracking_uri=None)


def test_a_workspace_without_experiments_shows_the_jobs_that_it_runs_and_records_no_others(place: Place) -> None:
    workspace = WithoutExperiments(azure(place).workspace.settings)
    Experiments(workspace, jobs_are_runs=True).record("flights", "key-1", "job-1", TAGS)
    with pytest.raises(RegistryFailed, match="no experiments") as caught:
        Experiments(workspace, jobs_are_runs=False).record("flights", "key-1", "job-1", TAGS)
    assert caught.value.next_action


def test_a_workspace_that_takes_no_tags_keeps_the_jobs_that_it_runs_and_records_no_others(
    estate: Estate, models: AzureMlModels, model: str
) -> None:
    estate.faults.add(Fault("status:404", path="runs/log-batch", times=0))
    models.record(model, "key-1", "job-1", TAGS)
    with pytest.raises(RegistryFailed):
        Experiments(models.workspace, jobs_are_runs=False).record(model, "key-2", "job-2", TAGS)


# --- waiting ---


def waiting_for(place: Place, timeout_s: float = 600) -> Any:
    """Return what waits for the jobs of a place: the part of a run that it needs."""
    train = SimpleNamespace(timeout_s=timeout_s)
    return SimpleNamespace(site=SimpleNamespace(jobs=place.jobs), model=SimpleNamespace(train=train), lease=None)


def test_waiting_costs_one_request_a_look_and_looks_grow_rare(estate: Estate, place: Place) -> None:
    jobs, key = azure(place), key_of(place)
    assert jobs.poll_s == (5.0, 30.0)
    jobs.poll_s, jobs.limits_s = (0.1, 0.6), {"queued": 2.0}
    estate.set_condition("queue-stuck")
    jobs.submit(key, place.spec("hang"))
    estate.journal.clear()
    with pytest.raises(TrainingFailed, match="stayed queued"):
        do_job(waiting_for(place), key, place.spec("hang"), LogRelay(lambda _: None, lambda _: None))
    asked = [line for line in estate.journal.lines("public") if line.method == "GET" and f"/jobs/{key}" in line.path]
    most = 8  # looks in 2 s: pauses of 0.1, 0.15, 0.23, 0.34, 0.51, 0.6 s
    assert len(asked) <= most + 3  # and those of submitting and canceling
    assert jobs.status(key) == JobStatus("canceled")


def test_a_job_goes_on_though_nobody_may_ask_for_it_any_more(estate: Estate, place: Place) -> None:
    key = key_of(place)
    estate.set_condition("queue-stuck")
    assert place.jobs.submit(key, place.spec("hang")) == key
    estate.faults.add(Fault("status:401", host="management.azure.com", path=f"/jobs/{key}", times=0, skip=1))
    with pytest.raises(AccessRefused):
        do_job(waiting_for(place), key, place.spec("hang"), LogRelay(lambda _: None, lambda _: None))
    estate.clear()
    assert place.jobs.submit(key, place.spec("hang")) == key
    started_pids(place.notes)
    assert place.starts() == 1


@pytest.mark.parametrize("kind", ["status:503", "status:401"])
def test_a_job_that_gives_signs_of_life_runs_whatever_becomes_of_the_workspace(
    estate: Estate, place: Place, kind: str
) -> None:
    job = place.jobs.submit(key_of(place), place.spec("hang"))
    started_pids(place.notes)
    estate.faults.add(Fault(kind, host="management.azure.com", times=0))
    beats = JobState(azure(place).state, job)
    first = beats.last_beat()
    assert {place.jobs.status(job).state for _ in range(3)} == {"running"}
    wait_for(lambda: beats.last_beat() != first)
    assert place.jobs.status(job) == JobStatus("running")


def test_a_workspace_that_is_not_there_comes_with_a_next_action(estate: Estate, tmp_path: Path) -> None:
    settings = twin_settings(estate, tmp_path, AZURE__WORKSPACE="another").azure
    assert settings
    (check,) = Workspace(settings).checks(None)
    assert not check.ok
    assert "insitu provision" in check.next_action


def test_an_edge_job_trusts_what_either_variable_names(estate: Estate, tmp_path: Path) -> None:
    settings = twin_settings(estate, tmp_path)
    assert isinstance(settings.training, AzureMlTraining)
    spec = on_the_machine(state_spec(settings.state), settings.training.secrets.state, None)
    environ = {"PATH": os.environ["PATH"], "HTTPS_PROXY": estate.proxy, "SSL_CERT_FILE": str(estate.authority.bundle)}
    job = [sys.executable, "-m", "insitu.edge.remote", "job-1"]
    subprocess.run(job, env={**environ, STATE_VARIABLE: json.dumps(spec)}, check=False, timeout=60)
    assert JobState(state_of(settings), "job-1").last_beat() is not None


def test_a_token_that_was_revoked_is_asked_for_anew(estate: Estate, models: AzureMlModels, model: str) -> None:
    assert list(models.versions(model)) == []
    models.record(model, "key-1", "no-job", TAGS)
    estate.set_condition("tokens-revoked")
    assert list(models.versions(model)) == []
    estate.set_condition("tokens-revoked")
    models.record(model, "key-1", "no-job", TAGS)


def test_a_refusal_ends_after_two_tries(estate: Estate, models: AzureMlModels, model: str) -> None:
    estate.faults.add(Fault("status:401", host="management.azure.com", times=0))
    with pytest.raises(AccessRefused):
        models.versions(model)
    asked = [line for line in estate.journal.lines("public") if line.host == "management.azure.com"]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("status:403", AccessRefused),
        ("status:400", RegistryFailed),
        ("status:500", BackendUnavailable),
        ("status:429:1", BackendUnavailable),
        ("drop", BackendUnavailable),
        ("garbage", BackendUnavailable),
        ("truncate", BackendUnavailable),
        ("certificate:expired", AccessRefused),
        ("certificate:foreign", AccessRefused),
        ("certificate:other-host", AccessRefused),
    ],
)
def test_every_way_to_fail_is_told_in_our_words(
    estate: Estate, models: AzureMlModels, model: str, trained: Path, kind: str, error: type[InsituError]
) -> None:
    models.workspace.forget()  # a connection that is open has its certificate behind it
    estate.faults.add(Fault(kind, host="management.azure.com", times=0))
    calls: list[Callable[[], object]] = [
        lambda: models.versions(model),
        lambda: models.register(model, "key-1", trained, TAGS),
        lambda: models.set_alias(model, "champion", "1"),
    ]
    for call in calls[: 1 if kind.startswith("status:429") else 3]:
        with pytest.raises(error) as caught:
            call()
        assert caught.value.__cause__ is None
        assert "eyJ" not in str(caught.value)
        assert "insitu" in caught.value.what


# --- what leaves ---


def test_no_data_no_blob_name_and_no_secret_is_in_any_request_to_a_public_host(estate: Estate, place: Place) -> None:
    key = key_of(place)
    params = {"slope": 2.0, "notes": str(place.notes), "planted": "Ada-Byron-1815"}
    for what in ("fail", "train"):
        place.ended(place.jobs.submit(key, place.spec(what, params=params)))
    models = twin_models(estate, place.folder.parent)
    models.register("planted", key, place.jobs.output(place.jobs.submit(key, place.spec())) / "output/model", TAGS)
    models.record("planted", key, key, TAGS)

    lines = list(estate.journal.lines("public", "unknown"))
    sent = b"".join((estate.folder / "bodies" / line.body).read_bytes() for line in lines if line.body)
    sent += "".join(line.host + line.path for line in lines).encode()
    assert {line.side for line in lines} == {"public"}
    assert key.encode() in sent
    secret = estate.account_key(estate.names.hub_account).read_bytes()
    printed, blob = b"training on 340 rows", b"month=1/a.parquet"
    assert printed in place.jobs.log(key, 0)
    for planted in (blob, printed, b"Ada-Byron-1815", str(place.notes).encode(), secret):
        assert planted not in sent
