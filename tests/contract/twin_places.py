"""What tests of the Azure adapters need of the twin: settings, an empty state, a furnished workspace."""

from __future__ import annotations

import os
import shutil
from itertools import count
from pathlib import Path

from azure.ai.ml.entities import Environment, KubernetesCompute, VirtualMachineCompute, VirtualMachineSshSettings
from azure.storage.blob import BlobServiceClient

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.adapters.azure.jobs import AzureMlJobs
from insitu.adapters.azure.models import AzureMlModels
from insitu.adapters.azure.workspace import Workspace, open_workspace
from insitu.ports import ModelVersion
from insitu.settings import AzureStateStore, SiteSettings, load_site
from insitu.twin.estate import Estate
from insitu.twin.site_file import site_text

_numbers = count(1)


def twin_settings(estate: Estate, root: Path, **overrides: str) -> SiteSettings:
    """Return the settings of the estate's site with an empty state; *overrides* as `TRAINING__TARGET="'other'"`."""
    container = f"state-{next(_numbers)}"
    _create_container(estate, container)
    sites = root / "deployments" / "sites"
    sites.mkdir(parents=True, exist_ok=True)
    (sites / "twin.toml").write_text(site_text(estate, root))
    given = {"STATE__CONTAINER": container, **overrides}
    environ = {f"INSITU_SITE__{key}": value for key, value in given.items()}
    return load_site(root, "twin", {**os.environ, **environ})


def _create_container(estate: Estate, container: str) -> None:
    with _service(estate, estate.names.hub_account) as service:
        service.create_container(container)


def state_of(settings: SiteSettings) -> AzureBlobs:
    """Return the site's state."""
    assert isinstance(settings.state, AzureStateStore)
    return AzureBlobs(settings.state, settings.state.container)


def furnish(workspace: Workspace, estate: Estate) -> None:
    """Attach the VM and make the environment, as an operator does; nothing happens when they are there."""
    names = estate.names
    if workspace.find(lambda client: client.compute.get(names.target)) is None:
        machine = VirtualMachineCompute(
            name=names.target,
            resource_id=f"{names.hub_group_id}/providers/Microsoft.Compute/virtualMachines/{names.vm}",
            ssh_settings=VirtualMachineSshSettings(
                admin_username="trainer", admin_password="Loopback-only-1", ssh_port=22
            ),
        )
        workspace.ask(lambda client: client.compute.begin_create_or_update(machine).result())
    if workspace.find(lambda client: client.environments.get("insitu-train", label="latest")) is None:
        environment = Environment(name="insitu-train", version="1", image="mcr.example/insitu-train:1")
        workspace.ask(lambda client: client.environments.create_or_update(environment))


def attach_cluster(workspace: Workspace, estate: Estate) -> None:
    """Attach the Arc-enabled cluster, unless it is."""
    names = estate.names
    if workspace.find(lambda client: client.compute.get(names.cluster)) is None:
        cluster = KubernetesCompute(name=names.cluster, resource_id=names.cluster_id, namespace="insitu")
        workspace.ask(lambda client: client.compute.begin_create_or_update(cluster).result())


def twin_jobs(estate: Estate, root: Path, **overrides: str) -> AzureMlJobs:
    """Return the jobs of a site whose other machine is the twin's VM; a second call with *root* is another process."""
    file = root / "settings.json"
    if file.exists():
        settings = SiteSettings.model_validate_json(file.read_text())
    else:
        settings = twin_settings(estate, root, **overrides)
        file.write_text(settings.model_dump_json())
    assert settings.azure
    furnish(open_workspace(settings.azure), estate)
    return AzureMlJobs(settings, state_of(settings), root / "jobs with space")


def twin_models(estate: Estate, root: Path, **overrides: str) -> AzureMlModels:
    """Return the registry of the twin's workspace, for a site with an empty state."""
    settings = twin_settings(estate, root, **overrides)
    return AzureMlModels(settings, state_of(settings), root / "model files")


def lose_files(estate: Estate, models: AzureMlModels, version: ModelVersion) -> None:
    """Remove the files of a version wherever they are: here, in the site's state and in the workspace."""
    shutil.rmtree(models.folder(version))
    state = models.state
    assert isinstance(state, AzureBlobs)
    _delete(estate, estate.names.hub_account, state.container, "parcels/")
    for container in _containers(estate, estate.names.workspace_account):
        _delete(estate, estate.names.workspace_account, container, "LocalUpload/")


def _service(estate: Estate, account: str) -> BlobServiceClient:
    credential = {"account_name": account, "account_key": estate.account_key(account).read_text()}
    return BlobServiceClient(estate.storage().url(account), credential=credential, api_version="2019-07-07")


def _containers(estate: Estate, account: str) -> list[str]:
    with _service(estate, account) as service:
        return [container.name for container in service.list_containers()]


def _delete(estate: Estate, account: str, container: str, prefix: str) -> None:
    with _service(estate, account) as service, service.get_container_client(container) as client:
        for name in [*client.list_blob_names(name_starts_with=prefix)]:
            client.delete_blob(name)
