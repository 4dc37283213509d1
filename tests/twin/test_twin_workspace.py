"""The workspace of the twin: rights, versions, assets that never change, compute targets."""

from __future__ import annotations

from pathlib import Path

import pytest
from azure.ai.ml import MLClient
from azure.ai.ml.entities import (
    Environment,
    KubernetesCompute,
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    Model,
    VirtualMachineCompute,
    VirtualMachineSshSettings,
)
from azure.ai.ml.exceptions import ValidationException
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from ml_helpers import client_of, new_name, token_of
from twin_helpers import ask, code_of

from insitu.twin.estate import Estate
from insitu.twin.server import running_estate


@pytest.fixture
def client(estate: Estate) -> MLClient:
    return client_of(estate)


def _model(folder: Path, name: str, version: str = "1", content: str = "flavors: {}\n", **options: object) -> Model:
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(content)
    return Model(name=name, version=version, path=str(folder), type="mlflow_model", **options)


def _refusal(estate: Estate, version: str, scope: str) -> str:
    url = f"https://management.azure.com{estate.names.workspace_id}{version}"
    token = token_of(estate, f"https://{scope}.azure.com/.default")
    return code_of(ask(estate, "GET", url, headers={"Authorization": f"Bearer {token}"}))


def test_a_workspace_is_found_with_its_default_datastore(estate: Estate, client: MLClient) -> None:
    found = client.workspaces.get(estate.names.workspace)

    assert found.location == estate.names.location
    assert found.mlflow_tracking_uri == f"azureml://westeurope.api.azureml.ms/mlflow/v1.0{estate.names.workspace_id}"
    assert client.datastores.get_default().name == "workspaceblobstore"
    with pytest.raises(ResourceNotFoundError, match="workspaces/other"):
        client.workspaces.get("other")


@pytest.mark.parametrize(
    ("version", "scope", "code"),
    [
        ("", "management", "MissingApiVersionParameter"),
        ("?api-version=1999-01-01", "management", "NoRegisteredProviderFound"),
        ("?api-version=2024-10-01", "ml", "InvalidAuthenticationTokenAudience"),
    ],
)
def test_a_wrong_version_and_a_wrong_audience_are_refused(estate: Estate, version: str, scope: str, code: str) -> None:
    assert _refusal(estate, version, scope) == code


def test_a_principal_without_the_role_may_look_and_not_write(estate: Estate, tmp_path: Path) -> None:
    names = estate.names
    reader = "00000000-1111-2222-3333-444444444444"
    estate.directory.register(names.tenant, reader, "s" * 40, {names.group_id: ("Reader",)})
    client = client_of(estate, client_id=reader, client_secret="s" * 40)

    assert client.environments.get("insitu-train", version="1").version == "1"
    with pytest.raises(HttpResponseError, match="does not have authorization to perform action") as caught:
        client.environments.create_or_update(Environment(name=new_name("env"), version="1", image="a:1"))
    assert caught.value.status_code == 403
    with pytest.raises(ValidationException, match="Storage Blob Data Contributor"):  # without the key, its own token
        client.models.create_or_update(_model(tmp_path / "model", "refused"))


def test_a_version_of_an_environment_never_changes(client: MLClient) -> None:
    name = new_name("env")
    first = Environment(name=name, version="1", image="registry/image:1", tags={"a": "1"})
    client.environments.create_or_update(first)
    client.environments.create_or_update(Environment(name=name, version="1", image="registry/image:1", tags={"b": "2"}))

    assert client.environments.get(name, label="latest").tags == {"b": "2"}
    with pytest.raises(ResourceExistsError, match="cannot be changed"):
        client.environments.create_or_update(Environment(name=name, version="1", image="registry/image:2"))
    with pytest.raises(ResourceNotFoundError):
        client.environments.get(name, version="2")


