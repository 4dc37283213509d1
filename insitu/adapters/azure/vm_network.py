"""The network of a VM that `insitu provision` makes: what of it follows from where the site says its SSH is.

- `ssh.host` is LABEL.REGION.cloudapp.FQDN: a public address, which stays, of that label;
- it is an address: that private address, on the interface;
- another name: a private address that the hub chooses, and the name is the operator's to make.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from insitu.adapters.azure.arm import Arm
from insitu.adapters.azure.training_vm import RESOURCES_VERSION, ArmPart, group_id
from insitu.errors import SettingsError
from insitu.settings import HubSettings, VmCompute

_SPACE, _SUBNET_SPACE = "10.64.0.0/16", "10.64.0.0/24"


def network_parts(arm: Arm, hub: HubSettings, compute: VmCompute) -> Iterator[ArmPart]:
    """Yield what the VM stands on, in the order that it is made in; the interface is last."""
    group, version = group_id(hub), hub.network_api_version
    provider = f"{group}/providers/Microsoft.Network"

    def part(words: str, path: str, properties: dict[str, Any], detail: str = "") -> ArmPart:
        definition = {"location": hub.region, "properties": properties}
        return ArmPart(arm, words, f"{provider}/{path}", version, definition, detail)

    yield ArmPart(arm, "resource group", group, RESOURCES_VERSION, {"location": hub.region})
    if compute.subnet is None:
        subnet = {"name": "default", "properties": {"addressPrefix": _SUBNET_SPACE}}
        spaces = {"addressSpace": {"addressPrefixes": [_SPACE]}, "subnets": [subnet]}
        yield part("network", f"virtualNetworks/{compute.vm}-net", spaces, _SUBNET_SPACE)
    rules = [_rule(number, source) for number, source in enumerate(compute.ssh_from)]
    firewall = f"networkSecurityGroups/{compute.vm}-nsg"
    yield part("firewall", firewall, {"securityRules": rules}, f"SSH from {', '.join(compute.ssh_from) or 'nowhere'}")
    settings: dict[str, Any] = {"subnet": {"id": _subnet_id(group, compute)}, **_private(compute.ssh.host)}
    if label := public_label(hub, compute):
        address, dns = f"publicIPAddresses/{compute.vm}-ip", {"domainNameLabel": label}
        yield part("public address", address, {"publicIPAllocationMethod": "Static", "dnsSettings": dns}, label)
        settings["publicIPAddress"] = {"id": f"{provider}/{address}"}
    card = {
        "ipConfigurations": [{"name": "first", "properties": settings}],
        "networkSecurityGroup": {"id": f"{provider}/{firewall}"},
    }
    yield part("interface", f"networkInterfaces/{compute.vm}-nic", card)


def public_label(hub: HubSettings, compute: VmCompute) -> str | None:
    """Return the label of the public address that `ssh.host` asks for, if it does."""
    label, _, domain = compute.ssh.host.lower().partition(".")
    return label if domain == f"{hub.region}.cloudapp.{hub.fqdn}".lower() else None


def _private(host: str) -> dict[str, str]:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return {"privateIPAllocationMethod": "Dynamic"}
    return {"privateIPAllocationMethod": "Static", "privateIPAddress": str(address)}


def _subnet_id(group: str, compute: VmCompute) -> str:
    named = compute.subnet or f"{compute.vm}-net/default"
    if named.startswith("/subscriptions/"):
        return named
    network, slash, subnet = named.partition("/")
    if not slash or "/" in subnet:
        raise SettingsError("compute.subnet is no subnet", found=named, wanted="NETWORK/SUBNET, or a resource id")
    return f"{group}/providers/Microsoft.Network/virtualNetworks/{network}/subnets/{subnet}"


def _rule(number: int, source: str) -> dict[str, Any]:
    properties = {
        "priority": 1000 + number,
        "direction": "Inbound",
        "access": "Allow",
        "protocol": "Tcp",
        "sourceAddressPrefix": source,
        "sourcePortRange": "*",
        "destinationAddressPrefix": "*",
        "destinationPortRange": "22",
    }
    return {"name": f"ssh-{number}", "properties": properties}
