"""What insitu signs in to the VM with, and whether it is good enough.

A key is preferred. A password must satisfy what Azure asks of a Linux VM's, and be none of those that it disallows.
"""

from __future__ import annotations

import stat
import struct
import time
from base64 import b64decode
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from insitu.adapters.secrets import read_secret
from insitu.errors import InsituError, SettingsError
from insitu.ports import Check
from insitu.settings import SshSettings

RSA_BITS, BETTER_RSA_BITS = 2048, 3072
PASSWORD_LENGTHS = (12, 72)
DISALLOWED = frozenset(
    {
        "abc@123", "P@$$w0rd", "P@ssw0rd", "P@ssword123", "Pa$$word", "pass@word1",
        "Password!", "Password1", "Password22", "iloveyou!",
    }
)  # fmt: skip
"""Azure's list, case and all."""

_DAY_S = 86_400
_MAKE_KEY = "make a new one: `ssh-keygen -t ed25519`, and put its public half into authorized_keys on the VM"
_MAGIC = b"openssh-key-v1\0"


def load_key(settings: SshSettings) -> paramiko.PKey:
    """Return the private key.

    Raises:
        SettingsError: It is not there, is none, is of a kind that is not spoken any more, or is locked.
    """
    assert settings.key
    text = _text(settings.key)
    if _is_dsa(text):
        raise _unusable(settings.key, "a DSA key", "an Ed25519, ECDSA or RSA key")
    passphrase = read_secret(settings.passphrase) if settings.passphrase else None
    secret = _open(settings.key, text, passphrase)
    kinds = {rsa.RSAPrivateKey: paramiko.RSAKey, ec.EllipticCurvePrivateKey: paramiko.ECDSAKey}
    kinds[ed25519.Ed25519PrivateKey] = paramiko.Ed25519Key
    for kind, made in kinds.items():
        if isinstance(secret, kind):
            return made.from_private_key(StringIO(_as_openssh(secret)))
    raise _unusable(settings.key, "a key of another kind", "an Ed25519, ECDSA or RSA key")


def credential_check(settings: SshSettings) -> Check:
    """Tell whether the credential is strong enough, without showing it; never raises."""
    return _key_check(settings) if settings.key else _password_check(settings)


def age_checks(settings: SshSettings) -> Sequence[Check]:
    """Tell whether the key has been in use for too long; never raises."""
    if not settings.key:
        return []
    wanted = f"at most {settings.max_key_age_days} days"
    try:
        days = (time.time() - settings.key.stat().st_mtime) / _DAY_S
    except OSError as exc:
        return [Check("ssh key age", False, str(exc.strerror), wanted, _MAKE_KEY)]
    return [Check("ssh key age", days <= settings.max_key_age_days, f"{days:,.0f} days", wanted, _MAKE_KEY)]


def password_problem(password: str) -> str | None:
    """Return which of Azure's rules for a Linux VM's password is broken; the password is not in it."""
    least, most = PASSWORD_LENGTHS
    kinds = [str.islower, str.isupper, str.isdigit, lambda c: not c.isalnum()]
    if password in DISALLOWED:
        return "one of the passwords that Azure disallows"
    if not least <= len(password) <= most:
        return f"{len(password)} characters"
    if any(ord(character) < 32 or ord(character) == 127 for character in password):
        return "a control character in it"
    if (found := sum(any(map(kind, password)) for kind in kinds)) < 3:
        return f"{found} of 4 kinds of characters"
    return None


def _key_check(settings: SshSettings) -> Check:
    assert settings.key
    name = "ssh credential"
    wanted = f"a key that only its owner reads: Ed25519, ECDSA, or RSA of at least {RSA_BITS} bits"
    try:
        mode = stat.S_IMODE(settings.key.stat().st_mode)
        if mode & 0o077:
            return Check(name, False, f"file mode {mode:04o}", wanted, f"chmod 600 {settings.key}")
        key = load_key(settings)
    except OSError as exc:
        return Check(name, False, f"{settings.key}: {exc.strerror}", wanted, "mend compute.ssh.key")
    except InsituError as error:
        return Check(name, False, error.found or error.what, wanted, error.next_action or _MAKE_KEY)
    if not isinstance(key, paramiko.RSAKey):
        return Check(name, True, key.get_name(), wanted)
    bits = key.get_bits()
    better = f"; {BETTER_RSA_BITS} are better" if RSA_BITS <= bits < BETTER_RSA_BITS else ""
    return Check(name, bits >= RSA_BITS, f"RSA of {bits} bits{better}", wanted, _MAKE_KEY)


