"""What a hub says of a VM, read from bodies as hubs of several ages send them: what is left out is not known."""

from __future__ import annotations

from typing import Any

import pytest
from azure.mgmt.compute.models import VirtualMachine

from insitu.adapters.azure.hub import Machine, _machine, _sizes

STATUSES = [{"code": "ProvisioningState/succeeded"}, {"code": "PowerState/running"}]
AGENT = {"statuses": [{"displayStatus": "Ready"}]}


def vm(**properties: Any) -> VirtualMachine:
    return VirtualMachine({"location": "north", "properties": properties})


def view(**parts: Any) -> dict[str, Any]:
    return {"instanceView": parts}


WELL = {"hardwareProfile": {"vmSize": "Standard_DS2_v2"}, **view(statuses=STATUSES, vmAgent=AGENT)}


def test_a_whole_answer_is_read() -> None:
    assert _machine(vm(**WELL)) == Machine("running", "succeeded", "ready", "Standard_DS2_v2", "north")


@pytest.mark.parametrize("size", ["Standard_DS2_v2", "Standard_NC6s_v3", "Standard_OfTomorrow"])
def test_a_size_is_its_word_whether_the_sdk_knows_it_or_not(size: str) -> None:
    assert _machine(vm(hardwareProfile={"vmSize": size})).size == size


def test_nothing_told_is_nothing_known() -> None:
    assert _machine(VirtualMachine({})) == Machine()


@pytest.mark.parametrize(
    ("statuses", "power", "provisioning"),
    [
        ([], "not told", "updating"),
        ([{"code": None}], "not told", "updating"),
        ([{"code": "PowerState/deallocated"}], "deallocated", "updating"),
        ([{"code": "ProvisioningState/failed/AllocationFailed"}], "not told", "failed"),
        (STATUSES, "running", "succeeded"),
    ],
)
def test_the_view_counts_and_the_resource_fills_in(statuses: list[Any], power: str, provisioning: str) -> None:
    machine = _machine(vm(provisioningState="Updating", **view(statuses=statuses)))
    assert (machine.power, machine.provisioning) == (power, provisioning)


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        (None, "not told"),
        ({}, "not told"),
        ({"statuses": []}, "not told"),
        ({"statuses": [{"displayStatus": "Not Ready"}]}, "not ready"),
        ({"statuses": [{}]}, "not told"),
        ({"statuses": [{"displayStatus": "Ready"}, {"displayStatus": "Ready"}]}, "ready"),
        ({"statuses": [{"displayStatus": "Ready"}, {"displayStatus": "Not Ready"}]}, "ready, not ready"),
    ],
)
def test_an_agent_that_is_not_said_to_be_ready_is_not(agent: Any, told: str) -> None:
    assert _machine(vm(**view(statuses=STATUSES, vmAgent=agent))).agent == told


def test_sizes_are_found_whatever_their_case_and_gaps_count_as_nothing() -> None:
    from azure.mgmt.compute.models import VirtualMachineSize

    listed = [
        VirtualMachineSize({"name": "Standard_DS2_v2", "numberOfCores": 2, "memoryInMB": 7168}),
        VirtualMachineSize({"name": "Standard_Gap"}),
        VirtualMachineSize({}),
    ]
    sizes = _sizes(listed)
    assert set(sizes) == {"standard_ds2_v2", "standard_gap"}
    assert (sizes["standard_ds2_v2"].cores, sizes["standard_ds2_v2"].memory_bytes) == (2, 7168 << 20)
    assert (sizes["standard_gap"].cores, sizes["standard_gap"].memory_bytes) == (0, 0)
