"""The surroundings of a flow that runs in this process: Prefect keeps to the project.

Call `prepare` before Prefect is imported: its settings are read once.
"""

from __future__ import annotations

import os
from pathlib import Path

from flows.running.server import use_server
from insitu import telemetry
from insitu.errors import naming_write_errors

LOGGERS = ("data_checks", "insitu", "tasks")


def prepare(project: Path) -> None:
    """Set what is not set yet: no telemetry, Prefect's files below the project's `var/`.

    The server is the one that PREFECT_API_URL names, else that of `insitu up` when it runs, else a
    temporary one.
    """
    telemetry.switch_off()
    os.environ.setdefault("INSITU_PROJECT", str(project))
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", ",".join(LOGGERS))
    named = "PREFECT_API_URL" in os.environ
    found = use_server(project, os.environ)
    if not named:
        home = project / "var" / "prefect"
        with naming_write_errors(home):
            home.mkdir(parents=True, exist_ok=True)
            (home / ".writable").touch()
        os.environ.setdefault("PREFECT_HOME", str(home))
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(home / "profiles.toml"))
    if not found:
        os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
        os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
        # It shares the database of `insitu up`, not the key of its blocks: automations there are not for it to act on.
        os.environ.setdefault("PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED", "false")
