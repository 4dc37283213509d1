"""The public resource manager, as far as Azure Machine Learning goes: management.azure.com."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response
from starlette.routing import Route

from insitu.twin.assets import Assets, page
from insitu.twin.computes import Computes, compute_document
from insitu.twin.endpoints import Endpoints
from insitu.twin.estate import Estate
from insitu.twin.job_runner import JobRunner
from insitu.twin.jobs import Jobs
from insitu.twin.journal import Side
from insitu.twin.machine_learning import (
    PROVIDER,
    SCOPE,
    Call,
    Document,
    Workspace,
    answer,
    canonical,
    not_found,
    route,
)
from insitu.twin.public_arm import PublicResources
from insitu.twin.web import App, service

HOST = "management.azure.com"
ENVIRONMENT = "insitu-train"
"""The environment that a workspace has from the start."""


def hosts(estate: Estate) -> Mapping[str, Side]:
    """Return the hosts that are played here."""
    return {HOST: "public"}


def app(estate: Estate) -> App:
    """Return the service."""
    workspace = Workspace(estate)
    assets = Assets(workspace)
    runner = JobRunner(workspace, assets)
    around, place, computes = PublicResources(workspace), _Place(workspace), Computes(workspace)
    jobs, endpoints = Jobs(workspace, assets, runner), Endpoints(workspace, assets)
    if estate.provisioned:
        furnish(workspace, assets)
    parts = (place, computes, jobs, endpoints, assets, around)
    return canonical(service([one for part in parts for one in part.routes()]))


def furnish(workspace: Workspace, assets: Assets) -> None:
    """Put into the workspace what `insitu provision` would: the site's compute targets, and an environment."""
    names, computes = workspace.names, workspace.shelf("computes")
    if computes.names():
        return
    vm = f"{names.hub_group_id}/providers/Microsoft.Compute/virtualMachines/{names.vm}"
    account = {"sshPort": 22, "administratorAccount": {"username": workspace.estate.machine.ssh.user}}
    for name, kind, resource_id, held in (
        (names.target, "VirtualMachine", vm, account),
        (names.cluster, "Kubernetes", names.cluster_id, {"namespace": "insitu"}),
    ):
        asked = {"computeType": kind, "resourceId": resource_id, "properties": held}
        computes.put(name.lower(), compute_document(workspace, name, asked))
    image = f"{names.registry_host}/insitu-train:1"
    assets.add("environments", ENVIRONMENT, "1", {"image": image, "osType": "Linux"})


class _Place:
    """The workspace itself, and its datastores."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def routes(self) -> list[Route]:
        """Return the routes."""
        store = SCOPE + "/datastores"
        return [
            route(SCOPE, "GET", work=self.workspace),
            route(store, "GET", work=self.datastores),
            route(store + "/{name}", "GET", work=self.datastore),
            route(store + "/{name}/listSecrets", "POST", work=self.secrets),
        ]

    def workspace(self, call: Call) -> Response:
        """Return the workspace."""
        self._workspace.allow(call, "workspaces/read")
        here, names = self._workspace, self._workspace.names
        kept = here.resources.get(here.id)
        properties = {
            "friendlyName": names.workspace,
            "hbiWorkspace": False,
            "publicNetworkAccess": "Enabled",
            **kept["properties"],
            "workspaceId": here.guid,
            "discoveryUrl": f"https://{here.api_host}/discovery",
            "mlFlowTrackingUri": f"azureml://{here.api_host}/mlflow/v1.0{here.id}",
            "tenantId": names.tenant,
        }
        identity = {"type": "SystemAssigned", "principalId": here.guid, "tenantId": names.tenant}
        shown = {"kind": "Default", "sku": {"name": "Basic", "tier": "Basic"}, "identity": identity, **kept}
        return answer({**shown, "properties": properties, "systemData": here.system_data()})

    def datastores(self, call: Call) -> Response:
        """Return every datastore, or the default one."""
        self._workspace.allow(call, "workspaces/datastores/read")
        names = list(self._workspace.datastores())
        if call.query("isDefault").lower() == "true":
            names = names[:1]
        return answer(page(call, [self._datastore(name) for name in names]))

    def datastore(self, call: Call) -> Response:
        """Return one datastore."""
        self._workspace.allow(call, "workspaces/datastores/read")
        self._require(call)
        return answer(self._datastore(call["name"]))

    def secrets(self, call: Call) -> Response:
        """Return the key of a datastore's account, or a signature that expires."""
        self._workspace.allow(call, "workspaces/datastores/listsecrets/action")
        self._require(call)
        here, container = self._workspace, self._workspace.datastores()[call["name"]]
        here.blobs.make_container(container)
        if call.json.get("expirableSecret"):
            return answer({"secretsType": "Sas", "sasToken": here.key.container_sas(container)})
        return answer({"secretsType": "AccountKey", "key": here.key.secret})

    def _require(self, call: Call) -> None:
        if call["name"] not in self._workspace.datastores():
            raise not_found(f"Datastore {call['name']}")

    def _datastore(self, name: str) -> Document:
        default, *_ = self._workspace.datastores()
        properties = {
            "datastoreType": "AzureBlob",
            "accountName": self._workspace.names.workspace_account,
            "containerName": self._workspace.datastores()[name],
            "endpoint": "core.windows.net",
            "protocol": "https",
            "credentials": {"credentialsType": "AccountKey"},
            "serviceDataAccessAuthIdentity": "None",
            "isDefault": name == default,
            "description": None,
            "tags": {},
            "properties": {},
        }
        return {
            "id": f"{self._workspace.id}/datastores/{name}",
            "name": name,
            "type": f"{PROVIDER}/workspaces/datastores",
            "properties": properties,
            "systemData": self._workspace.system_data(),
        }
