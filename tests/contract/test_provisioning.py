"""Provisioning on an estate where nothing is there yet: planned, brought about once, and left alone from then on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from sshd import Vm, running_vm

from insitu.adapters.azure.arm import Arm
from insitu.adapters.azure.cloud_init import cloud_config
from insitu.adapters.azure.hub import open_hub
from insitu.adapters.azure.identity import azure_identity
from insitu.adapters.vm_docker import VmDockerPart
from insitu.errors import AccessRefused, NotReady, SettingsError
from insitu.provisioning import Finding, Outcome, bring_about, plan
from insitu.settings import SiteSettings, VmCompute, load_site
from insitu.twin.azurite import PROGRAM
from insitu.twin.estate import Estate
from insitu.twin.faults import Fault
from insitu.twin.server import running_estate
from insitu.twin.site_file import site_text
from insitu.twin.sshd import sshd_program
from insitu.wiring import open_parts

Load = Callable[..., SiteSettings]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    """An estate whose hub and subscription hold nothing but a resource group."""
    if not PROGRAM.exists() or sshd_program() is None:
        pytest.skip("Azurite or openssh-server is not installed: tests/system-parts.sh does that")
    with running_estate(tmp_path / "empty", in_memory=True, provisioned=False) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def load(empty: Estate, tmp_path: Path) -> Load:
    """Load the estate's site from a project without models; keywords override keys."""

    def settings(**overrides: str) -> SiteSettings:
        (tmp_path / "deployments" / "sites").mkdir(parents=True, exist_ok=True)
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "deployments" / "sites" / "twin.toml").write_text(site_text(empty, tmp_path))
        environ = {f"INSITU_SITE__{key}": value for key, value in overrides.items()}
        return load_site(tmp_path, "twin", {**os.environ, **environ})

    return settings


def planned(settings: SiteSettings, project: Path) -> list[Outcome]:
    return plan(list(open_parts(project, settings, os.environ)))


def provisioned(settings: SiteSettings, project: Path) -> list[Outcome]:
    return [bring_about(part) for part in open_parts(project, settings, os.environ)]


def hub_resource(settings: SiteSettings, path: str, version: str) -> Any:
    assert settings.hub
    hub = open_hub(settings.hub)
    group = f"/subscriptions/{settings.hub.subscription}/resourceGroups/{settings.hub.resource_group}"
    return Arm("the hub", settings.hub.arm, hub.identity).get(f"{group}/providers/{path}", version)


def test_a_plan_tells_everything_and_changes_nothing(load: Load, empty: Estate, tmp_path: Path) -> None:
    settings = load()
    first, second = planned(settings, tmp_path), planned(settings, tmp_path)
    assert first == second
    assert [one.name.partition(" ")[0] for one in first if one.to_do] == [
        *("network", "firewall", "interface", "VM"),
        *("registry", "storage", "key", "workspace", "compute", "environment"),
    ]
    assert not any(one.done for one in first)
    assert {line.method for line in empty.journal.lines() if "oauth2" not in line.path} <= {"GET", "HEAD"}


@pytest.mark.parametrize("kind", ["attached-vm", "kubernetes"])
def test_what_is_brought_about_stays_as_it_is_the_second_time(
    load: Load, empty: Estate, tmp_path: Path, kind: str
) -> None:
    cluster = "/subscriptions/x/resourceGroups/y/providers/Microsoft.Kubernetes/connectedClusters/edge"
    more = {"TRAINING__KIND": "kubernetes", "TRAINING__CLUSTER_ID": cluster} if kind == "kubernetes" else {}
    settings = load(**more)
    first = provisioned(settings, tmp_path)
    assert [one.to_do for one in first if one.done] == [one.to_do for one in first if one.to_do]
    empty.journal.clear()
    second = provisioned(settings, tmp_path)
    assert [one.to_do for one in second] == [""] * len(second)
    assert {line.method for line in empty.journal.lines() if "oauth2" not in line.path} <= {"GET", "HEAD"}


