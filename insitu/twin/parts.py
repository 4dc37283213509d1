"""The programs that the twin needs beside Python, looked for before it starts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from insitu.errors import UsageError
from insitu.twin.azurite import PROGRAM
from insitu.twin.sshd import sshd_program

_INSTALLER = Path(__file__).parents[2] / "tests" / "system-parts.sh"


def require_parts(install: bool = True) -> None:
    """Install what is missing, as `make twin` does, or raise `UsageError`, which names all that is missing."""
    if _missing() and install and _INSTALLER.exists() and shutil.which("bash"):
        subprocess.run(["bash", str(_INSTALLER), "twin"], stdout=sys.stderr, check=False)
    if missing := _missing():
        raise UsageError(
            "the twin runs real programs, and some are not installed",
            found="no " + ", no ".join(missing),
            next_action="install them, then `make twin` (on Debian as root it does both)",
        )


def _missing() -> list[str]:
    found = {
        "Azurite (blob storage)": PROGRAM.exists() and shutil.which("node"),
        "sshd (the login of the VM)": sshd_program(),
        "docker-registry (the container registry)": shutil.which("docker-registry"),
    }
    return [name for name, program in found.items() if not program]
