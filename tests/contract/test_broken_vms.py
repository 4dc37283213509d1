"""A VM that lacks something, seen through a real sshd: each lack is named, with what was found and what to do."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure_helpers import signature
from azurite import Azurite
from sshd import Vm, running_vm
from stack_hub import StackHub

from insitu.adapters.ssh import open_session
from insitu.adapters.vm import vm_checks
from insitu.ports import Check, Need
from insitu.settings import (
    AzureBlobStore,
    AzureMlTraining,
    EdgeSecrets,
    FolderStore,
    HubSettings,
    MlflowModels,
    SecretSource,
    SiteSettings,
    SshSettings,
    VmCompute,
)

GUID = "00000000-0000-4000-8000-000000000000"
NEED = Need(cores=1, memory_bytes=1, disk_bytes=1)
HUGE = 10**18


@dataclass
class Place:
    """A site whose VM is *vm*, and a container that the VM can read."""

    vm: Vm
    container: str
    settings: dict[str, Any]

    def compute(self, **settings: Any) -> VmCompute:
        values = {"ssh": self.vm.ssh, "reserve_memory_mb": 0, "reserve_disk_mb": 0, "gpu": True} | settings
        return VmCompute(kind="stack-hub-vm", vm="vm", **values)

    def checks(self, need: Need = NEED, **settings: Any) -> dict[str, Check]:
        compute = self.compute(**settings)
        site = SiteSettings(name="s", compute=compute, **self.settings)
        wanted = Need(need.cores, need.memory_bytes, need.disk_bytes, (self.container,))
        return {check.name: check for check in vm_checks(site, compute, wanted, None)}

    def failed(self, need: Need = NEED, **settings: Any) -> list[Check]:
        return [check for check in self.checks(need, **settings).values() if not check.ok]


@pytest.fixture(scope="module")
def _vm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    with running_vm(tmp_path_factory.mktemp("vm") / "vm") as vm:
        yield vm


@pytest.fixture
def place(
    _vm: Vm, hub: StackHub, emulator: Azurite, new_container: Callable[[], str], tmp_path: Path
) -> Iterator[Place]:
    """A site at which all is well."""
    secret, container = tmp_path / "data.secret", new_container()
    secret.write_text(emulator.key)
    store = AzureBlobStore(kind="azure-blob", account_url=hub.url, key=SecretSource(env="NOT_READ_HERE"))
    principal = {"tenant": "adfs", "client_id": GUID, "secret": SecretSource(env="NOT_READ_HERE")}
    settings = {
        "data": store,
        "state": FolderStore(kind="folder", root=tmp_path),
        "models": MlflowModels(kind="mlflow", uri="sqlite:////nowhere.db"),
        "hub": HubSettings(
            region="north", fqdn="hub.example", subscription=GUID, resource_group="g", identity=principal
        ),
        "azure": {
            "subscription": GUID, "resource_group": "g", "workspace": "w", "identity": principal | {"tenant": "t"}
        },
        "training": AzureMlTraining(kind="attached-vm", target="vm", secrets=EdgeSecrets(data=str(secret))),
    }  # fmt: skip
    yield Place(_vm, container, settings)
    _vm.well()


def put(emulator: Azurite, container: str, name: str) -> None:
    from azure.storage.blob import ContainerClient

    credential = {"account_name": emulator.account, "account_key": emulator.key}
    ContainerClient(emulator.url, container, credential=credential, api_version="2019-07-07").upload_blob(name, b"x")


def test_a_vm_that_is_well_passes_every_check(place: Place, emulator: Azurite) -> None:
    put(emulator, place.container, "a folder/ä+b.parquet")
    checks = place.checks()
    assert {name: check.found for name, check in checks.items() if not check.ok} == {}
    names = {"ssh", "memory", "disk", "docker", "python", "clock", "gpu", f"data {place.container} from the vm"}
    assert set(checks) == names
    assert checks["docker"].found == "version 27.5.1"
    assert checks["gpu"].found == "Tesla V100, 535.183.01"


def break_docker_daemon(vm: Vm) -> None:
    vm.program("docker", 'echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock." >&2; exit 1')


def break_docker_right(vm: Vm) -> None:
    vm.program("docker", 'echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1')


def break_clock(vm: Vm) -> None:
    vm.program("date", f"echo {int(time.time()) - 900}")


def break_driver(vm: Vm) -> None:
    vm.program("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")


def break_gpu(vm: Vm) -> None:
    vm.program("nvidia-smi", "echo 'No devices were found'; exit 6")


CASES: list[tuple[str, Callable[[Vm], None], str, str, str]] = [
    ("no Docker", lambda vm: vm.without("docker"), "docker", "not installed", "insitu provision"),
    ("a dead Docker", break_docker_daemon, "docker", "the daemon does not answer", "restart docker"),
    ("a Docker of others", break_docker_right, "docker", "the daemon refuses", "usermod"),
    ("a Docker that hangs", lambda vm: vm.program("docker", "exec sleep 60"), "docker", "in time", "restart docker"),
    ("no driver", lambda vm: vm.without("nvidia-smi"), "gpu", "no nvidia-smi", "driver"),
    ("a driver of another version", break_driver, "gpu", "different versions", "restart the VM"),
    ("no GPU", break_gpu, "gpu", "shows none", "driver"),
    ("a clock that is off", break_clock, "clock", "s from this machine's clock", "set-ntp"),
    ("an old python", lambda vm: vm.program("python3", "echo 2.7.18"), "python", "2.7.18", "install python3"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("break_it", "name", "found", "next_action"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_broken_is_named(
    place: Place, break_it: Callable[[Vm], None], name: str, found: str, next_action: str
) -> None:
    break_it(place.vm)
    settings = {"ssh": place.vm.ssh.model_copy(update={"timeout_s": 2})} if found == "in time" else {}
    failed = {check.name: check for check in place.failed(**settings)}
    assert failed[name].found.find(found) >= 0, failed[name]
    assert next_action in failed[name].next_action
    others = {f"data {place.container} from the vm"} if name == "python" else set()
    assert set(failed) - others == {name}


def test_a_full_disk_is_named_with_its_mount_and_both_numbers(place: Place, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=False, capture_output=True
    ).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        place.vm.home = small
        place.vm.restart()
        (check,) = place.failed(Need(1, 1, 64_000_000))
    finally:
        subprocess.run(["umount", small], check=True)
    assert (check.name, check.found, check.wanted) == ("disk", f"1 MB free at {small}", "64 MB")


@pytest.mark.parametrize(("name", "need"), [("memory", Need(1, HUGE, 1)), ("disk", Need(1, 1, HUGE))])
def test_too_little_of_something_is_told_in_numbers(place: Place, name: str, need: Need) -> None:
    (check,) = place.failed(need)
    assert check.name == name
    assert any(digit.isdigit() for digit in check.found)
    assert check.wanted == f"{HUGE / 1e6:,.0f} MB"


def test_a_dead_sshd_is_told_apart_from_a_silent_port(place: Place) -> None:
    place.vm.server.stop()
    (dead,) = place.failed()
    assert (dead.name, "the connection is refused" in dead.found) == ("ssh", True)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ssh = place.vm.ssh.model_copy(update={"port": silent.getsockname()[1], "timeout_s": 1})
        (mute,) = place.failed(ssh=ssh)
    assert "no SSH server says anything" in mute.found


def test_a_server_with_another_key_gets_no_credential(place: Place) -> None:
    log = place.vm.folder / "ssh" / "sshd.log"
    assert place.failed() == []
    shown = log.read_text().count("publickey")
    assert shown > 0
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1hZGUgdXAgZm9yIHRlc3RzIG9ubHksIG5vdCBhIGtl"
    (check,) = place.failed(ssh=place.vm.ssh.model_copy(update={"host_key": other}))
    assert "another key than the one that is pinned" in check.found
    assert "SHA256:" in check.found
    assert "compute.ssh.host_key" in check.next_action
    assert log.read_text().count("publickey") == shown


def test_a_key_that_the_vm_does_not_know_is_refused(place: Place, tmp_path: Path) -> None:
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (check,) = place.failed(ssh=place.vm.ssh.model_copy(update={"key": key}))
    assert "the key is not accepted" in check.found
    assert "authorized_keys" in check.next_action


def test_a_password_where_the_vm_wants_a_key_is_refused_and_not_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VM_PASSWORD", "Correct-Horse-9")
    ssh = SshSettings(**place.vm.ssh.model_dump(exclude={"key", "password"}), password=SecretSource(env="VM_PASSWORD"))
    (check,) = place.failed(ssh=ssh)
    assert "the password is not accepted" in check.found
    assert "Correct-Horse-9" not in repr(check)


def test_a_shell_that_runs_no_commands_is_named(place: Place) -> None:
    place.vm.program("sh", "echo 'This account is currently not available.'")
    (check,) = place.failed()
    assert (check.name, "does not run commands" in check.found) == ("ssh", True)


def test_a_command_that_ends_without_reading_its_input_is_heard(place: Place) -> None:
    with open_session(place.vm.ssh) as session:
        done = session.run("echo enough; exit 7", b"more than any window " * 500_000, timeout_s=30)
    assert (done.code, done.output) == (7, b"enough\n")


def test_a_shell_that_chatters_is_understood(place: Place) -> None:
    place.vm.program("sh", 'echo "insitu greets you"; echo Welcome; exec /bin/sh "$@"')
    assert place.failed() == []


def blob_check(place: Place) -> Check:
    (check,) = place.failed()
    assert check.name == f"data {place.container} from the vm"
    return check


def test_a_secret_that_is_not_on_the_vm_is_named_by_its_path(place: Place, tmp_path: Path) -> None:
    (tmp_path / "data.secret").unlink()
    assert blob_check(place).found == f"{tmp_path}/data.secret: FileNotFoundError"


@pytest.mark.parametrize("content", ["", "no key"])
def test_a_file_without_a_key_is_told_without_what_it_holds(place: Place, tmp_path: Path, content: str) -> None:
    (tmp_path / "data.secret").write_text(content)
    assert blob_check(place).found == f"{tmp_path}/data.secret: it holds no key of an account"


def test_another_account_s_key_is_refused_by_the_service(place: Place, tmp_path: Path) -> None:
    (tmp_path / "data.secret").write_text("bm90IHRoZSBrZXk=")
    check = blob_check(place)
    assert check.found == "refused: 403 AuthorizationFailure"
    assert "bm90" not in repr(check)


def test_a_signature_on_the_vm_is_used_and_one_that_may_not_list_is_refused(
    place: Place, emulator: Azurite, tmp_path: Path
) -> None:
    place.settings["data"] = AzureBlobStore(
        kind="azure-blob", account_url=place.settings["data"].account_url, sas=SecretSource(env="NOT_READ_HERE")
    )
    (tmp_path / "data.secret").write_text("?" + signature(emulator, place.container, "rl"))
    assert place.failed() == []
    put(emulator, place.container, "a.parquet")
    (tmp_path / "data.secret").write_text(signature(emulator, place.container, "l"))
    assert blob_check(place).found.startswith("refused: 403")


def test_a_name_that_breaks_the_listing_breaks_no_vm(place: Place, emulator: Azurite) -> None:
    put(emulator, place.container, "bell\x07")
    assert place.failed() == []


def test_a_page_of_somebody_else_is_no_blob_service_s(place: Place, hub: StackHub) -> None:
    hub.page = b"<html><body>Sign in to the guest network</body></html>"
    found = blob_check(place).found
    hub.reset()
    assert found == "an answer that is no blob service's"


def test_a_service_that_the_vm_cannot_reach_is_named(place: Place) -> None:
    nowhere = place.settings["data"].model_copy(update={"account_url": "http://127.0.0.1:9/account"})
    place.settings["data"] = nowhere
    assert blob_check(place).found == "ConnectionRefusedError"


def test_a_service_whose_clock_differs_from_the_vm_s_is_the_cause_that_is_named(place: Place, hub: StackHub) -> None:
    hub.clock_skew_s = 900
    (check,) = place.failed()
    assert check.name == "clock"
    assert "s from the blob service's clock" in check.found
