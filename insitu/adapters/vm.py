"""The training VM seen from within: what it answers, as checks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from insitu.adapters.ssh import open_session
from insitu.adapters.vm_questions import Answers, Store, read_answers, script
from insitu.errors import InsituError
from insitu.ports import Check, Need
from insitu.readiness import failed_check
from insitu.settings import (
    AzureBlobStore,
    AzureMlTraining,
    AzureStateStore,
    DockerTraining,
    EdgeSecrets,
    SiteSettings,
    VmCompute,
)

_MEGA = 1_000_000
_MORE_S = 20
"""What the whole script may take beyond one question: they are asked side by side."""
_SERVICE_SKEW_S = 300
_OLDEST_PYTHON = (3, 6)


@dataclass(frozen=True)
class Look:
    """One look at the VM: its answers, and how far its clock is from this machine's (positive: ahead)."""

    answers: Answers
    skew_s: float


def vm_checks(site: SiteSettings, compute: VmCompute, need: Need, memory_bytes: int | None) -> list[Check]:
    """Connect to the VM and ask it; never raises.

    Args:
        memory_bytes: What the VM's size has, where that is known.
    """
    ssh = compute.ssh
    wanted = f"{ssh.user} signs in at {ssh.host}:{ssh.port}, whose key is the pinned one"
    try:
        look = _look(site, compute, need)
    except InsituError as error:
        return [failed_check("ssh", error, wanted)]
    if not look.answers.whole:
        next_action = f"see what the login shell of {ssh.user} on the VM does with commands"
        return [Check("ssh", False, "signed in, but the user's shell does not run commands", wanted, next_action)]
    return [Check("ssh", True, "signed in", wanted), *_checks(site, compute, need, look, memory_bytes)]


def _look(site: SiteSettings, compute: VmCompute, need: Need) -> Look:
    limit_s = compute.ssh.timeout_s
    text = script(_stores(site, need), docker=_uses_docker(site), gpu=compute.gpu, limit_s=limit_s)
    with open_session(compute.ssh) as session:
        began = time.time()
        answers = read_answers(session.run("sh -s", text, timeout_s=limit_s + _MORE_S).output)
        ended = time.time()
    now = float(answers.told.get("now") or began)
    # The answer's moment lies between the two, and its clock shows whole seconds.
    return Look(answers, min(0.0, now + 1 - began) + max(0.0, now - ended))


def _checks(
    site: SiteSettings, compute: VmCompute, need: Need, look: Look, memory_bytes: int | None
) -> Iterator[Check]:
    answers = look.answers
    yield _memory(answers.told, need.memory_bytes + compute.reserve_memory_mb * _MEGA, memory_bytes)
    yield _disk(answers.disks, need.disk_bytes + compute.reserve_disk_mb * _MEGA)
    if _uses_docker(site):
        yield _docker(answers.told.get("docker", ""), compute.ssh.user)
    yield _python(answers.told.get("python", ""))
    yield _clock(look, compute.max_skew_s)
    for store in _stores(site, need):
        yield _blob(store, answers.blobs.get(store.what, {}))
    if compute.gpu:
        yield _gpu(answers.told.get("gpu", ""))


def _memory(told: Mapping[str, str], wanted_bytes: int, size_bytes: int | None) -> Check:
    kb = told.get("memory_kb", "")
    found = int(kb) * 1024 if kb.isdecimal() else 0
    if size_bytes is not None and size_bytes < wanted_bytes:
        text, next_action = f"{_mb(size_bytes)} in all", "resize the VM, or lower needs.memory_mb in model.toml"
        return Check("memory", False, text, _mb(wanted_bytes), next_action)
    next_action = "end what else runs on the VM, resize it, or lower needs.memory_mb in model.toml"
    return Check("memory", found >= wanted_bytes, f"{_mb(found)} available", _mb(wanted_bytes), next_action)


def _disk(disks: Sequence[tuple[int, str]], wanted_bytes: int) -> Check:
    free, mount = min(disks, default=(0, "a disk that the VM does not tell"))
    next_action = f"free some space on {mount} of the VM (`docker system prune`?), or attach a larger disk"
    return Check("disk", free >= wanted_bytes, f"{_mb(free)} free at {mount}", _mb(wanted_bytes), next_action)


def _docker(answer: str, user: str) -> Check:
    code, _, text = answer.partition(" ")
    wanted = "a Docker daemon that answers this user"
    if code == "0":
        return Check("docker", True, f"version {text.split(' ')[0]}", wanted)
    lowered = text.lower()
    found, next_action = "the daemon does not answer", "on the VM: sudo systemctl restart docker"
    if code == "127":
        found, next_action = "not installed", "install it: `insitu provision` does"
    elif "permission denied" in lowered:
        found, next_action = f"the daemon refuses {user}", f"on the VM: sudo usermod -aG docker {user}"
    elif code in ("124", "137", ""):
        found = "the daemon does not answer in time"
    return Check("docker", False, found, wanted, next_action)