def test_a_vm_is_made_as_the_site_file_says(load: Load, empty: Estate, tmp_path: Path) -> None:
    host = f"train.{empty.names.region}.cloudapp.{empty.names.fqdn}"
    told = {"COMPUTE__SIZE": "Standard_DS4_v2", "COMPUTE__SSH_FROM": '["10.1.0.0/16"]', "COMPUTE__SSH__HOST": host}
    settings = load(COMPUTE__VM="as-told", **told)
    provisioned(settings, tmp_path)
    vm = hub_resource(settings, "Microsoft.Compute/virtualMachines/as-told", "2020-06-01")["properties"]
    assert vm["hardwareProfile"]["vmSize"] == "Standard_DS4_v2"
    assert vm["storageProfile"]["imageReference"]["sku"] == "22.04-LTS"
    (key,) = vm["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"]
    assert key["keyData"].split()[0] == "ssh-ed25519"
    card = hub_resource(settings, "Microsoft.Network/networkInterfaces/as-told-nic", "2018-11-01")["properties"]
    assert card["ipConfigurations"][0]["properties"]["publicIPAddress"]["id"].endswith("/as-told-ip")
    address = hub_resource(settings, "Microsoft.Network/publicIPAddresses/as-told-ip", "2018-11-01")["properties"]
    assert (address["publicIPAllocationMethod"], address["dnsSettings"]["domainNameLabel"]) == ("Static", "train")
    firewall = hub_resource(settings, "Microsoft.Network/networkSecurityGroups/as-told-nsg", "2018-11-01")
    assert [r["properties"]["sourceAddressPrefix"] for r in firewall["properties"]["securityRules"]] == ["10.1.0.0/16"]


def test_a_vm_that_is_stopped_is_started_and_one_of_another_size_is_only_told_of(load: Load, tmp_path: Path) -> None:
    provisioned(load(), tmp_path)
    settings = load(COMPUTE__SIZE="Standard_F8s_v2")
    (vm,) = [one for one in planned(settings, tmp_path) if one.name == "VM trainer"]
    assert (vm.to_do, "the settings say Standard_F8s_v2" in vm.found) == ("", True)


def test_a_deallocated_vm_is_started(load: Load, empty: Estate, tmp_path: Path) -> None:
    provisioned(load(), tmp_path)
    empty.set_condition("vm-deallocated")
    (vm,) = [one for one in provisioned(load(), tmp_path) if one.name == "VM trainer"]
    assert (vm.found.partition(",")[0], vm.to_do, vm.done) == ("deallocated", "start it", True)


def test_an_answer_that_is_lost_after_the_work_makes_nothing_twice(load: Load, empty: Estate, tmp_path: Path) -> None:
    settings = load()
    for method in ("PUT", "POST"):
        empty.faults.add(Fault("status:503", path="/subscriptions/.*", method=method, when="after", times=3))
    provisioned(settings, tmp_path)
    empty.faults.clear()
    assert [one.to_do for one in planned(settings, tmp_path) if one.to_do] == []


def test_a_target_that_is_another_machine_is_not_touched(load: Load, tmp_path: Path) -> None:
    provisioned(load(COMPUTE__VM="first", TRAINING__TARGET="shared"), tmp_path)
    with pytest.raises(NotReady, match="another machine"):
        planned(load(COMPUTE__VM="second", TRAINING__TARGET="shared"), tmp_path)


def test_a_target_that_was_attached_by_its_address_is_taken_as_it_is(load: Load, empty: Estate, tmp_path: Path) -> None:
    settings = load()
    provisioned(settings, tmp_path)
    with empty.shelf("azure-ml-computes").changing() as computes:
        for compute in computes.values():
            compute["properties"]["resourceId"] = None
    assert [one.name for one in planned(settings, tmp_path) if one.to_do] == []


def test_who_may_not_create_is_told_which_right_is_missing(load: Load, empty: Estate) -> None:
    settings = load()
    assert settings.azure
    cloud = Arm("subscription", "https://management.azure.com", azure_identity(settings.azure))
    other = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/theirs"
    with pytest.raises((AccessRefused, NotReady)) as caught:
        cloud.put(other, "2021-04-01", {"location": "westeurope"})
    assert "theirs" in str(caught.value)


def test_the_other_packages_of_a_model_are_another_environment(load: Load, tmp_path: Path) -> None:
    from insitu.adapters.azure.provisioning import azure_parts

    settings = load()
    names = {part.name for wanted in ([], ["skops"]) for part in azure_parts(settings, wanted)}
    assert len([name for name in names if name.startswith("environment ")]) == 2


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Vm]:
    with running_vm(tmp_path / "machine") as found:
        yield found


def test_docker_is_installed_on_a_vm_that_lacks_it(machine: Vm) -> None:
    part = VmDockerPart("trainer", machine.ssh)
    assert part.look() == Finding("installed")
    machine.without("docker")
    bin_folder = machine.folder / "bin"
    machine.program("id", "echo user")
    machine.program(
        "sudo", f'echo "$*" >> {machine.folder}/asked; touch {bin_folder}/docker; chmod +x {bin_folder}/docker'
    )
    machine.program("touch", f'exec {shutil.which("touch")} "$@"')
    machine.program("chmod", f'exec {shutil.which("chmod")} "$@"')
    assert bring_about(part).done
    asked = (machine.folder / "asked").read_text()
    assert "install docker.io" in asked
    assert "usermod --append --groups docker user" in asked
    assert not bring_about(part).done