def test_the_latest_version_is_the_one_that_was_made_last(client: MLClient) -> None:
    for version in ("7", "of-today"):
        client.environments.create_or_update(Environment(name="newest", version=version, image="mcr.example/x:1"))
        assert client.environments.get("newest", label="latest").version == version


def test_a_model_is_uploaded_tagged_listed_archived_and_downloaded(client: MLClient, tmp_path: Path) -> None:
    name = new_name("model")
    made = client.models.create_or_update(_model(tmp_path / "model", name, tags={"insitu.run_key": "k"}))
    made.tags["verdict"] = "promote"
    client.models.create_or_update(made)

    assert made.path.endswith("/model")
    assert "/datastores/workspaceblobstore/paths/LocalUpload/" in made.path
    assert client.models.get(name, "1").tags == {"insitu.run_key": "k", "verdict": "promote"}
    assert [model.version for model in client.models.list(name)] == ["1"]
    client.models.download(name, "1", download_path=tmp_path / "back")
    assert (tmp_path / "back" / name / "model" / "MLmodel").read_text() == "flavors: {}\n"

    client.models.archive(name, "1")
    assert list(client.models.list(name)) == []
    assert [model.version for model in client.models.list(name, list_view_type="All")] == ["1"]


def test_a_version_of_a_model_never_gets_other_files(client: MLClient, tmp_path: Path) -> None:
    name = new_name("model")
    client.models.create_or_update(_model(tmp_path / "model", name))

    with pytest.raises(HttpResponseError, match="Asset paths cannot be updated"):
        client.models.create_or_update(_model(tmp_path / "model", name, content="flavors: {other: {}}\n"))
    client.models.create_or_update(_model(tmp_path / "model", name, version="2", content="flavors: {other: {}}\n"))
    assert [model.version for model in client.models.list(name)] == ["2", "1"]


def test_a_model_that_points_where_nothing_is_is_refused(client: MLClient) -> None:
    path = "azureml://jobs/no-such-job/outputs/summary/paths/model/"
    with pytest.raises(HttpResponseError, match="does not exist"):
        client.models.create_or_update(Model(name=new_name("model"), version="1", path=path, type="custom_model"))


def test_a_machine_and_a_cluster_are_attached_without_keeping_the_password(estate: Estate, client: MLClient) -> None:
    names = estate.names
    settings = VirtualMachineSshSettings(admin_username="insitu", admin_password="Fuchs-im-Schnee-7")
    vm_id = f"{names.hub_group_id}/providers/Microsoft.Compute/virtualMachines/other"
    vm = VirtualMachineCompute(name="other-vm", resource_id=vm_id, ssh_settings=settings)

    made = client.compute.begin_attach(vm).result()
    assert (made.type, made.provisioning_state, made.resource_id) == ("virtualmachine", "Succeeded", vm_id)
    cluster = KubernetesCompute(name="other-arc", namespace="insitu", resource_id=names.cluster_id)
    assert client.compute.begin_attach(cluster).result().namespace == "insitu"
    assert {"trainer", "other-vm", "other-arc"} <= {compute.name for compute in client.compute.list()}
    assert "Fuchs" not in (estate.folder / "state" / "azure-ml-computes.json").read_text()

    client.compute.begin_delete("other-vm", action="Detach").result()
    with pytest.raises(ResourceNotFoundError):
        client.compute.get("other-vm")


def test_a_compute_target_stays_what_it_is(estate: Estate, client: MLClient) -> None:
    settings = VirtualMachineSshSettings(admin_username="insitu", admin_password="Fuchs-im-Schnee-7")
    other = f"{estate.names.hub_group_id}/providers/Microsoft.Compute/virtualMachines/another"
    with pytest.raises(ResourceExistsError, match="another resource id"):
        client.compute.begin_attach(
            VirtualMachineCompute(name=estate.names.target, resource_id=other, ssh_settings=settings)
        )
    with pytest.raises(HttpResponseError, match="Resource Id is invalid"):
        client.compute.begin_attach(
            VirtualMachineCompute(name="by-address", resource_id="10.0.0.4", ssh_settings=settings)
        )


