"""What insitu signs in to the VM with: good keys and passwords pass, weak ones are told, and none is shown."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from insitu.adapters.ssh_credentials import DISALLOWED, age_checks, credential_check, load_key, password_problem
from insitu.errors import SettingsError
from insitu.ports import Check
from insitu.settings import SecretSource, SshSettings

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1hZGUgdXAgZm9yIHRlc3RzIG9ubHksIG5vdCBhIGtl"
PASSPHRASE = "planted-passphrase-7"


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASSPHRASE", PASSPHRASE)


def keygen(folder: Path, *arguments: str, passphrase: str = "") -> Path:
    if not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is not installed")
    file = folder / "key"
    made = subprocess.run(
        ["ssh-keygen", "-q", *arguments, "-N", passphrase, "-f", str(file)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"this ssh-keygen does not make such keys any more: {' '.join(arguments)}")
    return file


def settings(key: Path, **more: object) -> SshSettings:
    return SshSettings.model_validate(
        {"host": "vm", "user": "u", "host_key": HOST_KEY, "key": key, **more}, strict=False
    )


def with_passphrase(key: Path) -> SshSettings:
    return settings(key, passphrase=SecretSource(env="PASSPHRASE"))


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("-t", "ed25519"), "ssh-ed25519"),
        (("-t", "ecdsa", "-b", "384"), "ecdsa-sha2-nistp384"),
        (("-t", "ecdsa", "-b", "256", "-m", "PEM"), "ecdsa-sha2-nistp256"),
        (("-t", "rsa", "-b", "3072"), "RSA of 3072 bits"),
        (("-t", "rsa", "-b", "2048"), "RSA of 2048 bits; 3072 are better"),
        (("-t", "rsa", "-b", "2048", "-m", "PEM"), "RSA of 2048 bits; 3072 are better"),
        (("-t", "rsa", "-b", "2048", "-m", "PKCS8"), "RSA of 2048 bits; 3072 are better"),
    ],
)
@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_a_good_key_passes_locked_or_not(
    tmp_path: Path, arguments: tuple[str, ...], found: str, passphrase: str
) -> None:
    key = keygen(tmp_path, *arguments, passphrase=passphrase)
    check = credential_check(with_passphrase(key) if passphrase else settings(key))
    assert (check.ok, check.found) == (True, found)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("-t", "rsa", "-b", "1024"), "RSA of 1024 bits"),
        (("-t", "dsa"), "a DSA key"),
        (("-t", "dsa", "-m", "PEM"), "a DSA key"),
        (("-t", "dsa", "-m", "PKCS8"), "a DSA key"),
    ],
)
def test_a_weak_key_is_told_with_how_to_make_another(tmp_path: Path, arguments: tuple[str, ...], found: str) -> None:
    check = credential_check(settings(keygen(tmp_path, *arguments)))
    assert (check.ok, check.found) == (False, found)
    assert "ssh-keygen -t ed25519" in check.next_action


def test_a_dsa_key_is_known_though_it_is_locked(tmp_path: Path) -> None:
    check = credential_check(settings(keygen(tmp_path, "-t", "dsa", passphrase=PASSPHRASE)))
    assert check.found == "a DSA key"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    key = keygen(tmp_path, "-t", "ed25519")
    key.chmod(mode)
    check = credential_check(settings(key))
    assert (check.ok, check.found, check.next_action) == (False, f"file mode {mode:04o}", f"chmod 600 {key}")


@pytest.mark.parametrize("form", [(), ("-m", "PEM")])
def test_a_locked_key_wants_its_passphrase_and_no_other(
    tmp_path: Path, form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keygen(tmp_path, "-t", "rsa", "-b", "2048", *form, passphrase=PASSPHRASE)
    assert credential_check(settings(key)).found == "a locked key and no passphrase"
    monkeypatch.setenv("PASSPHRASE", "planted-wrong")
    check = credential_check(with_passphrase(key))
    assert check.found == "a passphrase that does not unlock it"
    assert "planted" not in repr(check)


@pytest.mark.parametrize(
    "content", [b"", b"planted-nonsense", b"\xff\xfe", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"]
)
def test_what_is_no_key_is_told_without_what_it_holds(tmp_path: Path, content: bytes) -> None:
    key = tmp_path / "key"
    key.write_bytes(content)
    key.chmod(0o600)
    check = credential_check(settings(key))
    assert not check.ok
    assert "planted" not in repr(check)
    with pytest.raises(SettingsError) as caught:
        load_key(settings(key))
    assert "planted" not in str(caught.value)


def test_a_key_that_is_not_there_is_told(tmp_path: Path) -> None:
    check = credential_check(settings(tmp_path / "none"))
    assert (check.ok, "No such file" in check.found) == (False, True)
    assert [c.ok for c in age_checks(settings(tmp_path / "none"))] == [False]


@pytest.mark.parametrize(("days", "ok"), [(0, True), (364, True), (366, False)])
def test_a_key_grows_stale(tmp_path: Path, days: int, ok: bool) -> None:
    key = keygen(tmp_path, "-t", "ed25519")
    moment = key.stat().st_mtime - days * 86_400
    os.utime(key, (moment, moment))
    (check,) = age_checks(settings(key))
    assert (check.ok, check.found, check.wanted) == (ok, f"{days} days", "at most 365 days")


def password_check(password: str, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.setenv("VM_PASSWORD", password)
    return credential_check(
        SshSettings(host="vm", user="u", host_key=HOST_KEY, password=SecretSource(env="VM_PASSWORD"))
    )


@pytest.mark.parametrize("password", ["Correct-Horse", "correct-horse-9", "CORRECT-HORSE-9", "Aa1" * 4, "Aa1!" * 18])
def test_a_password_that_azure_takes_passes(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = password_check(password, monkeypatch)
    assert check.ok
    assert "a key is better" in check.found
    assert age_checks(SshSettings(host="vm", user="u", host_key=HOST_KEY, password=SecretSource(env="X"))) == []


@pytest.mark.parametrize(
    ("password", "found"),
    [
        ("Correct-9", "9 characters"),
        ("Correct-9-x", "11 characters"),
        ("Aa1!" * 18 + "x", "73 characters"),
        ("correcthorse9", "2 of 4 kinds of characters"),
        ("correct-horse", "2 of 4 kinds of characters"),
        ("correcthorsebattery", "1 of 4 kinds of characters"),
        ("Correct\x07Horse9", "a control character in it"),
        ("Correct\x7fHorse9", "a control character in it"),
        ("Password22", "one of the passwords that Azure disallows"),
    ],
)
def test_a_password_that_azure_would_refuse_is_told_and_not_shown(
    password: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = password_check(password, monkeypatch)
    assert (check.ok, check.found) == (False, found)
    assert password not in repr(check)


def test_the_list_of_disallowed_passwords_is_azure_s_case_and_all() -> None:
    assert len(DISALLOWED) == 10
    for password in DISALLOWED:
        assert password_problem(password) == "one of the passwords that Azure disallows"
        assert password_problem(password.swapcase()) != "one of the passwords that Azure disallows"
