"""A VM for tests: a real sshd whose sessions find programs of the test's choice before this machine's own."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from insitu.settings import SshSettings
from insitu.twin.sshd import SshServer, sshd_program

WELL = {"docker": 'echo "27.5.1 /"', "nvidia-smi": 'echo "Tesla V100, 535.183.01"'}
"""Programs of a VM that is well."""


@dataclass
class Vm:
    """What a test makes of its VM.

    Attributes:
        home: Home of the user there.
        environ: Variables of its sessions.
    """

    folder: Path
    server: SshServer
    home: Path
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def ssh(self) -> SshSettings:
        """How to reach it, with its own key pinned and a key that may log in."""
        server = self.server
        return SshSettings(
            host="127.0.0.1", port=server.port, user=server.user, host_key=server.host_key, key=server.key, timeout_s=5
        )

    def program(self, name: str, script: str) -> None:
        """Let sessions find *name*, as a shell script."""
        file = self.folder / "bin" / name
        file.unlink(missing_ok=True)  # it may be a link to this machine's own
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def without(self, *names: str) -> None:
        """Let sessions find no such programs."""
        for name in names:
            (self.folder / "bin" / name).unlink(missing_ok=True)

    def well(self) -> None:
        """Undo whatever was done to it."""
        self.home, self.environ = self.folder / "home", {}
        self.without(*(file.name for file in (self.folder / "bin").iterdir()))
        for name in ("sh", "date", "df", "awk", "timeout", "cut", "tr", "sleep"):
            (self.folder / "bin" / name).symlink_to(str(shutil.which(name)))
        for name, script in WELL.items():
            self.program(name, script)
        self.program("python3", f'exec "{sys.executable}" "$@"')
        self.restart()

    def restart(self) -> None:
        """Let new variables and keys count."""
        self.server.stop()
        self.server.environ = self.variables
        self.server.start()

    @property
    def variables(self) -> dict[str, str]:
        """What a session starts with: of this machine's programs only the harmless ones, by links."""
        return {"PATH": str(self.folder / "bin"), "HOME": str(self.home), **self.environ}


@contextmanager
def running_vm(folder: Path) -> Iterator[Vm]:
    """Start a VM that is well."""
    for name in ("bin", "home"):
        (folder / name).mkdir(parents=True)
    if sshd_program() is None:
        pytest.skip("the Debian package openssh-server is not installed: tests/system-parts.sh does that")
    server = SshServer(folder / "ssh", {})
    vm = Vm(folder, server, folder / "home")
    try:
        vm.well()
        yield vm
    finally:
        server.stop()
