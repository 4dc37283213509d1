"""The hub of the twin: its resource manager, its VM and its blobs, asked with Microsoft's own libraries."""

from __future__ import annotations

import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.compute import ComputeManagementClient
from azure.storage.blob import ContainerClient
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from twin_helpers import ask, ask_hub, code_of, hub_credential

from insitu.errors import BackendUnavailable
from insitu.twin.estate import Estate
from insitu.twin.process import Running
from insitu.twin.server import running_estate
from insitu.twin.sshd import SshServer

VERSION = "2020-06-01"


@pytest.fixture
def compute(estate: Estate) -> ComputeManagementClient:
    return _compute(estate)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    """An estate where nobody has provisioned anything."""
    with running_estate(tmp_path / "twin", provisioned=False, in_memory=True) as estate:
        for name, value in estate.environment.items():
            monkeypatch.setenv(name, value)
        yield estate


def test_a_container_that_a_dead_azurite_cannot_make_is_refused_in_words(bare: Estate) -> None:
    bare.storage().stop()
    twin = Running(bare.folder, os.getpid(), bare.port, "process", bare.hub_identity, "twin")
    with pytest.raises(BackendUnavailable, match="the twin's blob service refuses PUT of"):
        twin.ask("POST", "/containers", {"name": "rides"})


def _compute(estate: Estate) -> ComputeManagementClient:
    names = estate.names
    place = {"base_url": f"https://{names.hub_arm}", "credential_scopes": [f"{estate.hub_audience}/.default"]}
    return ComputeManagementClient(hub_credential(estate), names.hub_subscription, **place)


def _states(estate: Estate, compute: ComputeManagementClient) -> list[str]:
    vm: Any = compute.virtual_machines.get(
        estate.names.hub_group, estate.names.vm, expand="instanceView", api_version=VERSION
    )
    return [status.code for status in vm.instance_view.statuses]


def _login(server: SshServer, folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    options = ["BatchMode=yes", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"]
    words = [word for option in options for word in ("-o", option)]
    place = ["-i", str(server.key), "-p", str(server.port), f"{server.user}@127.0.0.1"]
    return subprocess.run(["ssh", *words, *place, command], capture_output=True, text=True, check=False)


def test_everybody_may_ask_where_one_signs_in(estate: Estate) -> None:
    found = ask(estate, "GET", f"https://{estate.names.hub_arm}/metadata/endpoints?api-version=2015-01-01").json()

    assert found["authentication"]["audiences"] == [estate.hub_audience]
    assert found["authentication"]["loginEndpoint"] == "https://login.microsoftonline.com/"


def test_the_vm_is_what_microsoft_s_library_reads(estate: Estate, compute: ComputeManagementClient) -> None:
    names = estate.names
    vm: Any = compute.virtual_machines.get(names.hub_group, names.vm, expand="instanceView", api_version=VERSION)

    assert (vm.name, vm.location, vm.provisioning_state) == (names.vm, names.region, "Succeeded")
    assert getattr(vm.hardware_profile.vm_size, "value", vm.hardware_profile.vm_size) == "Standard_DS3_v2"
    assert vm.instance_view.vm_agent.statuses[0].display_status == "Ready"
    sizes = {size.name: size for size in compute.virtual_machine_sizes.list(names.region, api_version=VERSION)}
    assert (sizes["Standard_DS3_v2"].number_of_cores, sizes["Standard_DS3_v2"].memory_in_mb) == (4, 14336)
    assert [one.name for one in compute.virtual_machines.list(names.hub_group, api_version=VERSION)] == [names.vm]


def test_a_version_that_a_hub_does_not_know_is_refused(estate: Estate, compute: ComputeManagementClient) -> None:
    with pytest.raises(HttpResponseError) as caught:
        compute.virtual_machines.get(estate.names.hub_group, estate.names.vm)

    assert (caught.value.status_code, "2020-06-01" in str(caught.value)) == (400, True)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("Microsoft.Compute/virtualMachines/nobody", "ResourceNotFound"),
        ("/subscriptions/00000000-0000-4000-8000-000000000000/resourceGroups/insitu", "SubscriptionNotFound"),
    ],
)
def test_what_is_not_there_is_named_as_resource_managers_do(estate: Estate, path: str, code: str) -> None:
    answer = ask_hub(estate, "GET", path.format(estate.names))

    assert (answer.status_code, code_of(answer)) == (404, code)


