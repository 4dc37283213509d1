"""Where the project is: the folder with `models/` and `deployments/sites/`."""

from __future__ import annotations

from pathlib import Path

from insitu.errors import UsageError


def find_project(start: Path, *, named: bool = False) -> Path:
    """Return *start* or, unless it was *named* by somebody, the nearest project above it; raise `UsageError`."""
    start = start.resolve()
    for folder in (start,) if named else (start, *start.parents):
        if (folder / "deployments" / "sites").is_dir() and (folder / "models").is_dir():
            return folder
    raise UsageError(
        f"{start} is not {'' if named else 'inside '}an insitu project",
        wanted="a folder with models/ and deployments/sites/",
        next_action="go there, or name it with --project or INSITU_PROJECT",
    )