def test_an_estate_that_is_not_provisioned_has_no_workspace_until_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_estate(tmp_path / "bare", in_memory=True, provisioned=False) as bare:
        for name, value in bare.environment.items():
            monkeypatch.setenv(name, value)
        names, client = bare.names, client_of(bare)
        with pytest.raises(ResourceNotFoundError, match="workspaces/insitu"):
            client.workspaces.get(names.workspace)

        providers = f"{names.group_id}/providers"
        parts = {
            "storageAccount": f"{providers}/Microsoft.Storage/storageAccounts/{names.workspace_account}",
            "keyVault": f"{providers}/Microsoft.KeyVault/vaults/insitu",
        }
        assert _put(bare, names.workspace_id, "2024-10-01", parts) == 400
        assert _put(bare, parts["storageAccount"], "2023-05-01", {}) == 201
        assert _put(bare, parts["keyVault"], "2023-07-01", {}) == 201
        assert _put(bare, names.workspace_id, "2024-10-01", parts) == 201
        assert client.workspaces.get(names.workspace).storage_account == parts["storageAccount"]
        assert list(client.compute.list()) == []


def _put(estate: Estate, resource_id: str, version: str, properties: dict[str, str]) -> int:
    url = f"https://management.azure.com{resource_id}?api-version={version}"
    body = {"location": estate.names.location, "properties": properties}
    return ask(estate, "PUT", url, headers={"Authorization": f"Bearer {token_of(estate)}"}, json=body).status_code


def test_the_words_of_an_address_may_be_written_in_any_case(estate: Estate) -> None:
    place = estate.names.workspace_id.replace("resourceGroups", "resourcegroups").replace("Microsoft.", "microsoft.")
    url = f"https://management.azure.com{place}/computes/trainer?api-version=2024-10-01"
    found = ask(estate, "GET", url, headers={"Authorization": f"Bearer {token_of(estate)}"}).json()
    assert found["id"] == f"{estate.names.workspace_id}/computes/trainer"


def test_the_workspaces_blobs_take_a_token_instead_of_a_key(estate: Estate, client: MLClient) -> None:
    store = client.datastores.get("workspaceblobstore", include_secrets=True)
    with BlobServiceClient(f"https://{estate.names.workspace_blob}", client._credential) as blobs:
        blobs.get_blob_client(store.container_name, "by-token").upload_blob(b"1", overwrite=True)
        names = [blob.name for blob in blobs.get_container_client(store.container_name).list_blobs()]
    assert "by-token" in names


def test_an_endpoint_takes_nothing_that_could_not_answer(client: MLClient, estate: Estate) -> None:
    name = f"e-{new_name('')[-12:]}"
    made = client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, auth_mode="key")).result()
    assert made.scoring_uri == f"https://{name}.westeurope.inference.ml.azure.com/score"
    made.traffic = {"blue": 100}
    with pytest.raises(HttpResponseError, match="not there or has not come up"):
        client.online_endpoints.begin_create_or_update(made)
    routes = {key: {"port": 5001, "path": "/"} for key in ("liveness_route", "readiness_route", "scoring_route")}
    image = f"{estate.names.registry_host}/nobody@sha256:{'0' * 64}"
    wrong = {"an inference config": {"image": image}, "does not have it": {"image": image, "inference_config": routes}}
    for refusal, options in wrong.items():
        environment = client.environments.create_or_update(Environment(name=new_name("served"), version="1", **options))
        deployment = ManagedOnlineDeployment(
            name="blue",
            endpoint_name=name,
            environment=f"azureml:{environment.name}:1",
            instance_type="Standard_DS3_v2",
            instance_count=1,
        )
        with pytest.raises(HttpResponseError, match=refusal):
            client.online_deployments.begin_create_or_update(deployment)
