"""The training VM of the hub: its power, its login, and the programs that a login finds there.

It is this machine behind a real sshd: `df`, `date` and Python are this machine's own. Only `docker` is played, because
this machine need not have a daemon: jobs of the twin run as processes.
"""

from __future__ import annotations

import os
import sys
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

import yaml

from insitu.twin.faults import Faults
from insitu.twin.shelf import Shelf
from insitu.twin.sshd import SshServer, sshd_program

_DOCKER = """\
#!/bin/sh
# The twin's VM has a Docker daemon as far as anybody asks; `insitu twin fault set docker-down` takes it away.
if [ -e "{flags}/docker-down" ]; then
  echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?" >&2
  exit 1
fi
case "$1" in
  info) echo "27.5.1 /" ;;
  version) echo "27.5.1" ;;
  ps) ;;
  *) echo "the twin's VM answers docker info, version and ps only" >&2; exit 125 ;;
esac
"""
_OFF = ("vm-deallocated", "vm-stopped")


class Ground(Protocol):
    """What a VM stands on: the part of an estate that it needs."""

    @property
    def folder(self) -> Path: ...

    @property
    def faults(self) -> Faults: ...

    @property
    def environment(self) -> Mapping[str, str]: ...

    def shelf(self, name: str) -> Shelf: ...

    def now(self) -> float: ...

    def at_end(self, end: Callable[[], object]) -> None: ...


class Machine:
    """The VM of an estate. Its power is what its hub last did to it, unless a condition says otherwise."""

    def __init__(self, estate: Ground) -> None:
        self._estate, self._lock = estate, RLock()
        self.folder = estate.folder / "vm"
        for name in ("bin", "home", "flags", "etc"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.ssh = SshServer(self.folder / "ssh", self.environ)
        estate.at_end(self.ssh.stop)
        self._put_programs()

    @property
    def environ(self) -> dict[str, str]:
        """The variables of a login: the way into the estate, as the network of the hub is a way into it."""
        path = [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        return {**self._estate.environment, "PATH": os.pathsep.join(path), "HOME": str(self.folder / "home")}

    @property
    def power(self) -> str:
        """`running`, `deallocated` or `stopped`."""
        faults = self._estate.faults
        off = next((word for word in _OFF if faults.holds(word)), None)
        return off.removeprefix("vm-") if off else str(self._estate.shelf("vm").get("power") or "deallocated")

    @property
    def is_changing(self) -> bool:
        """Whether the power was switched a moment ago."""
        return self._estate.now() < (self._estate.shelf("vm").get("settled") or 0.0)

    def provision(self) -> None:
        """Let there be the VM; its login is opened by `follow`."""
        self._estate.shelf("vm").put("power", "running")

    def install(self, profile: Mapping[str, Any]) -> None:
        """Take over the login that a new VM's `osProfile` describes: its keys, and the host key of its cloud-config."""
        linux = profile.get("linuxConfiguration") or {}
        keys = [key["keyData"] for key in (linux.get("ssh") or {}).get("publicKeys") or ()]
        self.ssh.stop()
        self.ssh.allow(keys)
        config = yaml.safe_load(b64decode(profile.get("customData") or "")) or {}
        if host_key := (config.get("ssh_keys") or {}).get("ed25519_private"):
            self.ssh.use_host_key(host_key)

    def switch(self, power: str, takes_s: float = 0.0) -> None:
        """Set the power to `running`, `deallocated` or `stopped`, which takes so long as the hub tells it."""
        for condition in _OFF:
            self._estate.faults.clear(condition)
        self._estate.shelf("vm").put("power", power)
        self._estate.shelf("vm").put("settled", self._estate.now() + takes_s)
        self.follow()

    def follow(self) -> None:
        """Bring login and programs in line with power and conditions."""
        faults = self._estate.faults
        with self._lock:
            flag = self.folder / "flags" / "docker-down"
            flag.touch() if faults.holds("docker-down") else flag.unlink(missing_ok=True)
            if self.power != "running" or faults.holds("ssh-down"):
                self.ssh.stop()
            elif sshd_program():
                self.ssh.environ = self.environ
                self.ssh.start()

    def _put_programs(self) -> None:
        docker = self.folder / "bin" / "docker"
        docker.write_text(_DOCKER.format(flags=self.folder / "flags"))
        docker.chmod(0o755)