def _password_check(settings: SshSettings) -> Check:
    assert settings.password
    least, most = PASSWORD_LENGTHS
    kinds = "lower case, upper case, digit, other"
    wanted = f"{least} to {most} characters of 3 of the 4 kinds {kinds}; none that Azure disallows"
    try:
        problem = password_problem(read_secret(settings.password))
    except InsituError as error:
        return Check("ssh credential", False, error.found or error.what, wanted, "mend compute.ssh.password")
    found = problem or "a password that satisfies the rules; a key is better"
    return Check("ssh credential", problem is None, found, wanted, "set another password on the VM, or use a key")


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except UnicodeDecodeError:
        raise _unusable(path, "no key", "a private key in OpenSSH's or PEM form") from None
    except OSError as exc:
        raise _unusable(path, str(exc.strerror), "a file to read") from None


def _open(path: Path, text: str, passphrase: str | None) -> object:
    load = serialization.load_ssh_private_key if "OPENSSH" in text else serialization.load_pem_private_key
    locked = _is_locked(text)
    if locked and passphrase is None:
        raise _unusable(path, "a locked key and no passphrase", "compute.ssh.passphrase beside it")
    try:
        return load(text.encode(), passphrase.encode() if passphrase and locked else None)
    except UnsupportedAlgorithm:
        raise _unusable(path, "a key of another kind", "an Ed25519, ECDSA or RSA key") from None
    except (ValueError, TypeError):
        found = "a passphrase that does not unlock it" if locked else "no key, or a damaged one"
        raise _unusable(path, found, "a private key in OpenSSH's or PEM form") from None


def _as_openssh(secret: object) -> str:
    assert isinstance(secret, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
    form, kind = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH
    return secret.private_bytes(form, kind, serialization.NoEncryption()).decode()


def _is_locked(text: str) -> bool:
    if "BEGIN OPENSSH" not in text:
        return "ENCRYPTED" in text
    fields = _openssh_fields(text)
    return bool(fields) and fields[0] != b"none"


def _is_dsa(text: str) -> bool:
    """Tell a DSA key, also a locked one: an OpenSSH key's public half is open. The libraries read DSA no more."""
    fields = _openssh_fields(text) if "BEGIN OPENSSH" in text else []
    return "BEGIN DSA" in text or (len(fields) > 3 and b"ssh-dss" in fields[3][:16]) or _is_dsa_pem(text)


def _is_dsa_pem(text: str) -> bool:
    if "BEGIN PRIVATE KEY" not in text:
        return False
    try:
        return isinstance(serialization.load_pem_private_key(text.encode(), None), dsa.DSAPrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def _openssh_fields(text: str) -> list[bytes]:
    """Return cipher, key derivation, its options, and the public key of an OpenSSH private key; nothing of another."""
    lines = [line for line in text.splitlines() if line and not line.startswith("-----")]
    try:
        data = b64decode("".join(lines))
        if not data.startswith(_MAGIC):
            return []
        fields, at = [], len(_MAGIC)
        for number in range(4):
            at += 4 if number == 3 else 0  # the count of keys
            (length,) = struct.unpack_from(">I", data, at)
            fields.append(data[at + 4 : at + 4 + length])
            at += 4 + length
    except (ValueError, struct.error):
        return []
    return fields


def _unusable(path: Path, found: str, wanted: str) -> SettingsError:
    return SettingsError(
        f"the SSH key {path} cannot be used",
        found=found,
        wanted=wanted,
        next_action=f"mend compute.ssh, or {_MAKE_KEY}",
    )
