"""A VM of Azure Stack Hub as the training compute: asked of the hub, and asked from within over SSH."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event

from insitu.adapters.azure.hub import UNKNOWN, Absent, Hub, Machine, open_hub
from insitu.adapters.ssh import open_session
from insitu.adapters.ssh_credentials import age_checks, credential_check
from insitu.adapters.vm import vm_checks
from insitu.errors import BackendUnavailable, InsituError
from insitu.ports import Check, Need
from insitu.readiness import failed_check, side_by_side
from insitu.settings import HubSettings, SiteSettings, VmCompute

_STARTS, _LAG_S = 2, 60.0
_HUB_S, _LIMIT_S = 5.0, 50.0
"""How long the VM waits to be asked until the hub has told of it, and how long both may take."""
_STOPPED, _GOING_DOWN = ("stopped", "deallocated"), ("stopping", "deallocating")


@dataclass(frozen=True)
class StackHubCompute:
    """`Compute` of one VM.

    Attributes:
        pause_s: Between two looks at a VM that starts.
    """

    site: SiteSettings
    pause_s: float = 5.0

    @property
    def hub(self) -> HubSettings:
        """The hub of the site; a site with such a VM has one."""
        assert self.site.hub
        return self.site.hub

    @property
    def settings(self) -> VmCompute:
        """The VM of the site."""
        assert isinstance(self.site.compute, VmCompute)
        return self.site.compute

    def wake(self) -> None:
        """Start the VM if it is stopped and the site allows that; return when SSH answers, or its time is up.

        Raises:
            BackendUnavailable: The hub gives no answer.
            AccessRefused: The hub does not let this principal see or start the VM.
        """
        if not self.settings.start:
            return
        hub, deadline = open_hub(self.hub), time.monotonic() + self.settings.start_timeout_s
        if self._run(hub, deadline):
            self._await_ssh(deadline)

    def readiness(self, need: Need) -> Sequence[Check]:
        """Look at identity, hub, VM, credential, and the VM from within; never raises, and changes nothing."""
        told = _Told()

        def from_outside() -> list[Check]:
            try:
                return self._asked_of_hub(open_hub(self.hub), need, told)
            finally:
                told.all.set()

        def from_within() -> list[Check]:
            told.all.wait(_HUB_S)
            return [credential_check(self.settings.ssh), *self._asked_of_vm(need, told)]

        return side_by_side({"hub": from_outside, "ssh": from_within}, _LIMIT_S)

    def checks(self) -> Sequence[Check]:
        """Tell what works today and should be seen to: keys and certificates that grow old. Never raises."""
        return [*age_checks(self.settings.ssh), *open_hub(self.hub).identity.age_checks("hub certificate")]

    def _run(self, hub: Hub, deadline: float) -> bool:
        """Bring the VM to run; tell whether this started it. The hub may take a while to say that it starts."""
        started, since = 0, -math.inf
        while isinstance(machine := hub.machine(self.settings.vm), Machine):
            now = time.monotonic()
            if machine.power in _STOPPED and now - since > _LAG_S:
                if started == _STARTS:
                    break
                hub.start(self.settings.vm)
                started, since = started + 1, now
            if machine.power not in ("starting", *_GOING_DOWN, *_STOPPED) or now > deadline:
                break
            time.sleep(self.pause_s)
        return started > 0

    def _await_ssh(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            try:
                with open_session(self.settings.ssh, tries=1):
                    return
            except BackendUnavailable:
                time.sleep(self.pause_s)
            except InsituError:
                return  # it runs; why it refuses us, readiness tells

    def _asked_of_hub(self, hub: Hub, need: Need, told: _Told) -> list[Check]:
        checks = [hub.identity.check("hub identity")]
        if not checks[0].ok:
            return checks
        try:
            machine = hub.machine(self.settings.vm)
        except InsituError as error:
            return [*checks, failed_check("hub", error, f"{hub.name} tells the state of VM {self.settings.vm}")]
        checks.append(Check("hub", True, "answers", hub.name))
        if isinstance(machine, Absent):
            return [*checks, self._absent(machine)]
        told.power = machine.power
        checks.append(self._power(machine))
        if machine.power in ("running", UNKNOWN):  # without power there is no agent to ask
            checks.append(_agent(machine))
        return [*checks, self._cores(hub, machine, need, told)]

    def _asked_of_vm(self, need: Need, told: _Told) -> list[Check]:
        if told.power in ("running", UNKNOWN):
            return vm_checks(self.site, self.settings, need, told.memory_bytes)
        return [Check("ssh", False, f"not tried: the VM is {told.power}", "a VM that runs", "see to the VM first")]

    def _absent(self, machine: Absent) -> Check:
        where = f"VM {self.settings.vm} in resource group {self.hub.resource_group}"
        next_action = "mend compute.vm, hub.resource_group or hub.subscription, or make it: `insitu provision`"
        return Check("vm", False, machine.code, where, next_action)

    def _power(self, machine: Machine) -> Check:
        found, wanted = f"{machine.power}, provisioning {machine.provisioning}", "running, provisioning succeeded"
        ok = machine.power == "running" and machine.provisioning not in ("failed", "canceled", "deleting", UNKNOWN)
        next_action = "see the VM's page in the hub's portal, and redeploy or start it"
        if machine.power in _STOPPED:
            runs_start_it = "a run starts it; start it now to have it looked at from within"
            next_action = runs_start_it if self.settings.start else "start it, or set compute.start = true"
        return Check("vm", ok, found, wanted, next_action)

    def _cores(self, hub: Hub, machine: Machine, need: Need, told: _Told) -> Check:
        wanted = str(need.cores)
        try:
            location = self.hub.region if machine.location == UNKNOWN else machine.location
            size = hub.sizes(location).get(machine.size.lower())
        except InsituError as error:
            return failed_check("cores", error, wanted)
        if size is None:
            next_action = "resize the VM to one that it offers"
            return Check("cores", False, f"the hub does not offer {machine.size} (any more)", wanted, next_action)
        told.memory_bytes = size.memory_bytes
        next_action = "resize the VM, or lower needs.cores in model.toml"
        return Check("cores", size.cores >= need.cores, f"{size.cores} ({machine.size})", wanted, next_action)


@dataclass
class _Told:
    """What the hub has told of the VM so far."""

    power: str = UNKNOWN
    memory_bytes: int | None = None
    all: Event = field(default_factory=Event)


def _agent(machine: Machine) -> Check:
    next_action = "on the VM: sudo systemctl restart walinuxagent"
    return Check("vm agent", machine.agent == "ready", machine.agent, "ready", next_action)
