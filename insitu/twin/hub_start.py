"""What lies on the hub before anybody does anything: a resource group, storage, and by default the VM."""

from __future__ import annotations

from typing import Any

from insitu.twin.arm import Resources
from insitu.twin.estate import Estate


def furnish(estate: Estate, resources: Resources) -> None:
    """Put in place what is not there yet."""
    names = estate.names
    group, providers = names.hub_group_id, f"{names.hub_group_id}/providers"
    if resources.has(group):
        return
    _put(estate, resources, group, {})
    account = f"{providers}/Microsoft.Storage/storageAccounts/{names.hub_account}"
    endpoints = {"blob": f"https://{names.hub_blob}/"}
    _put(estate, resources, account, {"primaryEndpoints": endpoints}, kind="Storage", sku={"name": "Standard_LRS"})
    if not estate.provisioned:
        return
    network = f"{providers}/Microsoft.Network"
    subnet = f"{network}/virtualNetworks/{names.vm}/subnets/default"
    space = {"addressSpace": {"addressPrefixes": ["10.0.0.0/16"]}}
    _put(estate, resources, f"{network}/virtualNetworks/{names.vm}", space)
    _put(estate, resources, subnet, {"addressPrefix": "10.0.0.0/24"})
    card = f"{network}/networkInterfaces/{names.vm}"
    address = {"privateIPAddress": "10.0.0.4", "privateIPAllocationMethod": "Dynamic", "subnet": {"id": subnet}}
    _put(estate, resources, card, {"ipConfigurations": [{"name": "ip", "properties": address}], "primary": True})
    _put(estate, resources, f"{providers}/Microsoft.Compute/virtualMachines/{names.vm}", _vm(estate, card))
    estate.machine.provision()


def _vm(estate: Estate, card: str) -> dict[str, Any]:
    public = (estate.machine.ssh.key.with_suffix(".pub")).read_text().strip()
    user = estate.machine.ssh.user
    image = {"publisher": "Canonical", "offer": "UbuntuServer", "sku": "22.04-LTS", "version": "latest"}
    disk = {"osType": "Linux", "name": "os", "createOption": "FromImage", "diskSizeGB": 128}
    keys = [{"path": f"/home/{user}/.ssh/authorized_keys", "keyData": public}]
    return {
        "vmId": "5d6a1c2f-0c0e-4f6b-9a77-2f0d6f3d9b11",
        "hardwareProfile": {"vmSize": "Standard_DS3_v2"},
        "storageProfile": {"imageReference": image, "osDisk": disk, "dataDisks": []},
        "osProfile": {
            "computerName": estate.names.vm,
            "adminUsername": user,
            "linuxConfiguration": {"disablePasswordAuthentication": True, "ssh": {"publicKeys": keys}},
        },
        "networkProfile": {"networkInterfaces": [{"id": card}]},
    }


def _put(estate: Estate, resources: Resources, resource_id: str, properties: dict[str, Any], **more: Any) -> None:
    state = {**properties, "provisioningState": "Succeeded"}
    resources.put(resource_id, {"location": estate.names.region, "properties": state, "tags": {}, **more})
