"""What `insitu provision` sees to at a site on Azure Stack Hub, in the order in which one thing stands on another.

The looks are as few as will do: of a VM that is there its network is not looked at, and of a workspace that is
there not what it stands on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import urllib3

from insitu.adapters.azure.arm import Arm, Resource
from insitu.adapters.azure.hub import Absent, open_hub
from insitu.adapters.azure.identity import azure_identity
from insitu.adapters.azure.training_vm import ArmPart, VmPart
from insitu.adapters.azure.vm_network import network_parts
from insitu.adapters.azure.workspace import Workspace, open_workspace
from insitu.adapters.azure.workspace_parts import EnvironmentPart, TargetPart, find
from insitu.adapters.vm_docker import VmDockerPart
from insitu.images.connection import LOOK_TIMEOUT, base_url, open_pool
from insitu.provisioning import Finding, Part
from insitu.settings import AzureMlTraining, AzureSettings, SiteSettings, VmCompute

_GROUPS, _STORAGE, _VAULTS, _REGISTRIES, _WORKSPACES = (
    *("2021-04-01", "2023-01-01", "2023-02-01", "2023-07-01", "2024-04-01"),
)
_HOST = re.compile(r"([a-z0-9]{5,50})\.azurecr\.io")


def azure_parts(settings: SiteSettings, requirements: Sequence[str]) -> Iterator[Part]:
    """Yield what the site needs on the hub and in the public cloud.

    Args:
        requirements: Packages that the project's models need beside what every job does.
    """
    yield from _hub_parts(settings)
    if settings.azure is None:
        return
    azure, training = settings.azure, settings.training
    cloud, workspace = _cloud(azure), open_workspace(azure)
    registry = _registry_part(settings, cloud)
    yield from _public_parts(azure, cloud, workspace, registry)
    if isinstance(training, AzureMlTraining):
        yield TargetPart(workspace, settings, training)
        yield EnvironmentPart(workspace, training, tuple(requirements))


def _hub_parts(settings: SiteSettings) -> Iterator[Part]:
    compute, hub_settings = settings.compute, settings.hub
    if not isinstance(compute, VmCompute) or hub_settings is None:
        return
    hub = open_hub(hub_settings)
    arm = Arm(f"hub {hub_settings.region}", hub_settings.arm, hub.identity)
    network = list(network_parts(arm, hub_settings, compute))
    is_new = isinstance(hub.machine(compute.vm), Absent)
    if is_new:
        yield from network
    yield VmPart(hub, arm, settings, compute, interface_id=network[-1].path)
    if not is_new and settings.training.kind == "attached-vm":
        yield VmDockerPart(compute.vm, compute.ssh)


def _cloud(azure: AzureSettings) -> Arm:
    identity = azure_identity(azure)
    return Arm(f"subscription {azure.subscription}", identity.endpoints.audience, identity)


def _group_id(azure: AzureSettings) -> str:
    return f"/subscriptions/{azure.subscription}/resourceGroups/{azure.resource_group}"


def _public_parts(
    azure: AzureSettings, cloud: Arm, workspace: Workspace, registry: RegistryPart | None
) -> Iterator[Part]:
    part = WorkspacePart(workspace, cloud, azure, registry.path if registry else None)
    lacks_workspace, location = bool(part.look().to_do), azure.location
    if lacks_workspace or (registry and registry.look().to_do):
        yield ArmPart(cloud, "resource group", _group_id(azure), _GROUPS, {"location": location}, location)
    if registry:
        yield registry
    if lacks_workspace:
        yield ArmPart(cloud, "storage account", part.storage_id, _STORAGE, _storage(location))
        yield ArmPart(cloud, "key vault", part.vault_id, _VAULTS, _vault(location, azure.identity.tenant))
    yield part


def _storage(location: str) -> Resource:
    closed = {"allowBlobPublicAccess": False, "minimumTlsVersion": "TLS1_2", "supportsHttpsTrafficOnly": True}
    return {"location": location, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "properties": closed}


def _vault(location: str, tenant: str) -> Resource:
    sku = {"family": "A", "name": "standard"}
    rights = {"enableRbacAuthorization": True, "accessPolicies": []}
    return {"location": location, "properties": {"tenantId": tenant, "sku": sku, **rights}}


@dataclass(frozen=True)
class WorkspacePart:
    """The Azure Machine Learning workspace."""

    workspace: Workspace
    cloud: Arm
    azure: AzureSettings
    registry_id: str | None

    @property
    def name(self) -> str:
        """`workspace NAME`."""
        return self.workspace.name

    @property
    def place(self) -> str:
        """Its resource group."""
        return f"resource group {self.azure.resource_group} of {self.cloud.name}"

    @property
    def storage_id(self) -> str:
        """Resource id of the storage account that it keeps its own things in: never data of the site."""
        return f"{_group_id(self.azure)}/providers/Microsoft.Storage/storageAccounts/{self._unique}"

    @property
    def vault_id(self) -> str:
        """Resource id of its key vault."""
        return f"{_group_id(self.azure)}/providers/Microsoft.KeyVault/vaults/{self._unique}"

    @property
    def _unique(self) -> str:
        """A name that nobody else in the world has, and the same one each time."""
        words = re.sub(r"[^a-z0-9]", "", self.azure.workspace.lower())[:12] or "insitu"
        return f"i{words}{sha256(f'{_group_id(self.azure)}/{self.azure.workspace}'.encode()).hexdigest()[:8]}"

    def look(self) -> Finding:
        """Return whether it is there."""
        found = find(self.workspace, lambda client: client.workspaces.get(self.azure.workspace))
        if found is None:
            return Finding("not there", f"create it in {self.azure.location}")
        return Finding(f"there, in {found.location}")

    def make(self) -> None:
        """Create it."""
        properties: dict[str, Any] = {
            "friendlyName": self.azure.workspace,
            "storageAccount": self.storage_id,
            "keyVault": self.vault_id,
        }
        if self.registry_id:
            properties["containerRegistry"] = self.registry_id
        path = f"{_group_id(self.azure)}/providers/Microsoft.MachineLearningServices/workspaces/{self.azure.workspace}"
        identity = {"type": "SystemAssigned"}
        resource: Resource = {"location": self.azure.location, "identity": identity, "properties": properties}
        self.cloud.put(path, _WORKSPACES, resource)


@dataclass(frozen=True)
class RegistryPart:
    """The Azure Container Registry, without an admin user."""

    cloud: Arm
    host: str
    group: str
    location: str

    @property
    def name(self) -> str:
        """`registry HOST`."""
        return f"registry {self.host}"

    @property
    def place(self) -> str:
        """The resource group that it is made in."""
        return f"resource group {self.group.rpartition('/')[2]} of {self.cloud.name}"

    @property
    def path(self) -> str:
        """Its resource id."""
        return f"{self.group}/providers/Microsoft.ContainerRegistry/registries/{self.host.partition('.')[0]}"

    def look(self) -> Finding:
        """Return whether it is there; one of another resource group is as good."""
        found = self.cloud.get(self.path, _REGISTRIES)
        if found:
            has_admin = (found.get("properties") or {}).get("adminUserEnabled")
            return Finding("there; its admin user is on, and insitu does not need it" if has_admin else "there")
        if self._answers():
            return Finding("there, in another resource group")
        return Finding("not there", f"create it in {self.location}, without an admin user")

    def make(self) -> None:
        """Create it."""
        properties = {"adminUserEnabled": False, "anonymousPullEnabled": False}
        registry = {"location": self.location, "sku": {"name": "Standard"}, "properties": properties}
        self.cloud.put(self.path, _REGISTRIES, registry)

    def _answers(self) -> bool:
        try:
            answer = open_pool(self.host).request(
                "GET", f"{base_url(self.host)}/v2/", timeout=LOOK_TIMEOUT, retries=False
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status in (200, 401)


def _registry_part(settings: SiteSettings, cloud: Arm) -> RegistryPart | None:
    """Return the registry, when it is one that can be made here."""
    azure, host = settings.azure, settings.registry
    if azure is None or host is None or settings.registry_login != "azure" or not _HOST.fullmatch(host.lower()):
        return None
    return RegistryPart(cloud, host.lower(), _group_id(azure), azure.location)
