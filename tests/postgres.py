"""A real PostgreSQL server on a free loopback port, for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest
from loopback import free_port, listens, wait_until

_USER = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
"""PostgreSQL refuses to run as root."""


@contextmanager
def postgres() -> Iterator[str]:
    """Yield the address of an empty database, as SQLAlchemy's asyncpg takes it; skip the test where there is none."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("the Debian package postgresql is not installed: tests/system-parts.sh does that")
    folder, port = Path(mkdtemp(prefix="insitu-postgres-")), free_port()
    (folder / "password").write_text("secret")
    if _USER:
        for path in (folder, folder / "password"):
            shutil.chown(path, **_USER)
    made = ["-D", f"{folder}/data", "-U", "prefect", "-A", "scram-sha-256", "--pwfile", f"{folder}/password", "-N"]
    subprocess.run([programs[-1] / "initdb", *made], check=True, capture_output=True, cwd="/", **_USER)  # type: ignore[call-overload]
    options = ["-D", f"{folder}/data", "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
    process = subprocess.Popen([programs[-1] / "postgres", *options], cwd="/", stderr=subprocess.DEVNULL, **_USER)  # type: ignore[call-overload]
    try:
        wait_until(lambda: listens(port), 60, "the start of PostgreSQL")
        yield f"postgresql+asyncpg://prefect:secret@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
