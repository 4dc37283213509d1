"""What an edge job sees of the network: told by the job itself, from inside."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Literal

_ROUTES = (("/proc/net/route", 0), ("/proc/net/ipv6_route", -1))
"""The kernel's tables of routes, and which word of a line names the device; see proc_net(5)."""

_DAEMONS = ("/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock")
_LOOPBACK = "lo"
# From linux/sockios.h and linux/if.h: set the flags of an interface, of which the first is "up".
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1


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
