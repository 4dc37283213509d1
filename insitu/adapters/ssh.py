"""Commands on the VM over SSH. The server's key is pinned by the settings: it is compared, never learned."""

from __future__ import annotations

import logging
import socket
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from insitu.adapters.secrets import read_secret
from insitu.adapters.ssh_credentials import load_key
from insitu.errors import AccessRefused, BackendUnavailable, InsituError, SettingsError
from insitu.settings import SshSettings

_OUTPUT_BYTES = 1 << 20
_LOG = "insitu.ssh"
_TRIES = 3
_PAUSE_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, and its output of at most a megabyte."""

    code: int
    output: bytes


class Session:
    """A connection to the VM; `open_session` makes one."""

    def __init__(self, client: paramiko.SSHClient, where: str) -> None:
        self._client, self._where = client, where

    def run(self, command: str, content: bytes = b"", *, timeout_s: float) -> Outcome:
        """Run *command* by the user's shell, with *content* as its standard input; errors go where output goes.

        Raises:
            BackendUnavailable: It does not end in time, or the connection breaks.
        """
        deadline = time.monotonic() + timeout_s
        try:
            transport = self._client.get_transport()
            if transport is None:
                raise EOFError
            with transport.open_session(timeout=timeout_s) as channel:
                channel.settimeout(timeout_s)
                channel.set_combine_stderr(True)
                channel.exec_command(command)
                _feed(channel, content)
                output = _read(channel, deadline)
                return Outcome(_exit_code(channel, deadline), output)
        except (paramiko.SSHException, OSError, EOFError) as exc:
            slow = isinstance(exc, TimeoutError)
            raise BackendUnavailable(
                f"the VM at {self._where} {'does not answer in time' if slow else 'broke the connection'}",
                found=f"{type(exc).__name__} after at most {timeout_s:g} s",
                next_action="see what keeps the VM busy, or raise compute.ssh.timeout_s",
            ) from None


@contextmanager
def open_session(settings: SshSettings, *, tries: int = _TRIES) -> Iterator[Session]:
    """Connect and sign in.

    Raises:
        AccessRefused: The server's key is not the pinned one, or the server refuses the user.
        BackendUnavailable: Nobody answers, also when asked some times more.
        SettingsError: The credential cannot be read.
    """
    client = _connect(settings, tries)
    try:
        yield Session(client, f"{settings.host}:{settings.port}")
    finally:
        client.close()


def fingerprint(public_key: bytes) -> str:
    """Return what `ssh-keygen -l` shows of a public key: `SHA256:…`."""
    return "SHA256:" + b64encode(sha256(public_key).digest()).decode().rstrip("=")


def _connect(settings: SshSettings, tries: int) -> paramiko.SSHClient:
    for left in range(tries - 1, -1, -1):
        try:
            return _sign_in(settings)
        except BackendUnavailable:
            if not left:
                raise
            time.sleep(_PAUSE_S)
    raise AssertionError("at least one try")


def _sign_in(settings: SshSettings) -> paramiko.SSHClient:
    kind, encoded = settings.host_key.split()
    credential: dict[str, Any] = (
        {"pkey": load_key(settings)} if settings.key else {"password": read_secret(_password_of(settings))}
    )
    logging.getLogger(_LOG).setLevel(logging.CRITICAL)  # its tracebacks tell nothing that our errors do not
    client = paramiko.SSHClient()
    client.set_log_channel(_LOG)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    name = settings.host if settings.port == 22 else f"[{settings.host}]:{settings.port}"
    client.get_host_keys().add(name, kind, _public_key(kind, encoded))
    try:
        client.connect(
            settings.host,
            settings.port,
            settings.user,
            timeout=settings.timeout_s,
            banner_timeout=settings.timeout_s,
            auth_timeout=settings.timeout_s,
            channel_timeout=settings.timeout_s,
            allow_agent=False,
            look_for_keys=False,
            **credential,
        )
    except (paramiko.SSHException, OSError, EOFError) as exc:
        client.close()
        raise _refusal(settings, exc) from None
    return client


def _refusal(settings: SshSettings, exc: Exception) -> InsituError:
    where = f"{settings.host}:{settings.port}"
    if isinstance(exc, paramiko.BadHostKeyException):
        return AccessRefused(
            f"the server at {where} has another key than the one that is pinned: it may not be the VM",
            found=f"{exc.key.get_name()} {fingerprint(exc.key.asbytes())}",
            wanted=f"{settings.host_key.split()[0]} {fingerprint(b64decode(settings.host_key.split()[1]))}",
            next_action="find out why. If the VM was made anew, read its key on the VM's console and pin that one "
            "in compute.ssh.host_key",
        )
    if isinstance(exc, paramiko.AuthenticationException):
        kind = "key" if settings.key else "password"
        return AccessRefused(
            f"the VM at {where} refuses user {settings.user}",
            found=f"the {kind} is not accepted",
            next_action=f"see to compute.ssh.user and the {kind}"
            + ("; the VM wants its public half in the user's authorized_keys" if settings.key else ""),
        )
    return BackendUnavailable(
        f"nobody answers by SSH at {where}",
        found=_reason(exc),
        next_action="see whether the VM runs, whether its sshd does, and whether the network lets port "
        f"{settings.port} through",
    )


def _reason(exc: Exception) -> str:
    if isinstance(exc, paramiko.ssh_exception.NoValidConnectionsError):
        inner = next(iter(exc.errors.values()))
        return "the connection is refused" if isinstance(inner, ConnectionRefusedError) else type(inner).__name__
    if isinstance(exc, socket.gaierror):
        return "the name is not known"
    if isinstance(exc, TimeoutError):
        return "no connection in time"
    if isinstance(exc, paramiko.ssh_exception.IncompatiblePeer):
        return "no way of encryption or kind of host key in common"
    if "banner" in str(exc) or "No existing session" in str(exc):
        return "the port is open, but no SSH server says anything"
    return type(exc).__name__


def _public_key(kind: str, encoded: str) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_type_string(kind, b64decode(encoded, validate=True))
    except (ValueError, IndexError, paramiko.SSHException, UnsupportedAlgorithm):
        raise SettingsError(
            "compute.ssh.host_key is no public key",
            wanted="kind and key as one of /etc/ssh/ssh_host_*_key.pub on the VM holds them, without the comment",
        ) from None


def _password_of(settings: SshSettings) -> Any:
    assert settings.password
    return settings.password


def _feed(channel: paramiko.Channel, content: bytes) -> None:
    try:
        channel.sendall(content)
        channel.shutdown_write()
    except OSError:
        # A command may end without reading its input: then what it said, and its exit code, tell more.
        if channel.exit_status < 0:  # none came
            raise


def _read(channel: paramiko.Channel, deadline: float) -> bytes:
    parts: list[bytes] = []
    while sum(map(len, parts)) < _OUTPUT_BYTES:
        channel.settimeout(max(0.01, deadline - time.monotonic()))
        part = channel.recv(1 << 16)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def _exit_code(channel: paramiko.Channel, deadline: float) -> int:
    if not channel.status_event.wait(max(0.01, deadline - time.monotonic())):
        raise TimeoutError
    return int(channel.exit_status)
