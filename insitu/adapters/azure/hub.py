"""The hub's compute: one VM, its state, and the sizes that the hub offers.

Every call names the version of the API: the SDK ignores the one of its client, and its own default is newer than
any hub. What the hub leaves out of an answer counts as not known, and what is not known is not ready.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar, cast

from azure.core.exceptions import ResourceNotFoundError
from azure.mgmt.compute import ComputeManagementClient

from insitu.adapters.azure.answers import OPTIONS, code_of, translated
from insitu.adapters.azure.identity import Identity, hub_identity
from insitu.errors import AccessRefused
from insitu.settings import HubSettings

T = TypeVar("T")
UNKNOWN = "not told"


@dataclass(frozen=True)
class Machine:
    """What the hub says of a VM, in its own words; `not told` where it says nothing.

    Attributes:
        power: Such as `running`, `stopped`, `deallocated`, `starting`.
        provisioning: Such as `succeeded`, `failed`, `updating`.
        agent: State of the VM agent: `ready`, or what is wrong.
        size: Such as `Standard_DS3_v2`.
        location: The hub's region.
    """

    power: str = UNKNOWN
    provisioning: str = UNKNOWN
    agent: str = UNKNOWN
    size: str = UNKNOWN
    location: str = UNKNOWN


@dataclass(frozen=True)
class Size:
    """What a size of VM has."""

    cores: int
    memory_bytes: int


@dataclass(frozen=True)
class Absent:
    """There is no such VM: what of it is missing, in the hub's words, e.g. `ResourceGroupNotFound`."""

    code: str


class Hub:
    """The hub of one site. Raises `AccessRefused`, `BackendUnavailable`, `SettingsError`."""

    def __init__(self, settings: HubSettings) -> None:
        self.settings = settings
        self.identity: Identity = hub_identity(settings)
        self.name = f"the resource manager {settings.arm}"
        self._client: ComputeManagementClient | None = None
        self._lock = threading.Lock()

    def machine(self, vm: str) -> Machine | Absent:
        """Return the VM as it is now."""

        def get(client: ComputeManagementClient) -> Machine | Absent:
            try:
                found = client.virtual_machines.get(
                    self.settings.resource_group,
                    vm,
                    expand="instanceView",
                    api_version=self.settings.compute_api_version,
                )
            except ResourceNotFoundError as exc:
                return Absent(code_of(exc) or "404")
            return _machine(found)

        return self._ask(get)

    def start(self, vm: str) -> None:
        """Ask the hub to start the VM; return when it has begun to. A VM that runs stays as it is."""
        self._ask(
            lambda client: client.virtual_machines.begin_start(
                self.settings.resource_group, vm, api_version=self.settings.compute_api_version, polling=False
            )
        )

    def create(self, vm: str, definition: Mapping[str, Any]) -> None:
        """Ask the hub to make the VM as *definition* (JSON values) says; return when it has begun to."""
        body = cast(Any, dict(definition))
        self._ask(
            lambda client: client.virtual_machines.begin_create_or_update(
                self.settings.resource_group,
                vm,
                body,
                api_version=self.settings.compute_api_version,
                polling=False,
            )
        )

    def sizes(self, location: str) -> Mapping[str, Size]:
        """Return the sizes that the hub offers, by name in lower case."""
        return self._ask(lambda client: _sizes(self._sizes_of(client, location)))

    def _sizes_of(self, client: ComputeManagementClient, location: str) -> Iterable[Any]:
        return client.virtual_machine_sizes.list(location, api_version=self.settings.compute_api_version)

    def _ask(self, question: Callable[[ComputeManagementClient], T]) -> T:
        """Ask; a token that the hub refuses is asked for anew once, since it may have been revoked."""
        try:
            with translated(self.name):
                return question(self._connected())
        except AccessRefused as error:
            if not (error.found or "").startswith("401"):
                raise
        self.identity.forget()
        with self._lock:
            self._client = None  # its pipeline keeps the refused token
        with translated(self.name):
            return question(self._connected())

    def _connected(self) -> ComputeManagementClient:
        scope = self.identity.endpoints.scope
        with self._lock:
            if self._client is None:
                self._client = ComputeManagementClient(
                    self.identity,
                    self.settings.subscription,
                    base_url=self.settings.arm,
                    credential_scopes=[scope],  # else the SDK asks for the public cloud's audience
                    **OPTIONS,
                )
            return self._client


def open_hub(settings: HubSettings) -> Hub:
    """Return the hub: one per process, since a connection does not outlive a fork."""
    return _hub(os.getpid(), settings)


@cache
def _hub(_process: int, settings: HubSettings) -> Hub:
    return Hub(settings)


def _machine(found: Any) -> Machine:
    view = found.instance_view
    codes = [status.code or "" for status in (view and view.statuses) or []]
    hardware = found.hardware_profile
    size = hardware and hardware.vm_size
    machine = Machine(
        power=_state(codes, "PowerState"),
        provisioning=_state([*codes, f"ProvisioningState/{found.provisioning_state or UNKNOWN}"], "ProvisioningState"),
        agent=_agent(view and view.vm_agent),
        size=str(getattr(size, "value", size) or UNKNOWN),  # a size that the SDK knows is an enum
    )
    return replace(machine, location=found.location or UNKNOWN)


def _state(codes: Iterable[str], kind: str) -> str:
    """Return the second part of the first such code: `PowerState/running`, `ProvisioningState/failed/Reason`."""
    return next((code.split("/")[1].lower() for code in codes if code.startswith(f"{kind}/")), UNKNOWN)


def _agent(agent: Any) -> str:
    told = [(status.display_status or UNKNOWN).lower() for status in (agent and agent.statuses) or []]
    return ", ".join(dict.fromkeys(told)) or UNKNOWN


def _sizes(listed: Iterable[Any]) -> dict[str, Size]:
    return {
        str(size.name).lower(): Size(size.number_of_cores or 0, (size.memory_in_mb or 0) << 20)
        for size in listed
        if size.name
    }
