"""Adds a model's deployment to prefect.yaml, as text: comments and order stay as they are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from insitu.options import DEFAULT_SITE

FILE = "prefect.yaml"

_POOL = re.compile(r"^\s*pool: &pool\b", re.MULTILINE)


def entry_of(model: str, site: str, text: str) -> str:
    """Return the entry for *model*, to stand in the file with *text*.

    Where the file has no entry for *site*, those for the default site are its pattern: then it is one more of these.
    """
    sites = {str((one.get("parameters") or {}).get("site", DEFAULT_SITE)) for one in _deployments(text)}
    at = site if site in sites else DEFAULT_SITE
    pool = "*pool" if at == DEFAULT_SITE and _POOL.search(text) else f"{{name: insitu-{at}}}"
    return (
        f"  - name: {_plain(model)}\n"
        "    entrypoint: flows/retrain.py:retrain\n"
        f"    description: Retrain the model {model} on all data that lies at the site.\n"
        f"    tags: [insitu, {_plain(model)}, {json.dumps(f'site:{at}')}]\n"
        f"    parameters: {{model: {_plain(model)}, site: {_plain(at)}}}\n"
        "    concurrency_limit: {limit: 1, collision_strategy: ENQUEUE} # the second run of a model waits\n"
        f"    work_pool: {pool}\n"
    )


def has_entry(text: str, model: str) -> bool:
    """Tell whether prefect.yaml with *text* has an entry for *model*, however it is written."""
    return any(one.get("name") == model for one in _deployments(text))


def _plain(name: str) -> str:
    """Return *name* as YAML takes it for a text: null, 007 and 2026-10-01 would be none."""
    return name if yaml.safe_load(name) == name else json.dumps(name)


def with_entry(project: Path, model: str, site: str) -> str | None:
    """Return prefect.yaml with an entry for *model*; None where it has one, or is none that this can be said of."""
    path = project / FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before = _deployments(text)
    if not before or has_entry(text, model):
        return None
    lines = text.rstrip("\n").split("\n")
    start = next((number for number, line in enumerate(lines) if line.startswith("deployments:")), len(lines))
    end = next((n for n in range(start + 1, len(lines)) if re.match(r"[^\s#-]", lines[n])), len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    new = "\n".join([*lines[:end], "", entry_of(model, site, text).rstrip("\n"), *lines[end:]]) + "\n"
    return new if _deployments(new)[:-1] == before and _deployments(new)[-1].get("name") == model else None


def _deployments(text: str) -> list[dict[str, Any]]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return []
    found = content.get("deployments") if isinstance(content, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
