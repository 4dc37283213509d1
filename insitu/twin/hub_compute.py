"""Virtual machines of the hub's resource manager: what is asked of them, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from insitu.twin.arm import OPERATION_S, Resources
from insitu.twin.estate import Estate
from insitu.twin.web import arm_error

SIZES = {
    # name: cores, memory in MB, data disks
    "Standard_A2_v2": (2, 4096, 4),
    "Standard_D2_v2": (2, 7168, 8),
    "Standard_DS2_v2": (2, 7168, 8),
    "Standard_DS3_v2": (4, 14336, 16),
    "Standard_DS4_v2": (8, 28672, 32),
    "Standard_F4s_v2": (4, 8192, 8),
    "Standard_F8s_v2": (8, 16384, 16),
    "Standard_NC6s_v3": (6, 114688, 12),
}
ACTIONS = ("start", "deallocate", "poweroff", "restart")
_FORBIDDEN_PASSWORDS = {
    "abc@123", "P@$$w0rd", "P@ssw0rd", "P@ssword123", "Pa$$word", "pass@word1", "Password!", "Password1", "Password22",
    "iloveyou!",
}  # fmt: skip
_CLASSES = (r"[a-z]", r"[A-Z]", r"\d", r"[^A-Za-z0-9]")


def sizes() -> dict[str, Any]:
    """Return the answer about sizes of VMs."""
    return {
        "value": [
            {
                "name": name,
                "numberOfCores": cores,
                "osDiskSizeInMB": 1047552,
                "resourceDiskSizeInMB": memory_mb * 2,
                "memoryInMB": memory_mb,
                "maxDataDiskCount": disks,
            }
            for name, (cores, memory_mb, disks) in SIZES.items()
        ]
    }


class Machines:
    """The VMs of the hub. The one that is called as the estate says is a machine that one can log in to."""

    def __init__(self, estate: Estate, resources: Resources) -> None:
        self._estate, self._resources = estate, resources

    def check(self, body: Mapping[str, Any]) -> None:
        """Raise `Refused` unless a VM can be made of *body*."""
        properties = body.get("properties") or {}
        size = (properties.get("hardwareProfile") or {}).get("vmSize")
        if size not in SIZES:
            raise arm_error(400, "InvalidParameter", f"The value {size} provided for the VM size is not valid.")
        cards = (properties.get("networkProfile") or {}).get("networkInterfaces") or []
        if not cards:
            raise arm_error(
                400, "InvalidParameter", "Required parameter 'networkProfile.networkInterfaces' is missing."
            )
        for card in cards:
            if not self._resources.has(card["id"]):
                raise arm_error(
                    400, "InvalidResourceReference", f"Resource {card['id']} referenced by it was not found."
                )
        _check_login(properties.get("osProfile") or {})

    def created(self, resource_id: str, body: Mapping[str, Any]) -> None:
        """Bring a new VM to life."""
        if self._is_ours(resource_id):
            self._estate.machine.install(body["properties"]["osProfile"])
            self._estate.machine.switch("running", OPERATION_S)

    def act(self, resource_id: str, action: str) -> Mapping[str, Any] | None:
        """Do what a POST asks for; return the error with which it ends, if it does."""
        if not self._is_ours(resource_id):
            return None
        machine = self._estate.machine
        if action in ("start", "restart"):
            if self._estate.faults.holds("vm-starting-fails"):
                return {"code": "AllocationFailed", "message": "There is not enough capacity on the hub."}
            machine.switch("running", OPERATION_S)
        else:
            machine.switch("deallocated" if action == "deallocate" else "stopped", OPERATION_S)
        return None

    def shown(self, vm: dict[str, Any], *, with_view: bool) -> dict[str, Any]:
        """Return a VM as a GET answers it."""
        properties = {**vm["properties"], "provisioningState": self._provisioning()}
        profile = properties.get("osProfile")
        if profile:
            properties["osProfile"] = {
                key: value for key, value in profile.items() if key not in ("adminPassword", "customData")
            }
        if with_view:
            properties["instanceView"] = self.view(vm)
        return {**vm, "properties": properties}

    def view(self, vm: dict[str, Any]) -> dict[str, Any]:
        """Return the instance view of a VM."""
        power = self._power(vm["id"])
        statuses = [
            _status(f"ProvisioningState/{self._provisioning().lower()}", "Provisioning succeeded"),
            _status(f"PowerState/{power}", f"VM {power}"),
        ]
        view: dict[str, Any] = {"disks": [], "statuses": statuses}
        if power == "running":
            dead = self._estate.faults.holds("vm-agent-dead")
            agent = _status("ProvisioningState/Unavailable" if dead else "ProvisioningState/succeeded",
                            "Not Ready" if dead else "Ready")  # fmt: skip
            view["vmAgent"] = {"vmAgentVersion": "2.9.1.1", "statuses": [agent]}
        view["extensions"] = [
            {
                "name": extension["name"],
                "statuses": [_status("ProvisioningState/succeeded", "Provisioning succeeded")],
            }
            for extension in self._resources.below(vm["id"] + "/extensions")
        ]
        return view

    def _provisioning(self) -> str:
        return "Failed" if self._estate.faults.holds("vm-provisioning-failed") else "Succeeded"

    def _power(self, resource_id: str) -> str:
        if not self._is_ours(resource_id):
            return "running"
        machine = self._estate.machine
        changing = {"running": "starting", "deallocated": "deallocating", "stopped": "stopping"}
        return changing[machine.power] if machine.is_changing else machine.power

    def _is_ours(self, resource_id: str) -> bool:
        return resource_id.rpartition("/")[2].lower() == self._estate.names.vm.lower()


def _check_login(profile: Mapping[str, Any]) -> None:
    linux = profile.get("linuxConfiguration") or {}
    password, keys = profile.get("adminPassword"), ((linux.get("ssh") or {}).get("publicKeys")) or []
    if not profile.get("computerName") or not profile.get("adminUsername"):
        raise arm_error(400, "InvalidParameter", "Required parameter 'osProfile.computerName' is missing (null).")
    if not password and not keys:
        raise arm_error(
            400, "InvalidParameter", "Authentication using either SSH or by user name and password is needed."
        )
    if password is not None:
        classes = sum(re.search(pattern, password) is not None for pattern in _CLASSES)
        if not 12 <= len(password) <= 72 or classes < 3 or password in _FORBIDDEN_PASSWORDS:
            text = "The supplied password must be between 12-72 characters long and must satisfy password complexity."
            raise arm_error(400, "InvalidParameter", text)


def _status(code: str, text: str) -> dict[str, str]:
    return {"code": code, "level": "Info", "displayStatus": text}
