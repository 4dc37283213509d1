"""The state of the twin: its names, secrets, clock, faults and logs. No HTTP here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Literal
from uuid import NAMESPACE_DNS, uuid5

from insitu.twin.azurite import Azurite, new_key, start_azurite
from insitu.twin.directory import Directory, new_secret
from insitu.twin.faults import Faults
from insitu.twin.journal import Journal
from insitu.twin.shelf import Shelf
from insitu.twin.tls import Authority, write_private
from insitu.twin.vm import Machine

Backend = Literal["attached-vm", "kubernetes", "docker"]
HubIdentity = Literal["entra", "adfs"]

MANAGEMENT = ("https://management.azure.com", "https://management.core.windows.net")
"""Audiences of the public resource manager."""
PUBLIC_RESOURCES = (
    *MANAGEMENT,
    "https://ml.azure.com",
    "https://containerregistry.azure.net",
    "https://storage.azure.com",
    "https://graph.microsoft.com",
)


def _guid(name: str) -> str:
    return str(uuid5(NAMESPACE_DNS, f"{name}.twin.insitu"))


@dataclass(frozen=True)
class Names:
    """What things are called in the estate; all of it could stand in a production site's file."""

    region: str = "north"
    fqdn: str = "hub.example"
    hub_subscription: str = _guid("hub-subscription")
    hub_group: str = "insitu"
    hub_client: str = _guid("hub-client")
    hub_account: str = "insitudata"
    state_container: str = "insitu-state"
    data_container: str = "flights"
    vm: str = "trainer"
    tenant: str = _guid("tenant")
    subscription: str = _guid("subscription")
    group: str = "insitu"
    client: str = _guid("client")
    workspace: str = "insitu"
    location: str = "westeurope"
    registry: str = "insitutwin"
    workspace_account: str = "insituworkspace"
    target: str = "trainer"
    cluster: str = "cluster"

    @property
    def hub_domain(self) -> str:
        """The domain of every host of the hub."""
        return f"{self.region}.{self.fqdn}"

    @property
    def hub_arm(self) -> str:
        """Host of the hub's resource manager."""
        return f"management.{self.hub_domain}"

    @property
    def adfs(self) -> str:
        """Host of the hub's AD FS."""
        return f"adfs.{self.hub_domain}"

    @property
    def hub_blob(self) -> str:
        """Host of the hub's storage account."""
        return f"{self.hub_account}.blob.{self.hub_domain}"

    @property
    def registry_host(self) -> str:
        """Host of the container registry."""
        return f"{self.registry}.azurecr.io"

    @property
    def workspace_blob(self) -> str:
        """Host of the workspace's own storage account."""
        return f"{self.workspace_account}.blob.core.windows.net"

    @property
    def hub_group_id(self) -> str:
        """Resource id of the resource group on the hub."""
        return f"/subscriptions/{self.hub_subscription}/resourceGroups/{self.hub_group}"

    @property
    def group_id(self) -> str:
        """Resource id of the public resource group."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"

    @property
    def cluster_id(self) -> str:
        """Resource id of the Arc-enabled Kubernetes cluster."""
        return f"{self.group_id}/providers/Microsoft.Kubernetes/connectedClusters/{self.cluster}"

    @property
    def workspace_id(self) -> str:
        """Resource id of the workspace."""
        return f"{self.group_id}/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"


@dataclass
class Estate:
    """One estate; safe to use from several threads.

    Attributes:
        folder: Where everything of it lies, such as `var/twin`.
        names: What things are called.
        backend: How training jobs run at the site whose settings are written.
        hub_identity: What the hub signs in with.
        clock_skew_s: Seconds that the estate's clock is ahead of this machine's.
        in_memory: Whether blobs are forgotten at the end, as is enough for tests.
        provisioned: Whether VM and workspace are there from the start.
    """

    folder: Path
    names: Names = field(default_factory=Names)
    backend: Backend = "attached-vm"
    hub_identity: HubIdentity = "entra"
    clock_skew_s: float = 0.0
    in_memory: bool = False
    provisioned: bool = True
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self._lock = RLock()
        self._ends = ExitStack()
        self._shelves: dict[str, Shelf] = {}
        self._storage: Azurite | None = None
        self.port = 0
        self.registry_port: Callable[[], int] = lambda: 0  # that of the images, set by who keeps them
        self.authority = Authority(self.folder)
        self.journal = Journal(self.folder)
        self.directory = Directory(self.folder, self.faults, self.now)
        self._populate()

    def now(self) -> float:
        """Return the time in the estate, in seconds since the epoch."""
        return time.time() + self.clock_skew_s

    @property
    def proxy(self) -> str:
        """Address of the proxy that leads to the estate."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a process reaches the estate and nothing else."""
        bundle = str(self.authority.bundle)
        proxy = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), self.proxy)
        trust = dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"), bundle)
        return proxy | trust

    @property
    def hub_tenant(self) -> str:
        """The directory that the hub trusts."""
        return "adfs" if self.hub_identity == "adfs" else self.names.tenant

    @property
    def hub_audience(self) -> str:
        """What a token must be for that the hub's resource manager takes."""
        host = self.names.adfs if self.hub_identity == "adfs" else "insitu.onmicrosoft.example"
        return f"https://management.{host.removeprefix('management.')}/{_guid('hub-audience')}"

    def set_condition(self, condition: str) -> None:
        """Let a condition hold from now on, such as `tokens-revoked`; raise `UsageError`."""
        self.faults.set(condition, self.now())
        self.machine.follow()

    def clear(self, condition: str | None = None) -> None:
        """Undo one condition, or every fault and condition."""
        self.faults.clear(condition)
        self.machine.follow()

    def at_end(self, end: Callable[[], object]) -> None:
        """Let *end* be called when the estate ends, last come first: to stop what a service has started."""
        self._ends.callback(end)

    def close(self) -> None:
        """End what the services have started."""
        self._ends.close()

    def shelf(self, name: str) -> Shelf:
        """Return what the service *name* remembers; the same one each time."""
        with self._lock:
            if name not in self._shelves:
                self._shelves[name] = Shelf(self.folder / "state" / f"{name}.json")
            return self._shelves[name]

    def secret(self, name: str) -> Path:
        """Return the file of a secret, which is made when there is none: text of 40 characters."""
        file = self.folder / "secrets" / name
        with self._lock:
            if not file.exists():
                write_private(file, new_secret().encode())
        return file

    @cached_property
    def client_secret(self) -> Path:
        """File of the secret of the application in the public directory."""
        return self.secret("client.secret")

    @cached_property
    def hub_client_secret(self) -> Path:
        """File of the secret of the application in the hub's directory."""
        return self.secret("hub-client.secret")

    def account_key(self, account: str) -> Path:
        """Return the file of the key of a storage account, base64."""
        file = self.folder / "secrets" / f"{account}.key"
        with self._lock:
            if not file.exists():
                write_private(file, new_key().encode())
        return file

    def storage(self) -> Azurite:
        """Return the blob service of the estate's accounts; it starts when it is first asked for.

        Raises:
            UsageError: Azurite is not installed.
        """
        with self._lock:
            if self._storage is None:
                accounts = (self.names.hub_account, self.names.workspace_account)
                keys = {account: self.account_key(account).read_text() for account in accounts}
                self._storage = start_azurite(self.folder / "blobs", keys, in_memory=self.in_memory, any_version=True)
                self.at_end(self._storage.stop)
            return self._storage

    @cached_property
    def machine(self) -> Machine:
        """The VM of the hub, which one can log in to while it runs."""
        return Machine(self)

    def _populate(self) -> None:
        names, directory = self.names, self.directory
        directory.add_tenant(names.tenant, *PUBLIC_RESOURCES)
        directory.add_tenant(self.hub_tenant, self.hub_audience)
        rights: Mapping[str, tuple[str, ...]] = {names.group_id: ("Contributor", "AcrPush")}
        directory.register(names.tenant, names.client, self.client_secret.read_text(), rights)
        hub_rights: Mapping[str, tuple[str, ...]] = {names.hub_group_id: ("Contributor",)}
        directory.register(self.hub_tenant, names.hub_client, self.hub_client_secret.read_text(), hub_rights)