def test_another_resource_group_is_none_of_the_principal_s_business(estate: Estate) -> None:
    answer = ask_hub(estate, "GET", f"/subscriptions/{estate.names.hub_subscription}/resourceGroups/other")

    assert (answer.status_code, code_of(answer)) == (403, "AuthorizationFailed")


def test_one_can_log_in_while_the_vm_runs(estate: Estate, compute: ComputeManagementClient, tmp_path: Path) -> None:
    names, login = estate.names, estate.machine.ssh
    asked = f"docker info; curl -s -o /dev/null -w '%{{http_code}}' https://{names.hub_blob}/{names.data_container}"
    inside = _login(login, tmp_path, asked)
    assert inside.stdout.startswith("27."), inside.stderr
    assert inside.stdout.strip()[-3:].isdigit()  # the blob service answers from the VM, whatever it says
    assert [line.path for line in estate.journal.lines("hub")] == [f"/{names.data_container}"]

    compute.virtual_machines.begin_deallocate(names.hub_group, names.vm, api_version=VERSION).wait()
    assert "PowerState/deallocated" in _states(estate, compute)
    assert _login(login, tmp_path, "true").returncode == 255
    compute.virtual_machines.begin_start(names.hub_group, names.vm, api_version=VERSION).wait()
    assert "PowerState/running" in _states(estate, compute)
    assert _login(login, tmp_path, "true").returncode == 0


@pytest.mark.parametrize(
    ("condition", "state", "logs_in"),
    [("vm-deallocated", "deallocated", False), ("vm-stopped", "stopped", False), ("ssh-down", "running", False),
     ("docker-down", "running", True)],
)  # fmt: skip
def test_a_vm_that_is_not_well_shows_it(
    estate: Estate, compute: ComputeManagementClient, tmp_path: Path, condition: str, state: str, logs_in: bool
) -> None:
    estate.set_condition(condition)

    assert f"PowerState/{state}" in _states(estate, compute)
    found = _login(estate.machine.ssh, tmp_path, "docker info")
    assert ("Docker daemon" in found.stderr, found.returncode) == ((True, 1) if logs_in else (False, 255))


def test_a_vm_that_cannot_start_says_so_at_the_end(estate: Estate, compute: ComputeManagementClient) -> None:
    estate.set_condition("vm-deallocated")
    estate.set_condition("vm-starting-fails")

    with pytest.raises(HttpResponseError, match="AllocationFailed"):
        compute.virtual_machines.begin_start(estate.names.hub_group, estate.names.vm, api_version=VERSION).wait()
    assert "PowerState/deallocated" in _states(estate, compute)


def _definition(estate: Estate, card: str, **profile: Any) -> dict[str, Any]:
    return {
        "location": estate.names.region,
        "properties": {
            "hardwareProfile": {"vmSize": "Standard_DS3_v2"},
            "networkProfile": {"networkInterfaces": [{"id": card}]},
            "osProfile": {"computerName": "trainer", "adminUsername": estate.machine.ssh.user, **profile},
        },
    }