def test_a_vm_that_takes_no_docker_is_told_of(machine: Vm) -> None:
    machine.without("docker")
    machine.program("sudo", "echo a password is required; exit 1")
    with pytest.raises(NotReady, match="could not be installed") as caught:
        bring_about(VmDockerPart("trainer", machine.ssh))
    assert "password is required" not in str(caught.value)
    machine.server.stop()
    assert VmDockerPart("trainer", machine.ssh).look().to_do == ""


# --- what a new VM does at its first start ---


def vm_of(settings: SiteSettings) -> VmCompute:
    assert isinstance(settings.compute, VmCompute)
    return settings.compute


def config_of(settings: SiteSettings) -> dict[str, Any]:
    text = cloud_config(settings, vm_of(settings))
    assert text.startswith("#cloud-config\n")
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def test_a_new_vm_installs_docker_and_lets_the_user_use_it(load: Load) -> None:
    settings = load()
    config = config_of(settings)
    assert config["packages"] == ["docker.io"]
    assert ["usermod", "--append", "--groups", "docker", vm_of(settings).ssh.user] in config["runcmd"]
    assert "apt" not in config, "a proxy of this machine alone is none to the VM"


def test_a_new_vm_goes_out_as_the_site_does(load: Load, tmp_path: Path) -> None:
    (tmp_path / "hub.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    config = config_of(load(NETWORK__PROXY="http://proxy.example:3128", DATA__CA_BUNDLE="hub.pem"))
    assert config["apt"]["https_proxy"] == "http://proxy.example:3128"
    assert config["ca_certs"]["trusted"] == ["-----BEGIN CERTIFICATE-----\n"]
    files = {file["path"] for file in config["write_files"]}
    assert "/etc/systemd/system/docker.service.d/proxy.conf" in files


def test_a_new_vm_has_the_host_key_that_is_pinned(load: Load, tmp_path: Path) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public = private.public_key().public_bytes(*form).decode()
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()
    (tmp_path / "host.key").write_text(text)
    config = config_of(load(COMPUTE__HOST_KEY_FILE="host.key", COMPUTE__SSH__HOST_KEY=public))
    assert config["ssh_keys"] == {"ed25519_private": text, "ed25519_public": public}
    with pytest.raises(SettingsError, match="not the private half") as caught:
        config_of(load(COMPUTE__HOST_KEY_FILE="host.key"))
    assert text.splitlines()[1] not in str(caught.value)


def test_no_secret_of_the_stores_is_in_the_definition_of_a_vm(load: Load, empty: Estate) -> None:
    key = empty.account_key(empty.names.hub_account).read_text()
    settings = load()
    assert key not in cloud_config(settings, vm_of(settings))


# --- the command ---


@pytest.mark.slow
def test_the_command_plans_and_provisions(load: Load, tmp_path: Path) -> None:
    load()

    def run(*options: str) -> list[dict[str, Any]]:
        command = [
            str(Path(sys.executable).with_name("insitu")),
            "provision",
            "--site",
            "twin",
            "--project",
            str(tmp_path),
        ]
        done = subprocess.run([*command, *options, "--json"], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        outcomes: list[dict[str, Any]] = json.loads(done.stdout)
        return outcomes

    promised, made, left = run("--plan"), run(), run("--plan")
    assert [one["to_do"] for one in made] == [one["to_do"] for one in promised]
    assert [one["to_do"] for one in left] == [""] * len(left)


def test_the_templates_make_the_same_without_an_admin_user() -> None:
    folder = Path(__file__).parents[2] / "deployments" / "infrastructure"
    resources = json.loads((folder / "workspace.json").read_text())["resources"]
    bicep = (folder / "workspace.bicep").read_text()
    made = sorted(f"{resource['type']}@{resource['apiVersion']}" for resource in resources)
    assert sorted(re.findall(r"resource \w+ '([^']+)'", bicep)) == made
    (registry,) = (one for one in resources if one["type"] == "Microsoft.ContainerRegistry/registries")
    assert registry["properties"] == {"adminUserEnabled": False, "anonymousPullEnabled": False}
    for words in ("adminUserEnabled: false", "anonymousPullEnabled: false", "allowBlobPublicAccess: false"):
        assert words in bicep
