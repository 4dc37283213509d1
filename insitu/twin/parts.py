"""The programs that the twin needs beside Python, looked for before it starts."""

from __future__ import annotations

import shutil

from insitu.errors import UsageError
from insitu.twin.azurite import PROGRAM
from insitu.twin.sshd import sshd_program


def require_parts() -> None:
    """Raise `UsageError`, which names all that are missing."""
    found = {
        "Azurite (blob storage)": PROGRAM.exists() and shutil.which("node"),
        "sshd (the login of the VM)": sshd_program(),
        "docker-registry (the container registry)": shutil.which("docker-registry"),
    }
    if missing := [name for name, program in found.items() if not program]:
        raise UsageError(
            "the twin runs real programs, and some are not installed",
            found="no " + ", no ".join(missing),
            next_action="make twin   (on Debian as root it installs them; elsewhere it names the packages)",
        )
