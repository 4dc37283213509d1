"""What an edge job sees of the network: told by the job itself, from inside."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from insitu.edge.proxy import EAR, QUESTION
from insitu.enclosure import PROXY
from insitu.errors import TrainingFailed

_ROUTES = (("/proc/net/route", 0), ("/proc/net/ipv6_route", -1))
"""The kernel's tables of routes, and which word of a line names the device; see proc_net(5)."""

_DAEMONS = (
    "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/crio/crio.sock",
    "/var/lib/lxd/unix.socket", "/var/snap/lxd/common/lxd/unix.socket", "/var/lib/incus/unix.socket",
    "/run/systemd/private",
)  # fmt: skip
_DAEMONS_OF_USERS = ("docker.sock", "podman/podman.sock", "bus", "systemd/private")
"""In the folder of a user's own daemons: of containers, and the manager that starts services for a user."""

_SYS_ADMIN = 21  # of linux/capability.h
_LOOPBACK = "lo"
_PROXIED = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
_DIRECT, _HERE = ("NO_PROXY", "no_proxy"), ("localhost", "127.0.0.1", "::1")
_PATIENCE_S, _LOOK_S = 60.0, 0.1
# From linux/sockios.h and linux/if.h: set the flags of an interface, of which the first is "up".
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


_doors: list[socket.socket] = []
"""The connection by which the proxy is asked at the end: code of the model could put a socket of its own there."""


def network() -> Literal["none", "shared"]:
    """Return `none` where no route leads out, and nothing is found that would lend another network; else `shared`.

    What is looked for: known sockets of daemons that start containers or services, and the right to enter namespaces.
    """
    lends = _may_enter_others() or any(os.access(daemon, os.W_OK) for daemon in _daemons())
    return "shared" if has_route() or lends else "none"


def has_route() -> bool:
    """Tell whether a route leads further than this job's own loopback."""
    devices = set()
    for table, word in _ROUTES:
        try:
            lines = Path(table).read_text().splitlines()
        except OSError:
            return True
        devices |= {line.split()[word] for line in lines if line.split()}
    return bool(devices - {_LOOPBACK, "Iface"})


def _daemons() -> list[Path]:
    """Return where the sockets of daemons may be: as a user of namespaces one's number is another outside."""
    own, docker = os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("DOCKER_HOST", "")
    folders = [*Path("/run/user").glob("*"), *([Path(own)] if own else [])]
    named = [Path(docker.removeprefix("unix://"))] if docker.startswith("unix://") else []
    return [*map(Path, _DAEMONS), *named, *(folder / name for folder in folders for name in _DAEMONS_OF_USERS)]


def _may_enter_others() -> bool:
    """Tell whether we may enter another process's network: one's rights in a namespace of one user end with it."""
    try:
        status, users = Path("/proc/self/status").read_text(), Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return True
    held = int(next(line for line in status.splitlines() if line.startswith("CapPrm:")).split()[1], 16)
    return bool(held >> _SYS_ADMIN & 1) and users[2:] != ["1"]


def raise_loopback() -> None:
    """Let processes of a job without a network find each other: a new network begins with its loopback down."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", _LOOPBACK.encode(), _IFF_UP))


def use_proxy() -> None:
    """Let all of this job use the proxy that it was given, if any, by the standard variables.

    This job's own loopback is reached directly, unless a listed store is there (an emulator).

    Raises:
        TrainingFailed: The proxy does not answer.
    """
    if PROXY not in os.environ:
        return
    with socket.create_server(("127.0.0.1", 0)) as ear:
        port = ear.getsockname()[1]
        door = _door()
        _doors.append(_door())  # before the ear, for then the proxy may close
        told = _said(door, EAR, ear)
    os.environ |= dict.fromkeys(_PROXIED, f"http://127.0.0.1:{port}")
    is_here = any(name.rpartition(":")[0] in _HERE for name in told["listed"])
    os.environ |= dict.fromkeys(_DIRECT, "" if is_here else ",".join(_HERE))


def reach() -> dict[str, Any]:
    """Return `network`: `none`, `proxy` or `shared`; and `destinations`, how often who was asked for, of a proxy."""
    seen = network()
    if seen == "shared" or not _doors:
        return {"network": seen, "destinations": None}
    told = _said(_doors.pop(), QUESTION)
    return {"network": "proxy", "destinations": {name: told[name] for name in ("allowed", "refused")}}


def _said(door: socket.socket, what: bytes, *ears: socket.socket) -> dict[str, Any]:
    """Return what the proxy answers at *door*, which is closed then."""
    with door:
        try:
            socket.send_fds(door, [what], [ear.fileno() for ear in ears])
            told: dict[str, Any] = json.loads(b"".join(iter(lambda: door.recv(1 << 16), b"")))
        except (OSError, ValueError):
            raise _silent("it broke off") from None
    return told


def _door() -> socket.socket:
    """Return a connection to the proxy; one that is just being started is waited for."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        door = socket.socket(socket.AF_UNIX)
        try:
            door.connect(os.environ[PROXY])
        except OSError as exc:
            door.close()
            if time.monotonic() > deadline:
                raise _silent(type(exc).__name__) from None
        else:
            return door
        time.sleep(_LOOK_S)


def _silent(found: str) -> TrainingFailed:
    return TrainingFailed(
        "the proxy that leads from the edge job to its data does not answer",
        found=found,
        next_action="see whether it was ended, or its container cannot start; then start the run again",
    )
