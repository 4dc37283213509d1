"""A suite: what a batch must satisfy, as Great Expectations 1.x writes it down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu.errors import SettingsError


@dataclass(frozen=True)
class Suite:
    """Named expectations, each `{type, kwargs, meta}`; *path* is the file that holds them."""

    name: str
    expectations: tuple[Mapping[str, Any], ...]
    path: Path | None = None

    @property
    def origin(self) -> str:
        """How messages name the suite."""
        return str(self.path or f"suite {self.name}")


def load_suite(path: Path) -> Suite:
    """Return the suite that the JSON file *path* holds; raise `SettingsError`.

    Only the shape is looked at, which is cheap; `data_checks.judge.build` knows the types.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(f"{path} cannot be read", found=type(exc).__name__, wanted="an expectation suite") from exc
    except ValueError as exc:
        raise SettingsError(f"{path} is not JSON", found=str(exc), wanted="an expectation suite") from exc
    if not _is_suite(content):
        raise SettingsError(
            f"{path} is not an expectation suite",
            wanted='{"name": ..., "expectations": [{"type": ..., "kwargs": {...}}, ...]}',
            next_action="write it with Great Expectations 1.x: json.dumps(suite.to_json_dict())",
        )
    return Suite(content["name"], tuple(content["expectations"]), path)


def _is_suite(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        return False
    rows = content.get("expectations")
    return isinstance(rows, list) and all(
        isinstance(row, dict) and isinstance(row.get("type"), str) and isinstance(row.get("kwargs"), dict)
        for row in rows
    )
