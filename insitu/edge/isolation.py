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

_DAEMONS = ("/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock")
_LOOPBACK = "lo"
_PROXIED = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
_DIRECT, _HERE = ("NO_PROXY", "no_proxy"), ("localhost", "127.0.0.1", "::1")
_PATIENCE_S, _LOOK_S = 60.0, 0.1
# From linux/sockios.h and linux/if.h: set the flags of an interface, of which the first is "up".
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


_doors: list[socket.socket] = []
"""The connection by which the proxy is asked at the end: code of the model could put a socket of its own there."""


def network() -> Literal["none", "shared"]:
    """Return `none` where no route leads out, nor a socket of a daemon that starts containers; else `shared`."""
    if any(os.access(socket, os.W_OK) for socket in _DAEMONS):
        return "shared"
    devices = set()
    for table, word in _ROUTES:
        try:
            lines = Path(table).read_text().splitlines()
        except OSError:
            return "shared"
        devices |= {line.split()[word] for line in lines if line.split()}
    return "shared" if devices - {_LOOPBACK, "Iface"} else "none"


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
        told = _said(_door(), EAR, ear)
    _doors.append(_door())
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
