"""What a run will take, from what earlier ones took: seconds per step, memory, disk, and a VM that would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from insitu.ports import Need
from insitu.readiness import HEADROOM, LATEST, recent

GROWING = ("validate", "train")
"""Steps that take longer with more data; of the others the longest that was seen is told."""


@dataclass(frozen=True)
class VmSize:
    """A size of virtual machine that an Azure Stack Hub offers; which of them this hub has, `insitu doctor` asks it."""

    name: str
    cores: int
    memory_gb: float


VM_SIZES = (
    VmSize("Standard_F2s_v2", 2, 4),
    VmSize("Standard_DS2_v2", 2, 7),
    VmSize("Standard_F4s_v2", 4, 8),
    VmSize("Standard_DS3_v2", 4, 14),
    VmSize("Standard_F8s_v2", 8, 16),
    VmSize("Standard_DS4_v2", 8, 28),
    VmSize("Standard_F16s_v2", 16, 32),
    VmSize("Standard_DS5_v2", 16, 56),
    VmSize("Standard_F32s_v2", 32, 64),
    VmSize("Standard_DS14_v2", 16, 112),
    VmSize("Standard_F64s_v2", 64, 128),
)
"""The general sizes that Microsoft lists for Azure Stack Hub, those with the least memory first."""

_SYSTEM_BYTES = 1_000_000_000
"""What the VM's own system takes."""


def vm_for(need: Need) -> VmSize | None:
    """Return the smallest VM that has what the job needs; None where no size has."""
    fitting = (
        size
        for size in VM_SIZES
        if size.cores >= need.cores and size.memory_gb * 2**30 >= need.memory_bytes + _SYSTEM_BYTES
    )
    return next(fitting, None)


def foretold(need: Need, earlier: Sequence[Mapping[str, Any]], rows: int | None, size_bytes: int) -> dict[str, Any]:
    """Return the forecast as JSON values.

    Args:
        need: What the job needs (`insitu.readiness.forecast`).
        earlier: Run records, oldest first; the latest few count.
        rows: Of the batch; None where only reading tells: then bytes are compared.
        size_bytes: Of the batch.
    """
    runs = recent(earlier)
    steps = dict.fromkeys(step for record in runs for step in record["seconds"])
    seconds = {step: _seconds(step, runs, rows, size_bytes) for step in steps}
    size = vm_for(need)
    return {
        "earlier_runs": len(runs),
        "of_at_most": LATEST,
        "margin": HEADROOM,
        "scaled_by": "rows" if rows is not None else "bytes",
        "seconds": seconds,
        "total_seconds": round(sum(seconds.values()), 1) if seconds else None,
        "cores": need.cores,
        "memory_bytes": need.memory_bytes,
        "disk_bytes": need.disk_bytes,
        "vm_size": asdict(size) if size else None,
    }


def _seconds(step: str, runs: Sequence[Mapping[str, Any]], rows: int | None, size_bytes: int) -> float:
    """Return the most that *step* took, raised by the margin, and by the growth of the data where it grows."""
    taken: list[float] = [
        record["seconds"][step] * (_growth(record, rows, size_bytes) if step in GROWING else 1.0)
        for record in runs
        if step in record["seconds"]
    ]
    return round(max(taken) * HEADROOM, 1)


def _growth(record: Mapping[str, Any], rows: int | None, size_bytes: int) -> float:
    """Return how many times as much data there is now, at least 1."""
    then = (record["validation"] or {}).get("rows") if rows is not None else record["batch"]["bytes"]
    now = rows if rows is not None else size_bytes
    return max(1.0, now / then) if then else 1.0
