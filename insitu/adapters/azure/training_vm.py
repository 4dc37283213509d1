"""The training VM on the hub, and what it needs: network, firewall, address, interface. Each is a `Part`.

Names follow from the VM's. A VM that is there is started at most: its network, disk and size are its own.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from insitu.adapters.azure.arm import Arm, Resource
from insitu.adapters.azure.cloud_init import cloud_config
from insitu.adapters.azure.hub import Absent, Hub, Machine
from insitu.adapters.secrets import read_secret
from insitu.adapters.ssh_credentials import load_key
from insitu.errors import AccessRefused, NotReady, SettingsError
from insitu.provisioning import Finding
from insitu.settings import HubSettings, SiteSettings, VmCompute

RESOURCES_VERSION = "2018-05-01"
"""Of resource groups: every hub speaks it, and so does Azure."""

_VM_TIMEOUT_S = 1800
_LOOK_S = 5.0


@dataclass(frozen=True)
class ArmPart:
    """A resource that is created as *definition* says, and left alone once it is there.

    Args:
        words: What kind of thing it is.
        detail: What is worth telling of the definition.
    """

    arm: Arm
    words: str
    path: str
    api_version: str
    definition: Resource
    detail: str = ""

    @property
    def name(self) -> str:
        """What it is, and its name."""
        return f"{self.words} {self.path.rpartition('/')[2]}"

    @property
    def place(self) -> str:
        """Whose it is."""
        return self.arm.name

    def look(self) -> Finding:
        """Return whether it is there."""
        there = self.arm.get(self.path, self.api_version)
        return Finding("there") if there else Finding("not there", f"create it{self.detail and f': {self.detail}'}")

    def make(self) -> None:
        """Create it."""
        self.arm.put(self.path, self.api_version, self.definition)


@dataclass(frozen=True)
class VmPart:
    """The VM itself."""

    hub: Hub
    arm: Arm
    settings: SiteSettings
    compute: VmCompute
    interface_id: str

    @property
    def name(self) -> str:
        """`VM NAME`."""
        return f"VM {self.compute.vm}"

    @property
    def place(self) -> str:
        """The hub's resource group."""
        return f"resource group {self.hub.settings.resource_group} of hub {self.hub.settings.region}"

    def look(self) -> Finding:
        """Return how the VM is; of a size that is not the settings', it is told and nothing is done."""
        found = self.hub.machine(self.compute.vm)
        if isinstance(found, Absent):
            proof = credential_of(self.compute)[1]
            cloud_config(self.settings, self.compute)  # what is wrong with it is told before anything is created
            what = f"{self.compute.size}, {self.compute.image}, {self.compute.disk_gb} GB, {proof}"
            return Finding("not there", f"create it: {what}, with Docker")
        return _as_it_is(found, self.compute.size)

    def make(self) -> None:
        """Create the VM, or start it; return when it runs."""
        found = self.hub.machine(self.compute.vm)
        if isinstance(found, Absent) or found.provisioning == "failed":
            self._create()
        elif found.power not in ("running", "starting"):
            self.hub.start(self.compute.vm)
        path = vm_id(self.hub.settings, self.compute.vm)
        self.arm.settled(path, self.hub.settings.compute_api_version, _VM_TIMEOUT_S)
        self._await_power()

    def _create(self) -> None:
        definition = self._definition()
        try:
            self.hub.create(self.compute.vm, definition)
        except AccessRefused as error:
            if not (error.found or "").startswith(("400", "409")):
                raise
            raise NotReady(
                f"the hub does not make {self.name}",
                found=error.found,
                next_action="see whether it offers this size and this image; older hubs take RSA keys alone: "
                "`ssh-keygen -t rsa -b 4096 -f FILE`",
            ) from None

    def _await_power(self) -> None:
        deadline = time.monotonic() + self.compute.start_timeout_s
        while (power := self._power()) != "running":
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{self.name} does not run",
                    found=power,
                    wanted=f"running within {self.compute.start_timeout_s} s",
                    next_action="the hub's portal says why; then start again",
                )
            time.sleep(_LOOK_S)

    def _power(self) -> str:
        found = self.hub.machine(self.compute.vm)
        return "not there" if isinstance(found, Absent) else found.power

    def _definition(self) -> dict[str, Any]:
        publisher, offer, sku, version = image_of(self.compute)
        credential, _ = credential_of(self.compute)
        start = b64encode(cloud_config(self.settings, self.compute).encode()).decode()
        login = {"computerName": self.compute.vm, "adminUsername": self.compute.ssh.user, "customData": start}
        image = {"publisher": publisher, "offer": offer, "sku": sku, "version": version}
        disk = {"createOption": "FromImage", "diskSizeGB": self.compute.disk_gb}
        return {
            "location": self.hub.settings.region,
            "tags": {"insitu.site": self.settings.name},
            "properties": {
                "hardwareProfile": {"vmSize": self.compute.size},
                "storageProfile": {"imageReference": image, "osDisk": disk},
                "osProfile": {**login, **credential},
                "networkProfile": {"networkInterfaces": [{"id": self.interface_id, "properties": {"primary": True}}]},
            },
        }


def _as_it_is(found: Machine, size: str) -> Finding:
    other = f", {found.size} where the settings say {size}" if found.size.lower() != size.lower() else f", {size}"
    if found.provisioning == "failed":
        return Finding(f"provisioning failed{other}", "create it again")
    if found.provisioning in ("creating", "updating"):
        return Finding(f"{found.provisioning}{other}", "wait until it is there")
    if found.power != "running":
        return Finding(f"{found.power}{other}", "start it")
    return Finding(f"{found.power}{other}")


def vm_id(hub: HubSettings, vm: str) -> str:
    """Return the resource id of a VM of the hub."""
    return f"{group_id(hub)}/providers/Microsoft.Compute/virtualMachines/{vm}"


def group_id(hub: HubSettings) -> str:
    """Return the resource id of the hub's resource group."""
    return f"/subscriptions/{hub.subscription}/resourceGroups/{hub.resource_group}"


def image_of(compute: VmCompute) -> tuple[str, ...]:
    """Return publisher, offer, sku and version; raise `SettingsError`."""
    parts = tuple(compute.image.split(":"))
    if len(parts) != 4 or not all(parts):
        raise SettingsError("compute.image is no image", found=compute.image, wanted="PUBLISHER:OFFER:SKU:VERSION")
    return parts


def credential_of(compute: VmCompute) -> tuple[Mapping[str, Any], str]:
    """Return the part of the VM's definition that lets the user in, and what kind of credential it is.

    Raises:
        SettingsError: There is none.
    """
    ssh = compute.ssh
    if ssh.password:
        password = {"adminPassword": read_secret(ssh.password)}
        return {**password, "linuxConfiguration": {"disablePasswordAuthentication": False}}, "login by password"
    key = load_key(ssh)
    line = f"{key.get_name()} {key.get_base64()}"
    keys = [{"path": f"/home/{ssh.user}/.ssh/authorized_keys", "keyData": line}]
    linux = {"disablePasswordAuthentication": True, "ssh": {"publicKeys": keys}}
    return {"linuxConfiguration": linux}, f"login by key ({key.get_name()})"
