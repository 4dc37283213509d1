"""What `insitu provision` sees to in the workspace: the compute target, and the environment of the jobs."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from azure.core.exceptions import ResourceNotFoundError

from insitu.adapters.azure.training_vm import vm_id
from insitu.adapters.azure.workspace import Workspace
from insitu.adapters.secrets import read_secret
from insitu.errors import NotReady, SettingsError
from insitu.images.manifest import canonical
from insitu.images.training import pinned
from insitu.provisioning import Finding
from insitu.settings import AzureMlTraining, SiteSettings, VmCompute

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

T = TypeVar("T")

BASE_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
"""What Azure ML builds the environment on: it runs commands by a shell, and so needs a distribution."""

_ATTACH_S = 1800


def find(workspace: Workspace, call: Callable[[MLClient], T]) -> T | None:
    """Return what *call* finds; None when it, or the workspace that it would be in, is not there."""

    def look(client: MLClient) -> T | None:
        try:
            return call(client)
        except ResourceNotFoundError:
            return None

    return workspace.ask(look)


@dataclass(frozen=True)
class TargetPart:
    """The machine of the site, as a compute target of the workspace."""

    workspace: Workspace
    settings: SiteSettings
    training: AzureMlTraining

    @property
    def name(self) -> str:
        """`compute target NAME`."""
        return f"compute target {self.training.target}"

    @property
    def place(self) -> str:
        """The workspace."""
        return self.workspace.name

    def look(self) -> Finding:
        """Return how it is attached; raise `NotReady` when it is another machine."""
        wanted = self._resource_id  # what is wrong with the settings is told first
        told = f"attach {wanted}" + (
            "; the workspace is handed the VM's login" if self.training.kind == "attached-vm" else ""
        )
        found: Any = find(self.workspace, lambda client: client.compute.get(self.training.target))
        if found is None:
            return Finding("not attached", told)
        known = str(found.resource_id or wanted)  # a machine that was attached by its address has no resource id
        if known.lower() != wanted.lower():
            raise NotReady(
                f"{self.name} of {self.place} is another machine than the site's",
                found=known,
                wanted=wanted,
                next_action="detach it there, or name another target in [training]",
            )
        state = str(getattr(found.provisioning_state, "value", found.provisioning_state))
        if state == "Succeeded":
            return Finding(f"attached, {found.type}")
        return Finding(state, told if state in ("Failed", "Canceled") else "wait until it is attached")

    def make(self) -> None:
        """Attach it; what was attached before is not made anew."""
        target = self._definition()
        self.workspace.ask(
            lambda client: client.compute.begin_create_or_update(target).wait(_ATTACH_S), refused=NotReady
        )

    @property
    def _resource_id(self) -> str:
        compute, training = self.settings.compute, self.training
        if training.kind == "kubernetes":
            if training.cluster_id is None:
                raise SettingsError(
                    "training.cluster_id is not set, so no cluster can be attached",
                    wanted="the resource id of the connected cluster (Microsoft.Kubernetes/connectedClusters)",
                )
            return training.cluster_id
        if not isinstance(compute, VmCompute) or self.settings.hub is None:
            raise SettingsError(
                'training of kind "attached-vm" needs a VM', wanted='[compute] of kind "stack-hub-vm", and [hub]'
            )
        return vm_id(self.settings.hub, compute.vm)

    def _definition(self) -> Any:
        from azure.ai.ml.entities import KubernetesCompute, VirtualMachineCompute

        about: dict[str, Any] = {"name": self.training.target, "resource_id": self._resource_id}
        if self.training.kind == "kubernetes":
            return KubernetesCompute(namespace=self.training.namespace or "default", **about)
        assert isinstance(self.settings.compute, VmCompute)
        return VirtualMachineCompute(ssh_settings=_login(self.settings.compute), **about)


def _login(compute: VmCompute) -> Any:
    from azure.ai.ml.entities import VirtualMachineSshSettings

    ssh = compute.ssh
    if ssh.passphrase:
        raise SettingsError(
            "Azure ML cannot use an SSH key with a passphrase",
            wanted="a key of its own for [compute.ssh], without one",
        )
    secret = {"ssh_private_key_file": str(ssh.key)} if ssh.key else {"admin_password": _password(compute)}
    return VirtualMachineSshSettings(admin_username=ssh.user, ssh_port=ssh.port, **secret)


def _password(compute: VmCompute) -> str:
    assert compute.ssh.password
    return read_secret(compute.ssh.password)


@dataclass(frozen=True)
class EnvironmentPart:
    """The environment of the jobs: this machine's Python and packages, to the version.

    Where the site names no version, the version stands for the content: other packages are another version,
    and `latest` is the newest.
    """

    workspace: Workspace
    training: AzureMlTraining
    requirements: tuple[str, ...]

    @property
    def name(self) -> str:
        """`environment NAME:VERSION`."""
        return f"environment {self._name}:{self._version}"

    @property
    def place(self) -> str:
        """The workspace."""
        return self.workspace.name

    def look(self) -> Finding:
        """Return whether this version is there; a version never changes."""
        name, version = self._name, self._version
        found = find(self.workspace, lambda client: client.environments.get(name, version=version))
        if found is None:
            packages = len(self._definition["dependencies"][-1]["pip"])
            return Finding("not there", f"create it: Python {platform.python_version()}, {packages} packages")
        return Finding("there")

    def make(self) -> None:
        """Create it; the workspace builds its image when the first job needs it."""
        from azure.ai.ml.entities import Environment

        environment = Environment(
            name=self._name,
            version=self._version,
            image=BASE_IMAGE,
            conda_file=self._definition,
            description="What edge jobs of insitu import, as installed where the flow runs.",
        )
        self.workspace.ask(lambda client: client.environments.create_or_update(environment), refused=NotReady)

    @property
    def _name(self) -> str:
        return self.training.environment.partition(":")[0]

    @property
    def _version(self) -> str:
        named = self.training.environment.partition(":")[2]
        return named or sha256(canonical([BASE_IMAGE, self._definition])).hexdigest()[:12]

    @cached_property
    def _definition(self) -> dict[str, Any]:
        packages = [*pinned(self.requirements)]
        python = f"python={platform.python_version()}"
        return {"name": "insitu", "channels": ["conda-forge"], "dependencies": [python, "pip", {"pip": packages}]}