def _python(answer: str) -> Check:
    version = tuple(int(part) for part in answer.split(".") if part.isdecimal())
    oldest = ".".join(map(str, _OLDEST_PYTHON))
    found = answer if version else "no python3 that runs"
    next_action = "on the VM: sudo apt-get install python3"
    return Check("python", version >= _OLDEST_PYTHON, found, f"python3 {oldest} or newer", next_action)


def _clock(look: Look, most_s: int) -> Check:
    """Judge the clock by this machine's, and by the blob service's: services refuse requests that are minutes off."""
    skews = [float(blob["skew_s"]) for blob in look.answers.blobs.values() if blob.get("skew_s") is not None]
    service_s = max(skews, key=abs, default=0.0)
    wanted = f"at most {most_s} s off"
    next_action = "on the VM: sudo timedatectl set-ntp true"
    if abs(look.skew_s) > most_s:
        found = f"{look.skew_s:+,.0f} s from this machine's clock"
        if skews and abs(service_s) <= most_s:
            found += ", and right by the blob service's"
            next_action = "set the clock of this machine"
        return Check("clock", False, found, wanted, next_action)
    if abs(service_s) > max(most_s, 2):
        found = f"{service_s:+,.0f} s from the blob service's clock"
        return Check("clock", False, found, wanted, f"{next_action}; if it is right, have the hub's clock set")
    return Check("clock", True, f"{look.skew_s:+,.0f} s from this machine's clock", wanted, next_action)


def _blob(store: Store, answer: Mapping[str, Any]) -> Check:
    name, wanted = f"{store.what} from the vm", f"{store.url} is read with the secret in {store.file} of the VM"
    problem, error = answer.get("problem", "silence"), answer.get("error") or "no answer in time"
    if problem == "":
        return Check(name, True, "read", wanted)
    if problem == "secret":
        next_action = f"put the account's key or a signature into {store.file} on the VM, for the job's user alone"
        return Check(name, False, f"{store.file}: {error}", wanted, next_action)
    if problem == "status" and str(error).startswith("404"):
        return Check(name, False, f"refused: {error}", wanted, "create the container, or mend its name")
    if problem == "status":
        next_action = f"renew the secret in {store.file} on the VM: it must allow reading and listing of this container"
        return Check(name, False, f"refused: {error}", wanted, next_action)
    next_action = "on the VM: see name resolution, firewall, proxy, and the authorities that training.secrets names"
    return Check(name, False, str(error), wanted, next_action)


def _gpu(answer: str) -> Check:
    code, _, text = answer.partition(" ")
    wanted, next_action = (
        "a GPU that nvidia-smi shows",
        "install the driver that fits the VM's GPU, then restart the VM",
    )
    if code == "0" and text.strip():
        return Check("gpu", True, text.strip(), wanted)
    if code == "127":
        return Check("gpu", False, "no nvidia-smi, so no driver", wanted, next_action)
    mismatch = "mismatch" in text.lower()
    found = "driver and library are of different versions" if mismatch else "nvidia-smi shows none"
    return Check(
        "gpu", False, found, wanted, "restart the VM, so that the new driver is used" if mismatch else next_action
    )


def _stores(site: SiteSettings, need: Need) -> list[Store]:
    """Return the containers that a job on the VM opens by itself, with the secrets that lie there."""
    if not _runs_on_vm(site):
        return []
    secrets: EdgeSecrets = getattr(site.training, "secrets", EdgeSecrets())
    stores = []
    if isinstance(site.data, AzureBlobStore):
        stores += [_store(f"data {name}", site.data, name, secrets.data, secrets) for name in need.containers]
    if isinstance(site.state, AzureStateStore):
        stores.append(_store("state", site.state, site.state.container, secrets.state, secrets))
    return stores


def _store(what: str, store: AzureBlobStore, container: str, file: str, secrets: EdgeSecrets) -> Store:
    url = f"{store.account_url}/{container}"
    return Store(what, url, store.account_name, store.api_version, store.sas is not None, file, secrets.ca_bundle)


def _uses_docker(site: SiteSettings) -> bool:
    return _runs_on_vm(site)


def _runs_on_vm(site: SiteSettings) -> bool:
    """Tell whether jobs run on the VM, in containers and with secrets of its own."""
    training = site.training
    if isinstance(training, AzureMlTraining):
        return training.kind == "attached-vm"
    return isinstance(training, DockerTraining) and training.host.startswith("ssh://")


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
