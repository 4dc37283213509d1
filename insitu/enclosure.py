"""How an edge job is started so that it reaches nothing but its own loopback, or the stores of its data besides.

What has no network is led out by a socket in the file system alone: at its other end, where there is a network, the
allow-list proxy listens (`insitu.edge.proxy`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PROXY = "INSITU_PROXY"
"""The variable with the path of the proxy's socket, for a job that has one."""

# By its path: what is started so may have an environment of its own, without a PATH to look in.
_SETPRIV = shutil.which("setpriv") or "setpriv"
_LOST = "-sys_admin,-sys_ptrace"
_ATTEMPTS = (
    ("--net", "--", _SETPRIV, f"--bounding-set={_LOST}", f"--inh-caps={_LOST}", "--"),
    ("--net", "--"),
    ("--user", "--map-root-user", "--net", "--"),
)
"""As root without a namespace of users, in which root may not read what belongs to others; but without the right to
enter the network of another process."""

_PORTS = {"http": 80, "https": 443}


@cache
def without_network() -> tuple[str, ...]:
    """Return what a command is started with so that it has no network; nothing where the kernel does not allow that."""
    program = shutil.which("unshare")
    for options in _ATTEMPTS if program else ():
        assert program
        if not subprocess.run([program, *options, "true"], capture_output=True, check=False).returncode:
            return (program, *options)
    return ()


def endpoint(url: str) -> str:
    """Return `host:port` of an address, as the proxy knows it; raise `ValueError`."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("an address without a host")
    return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"


def destinations(stores: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the endpoints of the stores that are no folders; each is as `insitu.stores.open_blobs` takes it."""
    return tuple(sorted({endpoint(one["store"]["account_url"]) for one in stores if one["kind"] != "folder"}))


def job_command(folder: Path, spec: Mapping[str, Any], *, isolated: bool) -> list[str]:
    """Return how the edge job in *folder* is started as a child of this process.

    Args:
        spec: Of the job; what its parts lie in is what it reaches.
        isolated: Whether it shall reach nothing else, as far as the kernel allows that.
    """
    parent, job = str(os.getpid()), [sys.executable, "-m", "insitu.edge.job", str(folder)]
    alone = without_network() if isolated else ()
    listed = destinations(spec[part]["store"] for part in ("train", "holdout")) if alone else ()
    if not listed:
        return [*alone, *job, parent]
    return [sys.executable, "-m", "insitu.edge.proxy", "around", parent, ",".join(listed), *alone, *job]
