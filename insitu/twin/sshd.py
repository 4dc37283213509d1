"""A real OpenSSH server on a loopback port, with a host key of its own: how one logs in to the twin's VM."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from insitu.errors import BackendUnavailable, UsageError
from insitu.twin.programs import Program, free_port, start
from insitu.twin.tls import write_private

_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey "{folder}/host_key"
PidFile none
AuthorizedKeysFile "{folder}/authorized_keys"
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowUsers {user}
PrintMotd no
LogLevel VERBOSE
SetEnv {environ}
"""


@dataclass
class SshServer:
    """An SSH server that can be stopped and started again; keys and port stay.

    Attributes:
        folder: Where its keys, its settings and its log lie.
        environ: Variables of every session.
        user: Who may log in: this user, with the key in `key`.
    """

    folder: Path
    environ: Mapping[str, str]
    port: int = field(default_factory=free_port)
    user: str = field(default_factory=getpass.getuser)
    _program: Program | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _make_key(self.folder / "host_key")
        _make_key(self.key)
        self.allow([self.key.with_suffix(".pub").read_text()])

    @property
    def key(self) -> Path:
        """File of the private key that may log in; its public half lies beside it."""
        return self.folder / "id_ed25519"

    @property
    def host_key(self) -> str:
        """The server's public key: type and key."""
        return (self.folder / "host_key.pub").read_text().strip()

    def allow(self, public_keys: Sequence[str]) -> None:
        """Let these keys log in, and no others."""
        (self.folder / "authorized_keys").write_text("".join(f"{key.strip()}\n" for key in public_keys))

    def use_host_key(self, private: str) -> None:
        """Be known by another host key from the next start on: text of an OpenSSH private key."""
        write_private(self.folder / "host_key", f"{private.strip()}\n".encode())
        key = serialization.load_ssh_private_key(private.encode(), None)
        (self.folder / "host_key.pub").write_bytes(_public(key.public_key()) + b"\n")

    @property
    def runs(self) -> bool:
        """Whether it can be reached now."""
        return self._program is not None

    def start(self) -> None:
        """Start it, if it does not run; raise `UsageError`, `BackendUnavailable`."""
        if self._program is not None:
            return
        config, log = self.folder / "sshd_config", self.folder / "sshd.log"
        environ = " ".join(f'"{name}={value}"' for name, value in self.environ.items())
        config.write_text(_CONFIG.format(port=self.port, folder=self.folder, user=self.user, environ=environ))
        if os.geteuid() == 0:  # what the package's service would make
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        server = require_sshd()
        _require_valid(server, config)
        program = start("sshd", [server, "-D", "-e", "-f", str(config)], log)
        program.wait_for(self.port)
        self._program = program

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self._program is not None:
            self._program.stop()
            self._program = None


def sshd_program() -> str | None:
    """Return the program, or None where it is not installed."""
    return shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))


def require_sshd() -> str:
    """Return the program; raise `UsageError` where it is not installed."""
    program = sshd_program()
    if program is None:
        raise UsageError(
            "sshd, which plays the login of the VM, is not installed",
            next_action="install the package openssh-server; its service need not run",
        )
    return program


def _require_valid(server: str, config: Path) -> None:
    tried = subprocess.run([server, "-t", "-f", str(config)], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise BackendUnavailable("sshd does not take its settings", found=tried.stderr.strip()[-300:])


def _make_key(file: Path) -> None:
    if file.exists():
        return
    key, ssh = ed25519.Ed25519PrivateKey.generate(), serialization.PrivateFormat.OpenSSH
    write_private(file, key.private_bytes(serialization.Encoding.PEM, ssh, serialization.NoEncryption()))
    file.with_suffix(".pub").write_bytes(_public(key.public_key()) + b"\n")


def _public(key: Any) -> bytes:
    public: bytes = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public
