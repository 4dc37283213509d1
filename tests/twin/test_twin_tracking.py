"""Run history and MLflow of the twin: each job is a run, read and written with plain MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from azure.ai.ml import MLClient
from ml_helpers import client_of, job_of, new_name, token_of, wait_for
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from twin_helpers import ask

from insitu.twin.estate import Estate


@pytest.fixture
def client(estate: Estate) -> MLClient:
    return client_of(estate)


@pytest.fixture
def tracking(estate: Estate, client: MLClient, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Plain MLflow, led to the workspace as its tracking URI says."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token_of(estate))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = str(client.workspaces.get(estate.names.workspace).mlflow_tracking_uri)
    return MlflowClient(uri.replace("azureml://", "https://"))


def test_a_job_is_a_run_with_metrics_tags_and_an_end(
    estate: Estate, client: MLClient, tracking: MlflowClient, tmp_path: Path
) -> None:
    made = client.jobs.create_or_update(job_of(estate, tmp_path / "code", "print(1)", experiment_name="flights"))
    wait_for(client, made.name)
    tracking.log_metric(made.name, "auc", 0.75)
    tracking.set_tag(made.name, "verdict", "promote")

    run = tracking.get_run(made.name)
    assert (run.info.run_id, run.info.status, run.data.metrics) == (made.name, "FINISHED", {"auc": 0.75})
    assert run.info.end_time >= run.info.start_time > 0
    assert run.info.artifact_uri.startswith("azureml://")
    assert client.jobs.get(made.name).tags == {"verdict": "promote"}
    experiment = tracking.get_experiment_by_name("flights")
    assert made.name in [found.info.run_id for found in tracking.search_runs([experiment.experiment_id])]


def test_runs_that_are_no_jobs_are_kept_too(tracking: MlflowClient) -> None:
    experiment = tracking.create_experiment(new_name("experiment"))
    run = tracking.create_run(experiment, tags={"insitu.run_key": "k"}, run_name="flights k")
    tracking.log_metric(run.info.run_id, "auc", 0.5)
    tracking.set_terminated(run.info.run_id)

    found = tracking.search_runs([experiment], "tags.`insitu.run_key` = 'k'")
    assert [(run.info.status, run.data.metrics) for run in found] == [("FINISHED", {"auc": 0.5})]
    with pytest.raises(RestException, match="already exists"):
        tracking.create_experiment(tracking.get_experiment(experiment).name)


def test_only_the_api_of_version_two_is_there(estate: Estate, tracking: MlflowClient) -> None:
    experiment = tracking.create_experiment(new_name("experiment"))
    with pytest.raises(MlflowException, match=r"not implemented|404"):
        tracking.create_logged_model(experiment)
    with pytest.raises(RestException, match="RESOURCE_DOES_NOT_EXIST"):
        tracking.get_run("no-such-job")


def test_mlflow_needs_a_token_that_is_good(
    estate: Estate, tracking: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    estate.set_condition("tokens-revoked")
    with pytest.raises(RestException, match="UNAUTHENTICATED"):
        tracking.search_experiments()

    estate.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token_of(estate, "https://storage.azure.com/.default"))
    with pytest.raises(RestException, match="wrong audience"):
        tracking.search_experiments()


def test_the_history_of_a_job_leads_to_its_log_and_takes_words(
    estate: Estate, client: MLClient, tmp_path: Path
) -> None:
    made = client.jobs.create_or_update(job_of(estate, tmp_path / "code", "print('a line of the job')"))
    wait_for(client, made.name)
    logs = client.jobs._runs_operations.get_run_details(made.name).log_files
    assert ask(estate, "GET", logs["user_logs/std_log.txt"]).text == "a line of the job\n"

    client.jobs.update(made.name, display_name="shown", tags={"a": "1"})
    client.jobs.archive(made.name)
    found = client.jobs.get(made.name)
    assert (found.display_name, found.tags) == ("shown", {"a": "1"})
    assert made.name not in [job.name for job in client.jobs.list()]


def test_no_registry_of_models_is_known(estate: Estate) -> None:
    url = "https://eastus.api.azureml.ms/registrymanagement/v1.0/registries/mine/discovery"
    answer = ask(estate, "GET", url, headers={"Authorization": f"Bearer {token_of(estate)}"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Registry with name mine not found.")
