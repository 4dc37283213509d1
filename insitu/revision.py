"""The git commit that files are of: a fact that may be absent."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_TIMEOUT_S = 10


def revision_of(project: Path, folders: Sequence[str], files: Sequence[str]) -> str | None:
    """Return the commit that last changed *folders*, which hold *files*; all are relative to *project*.

    So a commit elsewhere in the project changes nothing. None when the project is no git clone, git is not to be had,
    or one of the files is not as it was committed.
    """
    if _git(project, "ls-files", "--error-unmatch", "--", *files) is None:
        return None
    if _git(project, "diff", "--quiet", "HEAD", "--", *folders) is None:
        return None
    return (_git(project, "log", "-1", "--format=%H", "--", *folders) or "").strip() or None


def _git(project: Path, *words: str) -> str | None:
    """Return what git prints; None when it does not agree or is not there."""
    command = ["git", "-C", str(project), *words]
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environ, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
