"""What `insitu doctor` looks at around a site: versions of packages, ports of services, clocks, addresses."""

from __future__ import annotations

import platform
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from insitu import __version__
from insitu.errors import InsituError
from insitu.ports import BlobStore, Check
from insitu.readiness import failed_check
from insitu.settings import NotifySettings, ServicesSettings
from insitu.wiring import notice_addresses

MOST_SKEW_S = 60.0
"""How far clocks may be apart: signatures and tokens count minutes, and the order of runs seconds."""

_NOT_THERE = "is not installed"
_TOLD = ("prefect", "great-expectations", "mlflow")


def versions_check(wanted: Sequence[str] | None = None) -> Check:
    """Compare the packages of this environment with what insitu, or *wanted*, asks for."""
    asked = [Requirement(text) for text in (requires("insitu") or () if wanted is None else wanted)]
    here = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [f"{one.name} {_version(one.name)} (wanted {one.specifier})" for one in here if not _fits(one)]
    told = ", ".join(f"{name} {_version(name)}" for name in _TOLD)
    found = "; ".join(wrong) or f"insitu {__version__}, Python {platform.python_version()}, {told}"
    next_action = "install what the lock file says: .venv/bin/uv pip sync --require-hashes requirements.lock"
    return Check("versions", not wrong, found, f"the {len(here)} packages that insitu asks for", next_action)


def ports_check(services: ServicesSettings) -> Check:
    """Tell which ports of `insitu up` are free; one that is taken is no failure, since it takes another then."""
    ports = {"Prefect": services.port, "MLflow": services.mlflow_port}
    told = [f"{name} {port} {'in use' if _listens(port) else 'free'}" for name, port in ports.items()]
    return Check("ports", True, ", ".join(told), "ports of [services]; insitu up takes another where one is taken")


def clock_check(state: BlobStore, name: str) -> Check:
    """Compare this machine's clock with that of the store, which has just written the blob *name*."""
    apart_s = (state.stat(name).last_modified - datetime.now(UTC)).total_seconds()
    found = f"this machine and the state's store are {abs(apart_s):.0f} s apart"
    next_action = "let both follow a time server (timedatectl set-ntp true)"
    return Check("clock", abs(apart_s) <= MOST_SKEW_S, found, f"at most {MOST_SKEW_S:.0f} s", next_action)


def notify_check(notify: NotifySettings) -> list[Check]:
    """Tell whether the addresses of [notify] are where it says; nobody is told anything."""
    wanted = "an address where [notify] says"
    try:
        addresses = notice_addresses(notify)
    except InsituError as error:
        return [failed_check("notify", error, wanted)]
    if not addresses:
        return []
    return [Check("notify", True, f"{', '.join(addresses)} are told: {', '.join(notify.tell)}", wanted)]


def _fits(wanted: Requirement) -> bool:
    there = _version(wanted.name)
    return there != _NOT_THERE and wanted.specifier.contains(there, prereleases=True)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return _NOT_THERE


def _listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(0.5)
        return one.connect_ex(("127.0.0.1", port)) == 0
