"""The secrets of a site's services are made once, for this user alone, or are where the site says."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from insitu.errors import SettingsError
from insitu.settings import load_site
from insitu.wiring import service_keys, service_login

SITE = """
[data]
kind = "folder"
root = "blobs"
[state]
kind = "folder"
root = "state"
[models]
kind = "mlflow"
uri = "sqlite:///mlflow.db"
[compute]
kind = "process"
[services]
"""


def services(project: Path, text: str = ""):  # type: ignore[no-untyped-def]
    (project / "deployments/sites").mkdir(parents=True, exist_ok=True)
    (project / "models").mkdir(exist_ok=True)
    (project / "deployments/sites/s.toml").write_text(SITE + text)
    return load_site(project, "s", {}).services


def test_a_password_and_a_key_are_made_once_for_this_user_alone(tmp_path: Path) -> None:
    ours = services(tmp_path)
    login, (key, database) = service_login(ours), service_keys(ours)
    assert (service_login(ours), service_keys(ours)) == (login, (key, database))
    user, _, password = login.partition(":")
    assert user == "insitu"
    assert len(password) == 32
    Fernet(key)  # takes a key of the right form only
    assert database is None
    made = sorted((tmp_path / "var/prefect").iterdir())
    assert [(file.name, oct(file.stat().st_mode)) for file in made] == [
        ("encryption-key", "0o100600"),
        ("login", "0o100600"),
    ]


def test_secrets_are_taken_from_where_the_site_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = services(tmp_path, 'login = { env = "LOGIN" }\ndatabase = { env = "DATABASE" }\nworkers = 3\n')
    monkeypatch.setenv("LOGIN", "ops:long and secret")
    monkeypatch.setenv("DATABASE", "postgresql+asyncpg://u:p@db:5432/prefect")
    with pytest.raises(SettingsError) as raised:
        service_login(ours)
    assert "USER:PASSWORD" in str(raised.value)
    assert "long and secret" not in str(raised.value)
    monkeypatch.setenv("LOGIN", "ops:long-and-secret")
    assert service_login(ours) == "ops:long-and-secret"
    assert service_keys(ours)[1] == "postgresql+asyncpg://u:p@db:5432/prefect"
    monkeypatch.setenv("DATABASE", "sqlite+aiosqlite:///prefect.db")
    with pytest.raises(SettingsError, match="postgresql"):
        service_keys(ours)


def test_two_workers_on_sqlite_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        services(tmp_path, "workers = 2\n")
    assert "SQLite takes one writer" in str(raised.value)
