"""How the twin is told to fail: answers that go wrong, and conditions that last until they are cleared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from threading import Lock
from typing import Any, Literal

from insitu.errors import UsageError

When = Literal["before", "after"]

KINDS = (
    "status:CODE",
    "status:429:SECONDS",
    "drop",
    "silence",
    "garbage",
    "truncate",
    "slow:SECONDS",
    "certificate:expired",
    "certificate:foreign",
    "certificate:other-host",
)
"""What can be done to an answer, or to the connection before there is one."""

CONDITIONS = (
    "queue-stuck",
    "token-expired",
    "tokens-revoked",
    "secret-expired",
    "vm-deallocated",
    "vm-stopped",
    "vm-starting-fails",
    "vm-provisioning-failed",
    "vm-agent-dead",
    "ssh-down",
    "docker-down",
    "job-state:WORD",
)
"""What can be the matter with the estate itself."""

_KIND = re.compile(
    r"status:[1-5]\d\d(:\d+)?|drop|silence|garbage|truncate|slow(:\d+(\.\d+)?)?|certificate:(expired|foreign|other-host)"
)
_CONDITION = re.compile("|".join(word.replace("WORD", r"\w+") for word in CONDITIONS))


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong for requests that it fits.

    Attributes:
        kind: One of `KINDS`.
        host: Which hosts, as a pattern such as `*.azurecr.io`.
        path: Which paths (with query), as a regular expression that is searched for.
        method: Which methods, as a pattern; `P*` is PUT, POST and PATCH.
        when: `before` the service has seen the request, or `after` its work is done: then the answer is lost.
        times: How often it happens; 0 is always.
        skip: How many requests that fit are let through first.
    """

    kind: str
    host: str = "*"
    path: str = ""
    method: str = "*"
    when: When = "before"
    times: int = 1
    skip: int = 0

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise UsageError(f"there is no fault {self.kind}", wanted=", ".join(KINDS))
        try:
            re.compile(self.path)
        except re.error as exc:
            raise UsageError(f"{self.path} is no regular expression", found=str(exc)) from None

    def fits(self, host: str, method: str, target: str) -> bool:
        """Tell whether a request is one of those."""
        return (
            fnmatch(host, self.host.lower())
            and fnmatch(method.upper(), self.method.upper())
            and re.search(self.path, target) is not None
        )

    @property
    def is_of_connection(self) -> bool:
        """Whether it happens when a connection is made, before there is a request."""
        return self.kind.startswith("certificate:")

    @property
    def numbers(self) -> tuple[float, ...]:
        """What the kind says behind its colons: status and seconds of a pause, or seconds."""
        return tuple(float(part) for part in self.kind.split(":")[1:] if part[0].isdigit())


@dataclass
class Faults:
    """The faults and conditions that hold now; safe to use from several threads."""

    _faults: list[Fault] = field(default_factory=list)
    _conditions: dict[str, float] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def add(self, fault: Fault) -> Fault:
        """Let *fault* happen from now on, behind those that were added before."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def set(self, condition: str, now: float = 0.0) -> None:
        """Let *condition* hold, from the time *now* on (seconds since the epoch)."""
        if not _CONDITION.fullmatch(condition):
            raise UsageError(f"there is no condition {condition}", wanted=", ".join(CONDITIONS))
        with self._lock:
            self._conditions[condition] = now

    def clear(self, condition: str | None = None) -> None:
        """Undo one condition, or everything."""
        with self._lock:
            if condition is not None:
                self._conditions.pop(condition, None)
                return
            self._faults.clear()
            self._conditions.clear()

    def holds(self, condition: str) -> bool:
        """Tell whether *condition* holds."""
        return condition in self._conditions

    def since(self, condition: str) -> float | None:
        """Return since when *condition* holds, or None."""
        return self._conditions.get(condition)

    def word(self, condition: str) -> str | None:
        """Return what stands behind the colon of a condition such as `job-state:WORD`, or None."""
        with self._lock:
            words = [key.partition(":")[2] for key in self._conditions if key.startswith(condition + ":")]
        return words[-1] if words else None

    def take(self, host: str, method: str, target: str, *, of_connection: bool = False) -> Fault | None:
        """Return the first fault that fits, once less of it from now on."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.is_of_connection is of_connection and fault.fits(host, method, target):
                    if fault.skip:
                        self._faults[index] = replace(fault, skip=fault.skip - 1)
                        continue
                    if fault.times == 1:
                        del self._faults[index]
                    elif fault.times:
                        self._faults[index] = replace(fault, times=fault.times - 1)
                    return fault
        return None

    def to_json(self) -> dict[str, Any]:
        """Return what holds now, as JSON values."""
        with self._lock:
            faults: Sequence[dict[str, Any]] = [asdict(fault) for fault in self._faults]
            return {"faults": faults, "conditions": sorted(self._conditions)}