def test_a_vm_is_made_with_the_keys_of_its_definition(bare: Estate, tmp_path: Path) -> None:
    vm, compute = f"Microsoft.Compute/virtualMachines/{bare.names.vm}", _compute(bare)
    assert code_of(ask_hub(bare, "GET", vm)) == "ResourceNotFound"
    assert not bare.machine.ssh.runs
    host_key = ed25519.Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    text = host_key.private_bytes(*form).decode().replace("\n", "\n    ")
    config = f"#cloud-config\nssh_keys:\n  ed25519_private: |\n    {text}\n"
    keys = [{"path": "/home/x/.ssh/authorized_keys", "keyData": bare.machine.ssh.key.with_suffix(".pub").read_text()}]
    profile = {
        "linuxConfiguration": {"ssh": {"publicKeys": keys}},
        "customData": b64encode(config.encode()).decode(),
    }
    card = f"{bare.names.hub_group_id}/providers/Microsoft.Network/networkInterfaces/trainer"
    orphan = ask_hub(bare, "PUT", vm, json=_definition(bare, card, **profile))
    assert (orphan.status_code, code_of(orphan)) == (400, "InvalidResourceReference")
    made = ask_hub(bare, "PUT", card, "2018-11-01", json={"location": "north", "properties": {}})
    assert made.status_code == 201

    assert ask_hub(bare, "PUT", vm, json=_definition(bare, card, **profile)).status_code == 201
    again = ask_hub(bare, "PUT", vm, json=_definition(bare, card, **profile))
    assert again.status_code == 200
    assert "customData" not in again.text
    assert "PowerState/running" in " ".join(_states(bare, compute)).replace("starting", "running")
    public = host_key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert bare.machine.ssh.host_key == public.decode()
    assert _login(bare.machine.ssh, tmp_path, "true").returncode == 0


@pytest.mark.parametrize("password", ["short1A!", "P@ssword123", "alllowercaseletters", "A1!" + "a" * 70])
def test_a_password_that_azure_refuses_makes_no_vm(bare: Estate, password: str) -> None:
    card = f"{bare.names.hub_group_id}/providers/Microsoft.Network/networkInterfaces/trainer"
    ask_hub(bare, "PUT", card, "2018-11-01", json={"location": "north", "properties": {}})
    definition = _definition(bare, card, adminPassword=password)

    answer = ask_hub(bare, "PUT", f"Microsoft.Compute/virtualMachines/{bare.names.vm}", json=definition)

    assert (answer.status_code, code_of(answer)) == (400, "InvalidParameter")


def _container(estate: Estate, **options: Any) -> ContainerClient:
    names = estate.names
    key = {"account_name": names.hub_account, "account_key": estate.account_key(names.hub_account).read_text()}
    return ContainerClient(f"https://{names.hub_blob}", names.data_container, credential=key, **options)


def test_blobs_are_read_and_written_at_the_version_of_a_hub(estate: Estate) -> None:
    with _container(estate, api_version="2019-07-07") as container:
        container.upload_blob("twin/a b.bin", b"x" * 100_000, overwrite=True)

        assert container.download_blob("twin/a b.bin").readall() == b"x" * 100_000
        assert [blob.name for blob in container.list_blobs("twin/")] == ["twin/a b.bin"]
        with pytest.raises(HttpResponseError) as caught:
            container.upload_blob("twin/a b.bin", b"y")
        assert caught.value.error_code == "BlobAlreadyExists"


def test_a_newer_version_a_token_and_later_abilities_are_refused_by_the_hub(estate: Estate) -> None:
    with _container(estate) as container, pytest.raises(HttpResponseError) as caught:
        container.exists()
    assert (caught.value.status_code, caught.value.error_code) == (400, "InvalidHeaderValue")

    url = f"https://{estate.names.hub_blob}/{estate.names.data_container}"
    bearer = ask(estate, "GET", url, headers={"Authorization": "Bearer x", "x-ms-version": "2019-07-07"})
    assert bearer.status_code == 401
    assert ask(estate, "GET", f"{url}/a?sv=2026-10-06&sr=b&sp=r&sig=x").status_code == 400
    later = ask(estate, "GET", f"{url}?restype=container&comp=list&include=versions,tags")
    assert (later.status_code, later.headers["x-ms-error-code"]) == (400, "InvalidQueryParameterValue")
