"""Names and tags of a flow run, once it is known what it works on and how it ended: `flights 2013-10 → v4`.

A name is seen in lists and stays at the site: messages do not hold it. Of the names of blobs only what says when is
taken: other partitions may be somebody's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefect import tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from flows.running.reconcile import RESUMED
from insitu.options import DEFAULT_SITE
from insitu.runs import Run
from tasks.showing import show

_WHEN = ("year", "month", "week", "day", "date", "hour")
_NUMBER = re.compile(r"\d[\d-]{0,9}")


def site_tag(site: str) -> str:
    """Return the tag of the flow runs of *site*; messages about a run go by it, so it is there from the start."""
    return f"site:{site}"


@contextmanager
def begun_at(site: str) -> Iterator[None]:
    """Give flow runs that begin in the block, without a deployment, the tag of *site*."""
    with tags(site_tag(site)):
        yield


def name_of(run: Run, became: str = "") -> str:
    """Return the name of the flow run that works on *run*."""
    site = "" if run.site.name == DEFAULT_SITE else f"@{run.site.name}"
    return f"{run.model.name}{site} {newest(run.holdout.blobs[-1].name, run.batch.fingerprint)}" + (
        f" → {became}" if became else ""
    )


def newest(blob: str, fingerprint: str) -> str:
    """Return when the newest data is from, as the partitions of its name say; else the beginning of the fingerprint."""
    parts = dict(part.partition("=")[::2] for part in blob.split("/") if "=" in part)
    when = {key: parts[key] for key in _WHEN if _NUMBER.fullmatch(parts.get(key, ""))}
    if len(when) == 1 and "date" not in when:
        return " ".join(*when.items())
    return "-".join(when.values()) or f"batch {fingerprint[:8]}"


def became(record: Mapping[str, Any]) -> str:
    """Return in a word or two what came of a run."""
    version, decision = record["model_version"], record["decision"]
    if record["error"]:
        return str(record["error"]["code"])
    if record["state"] == "Completed" and version:
        return f"v{version['version']}"
    return str(decision["outcome"] if decision and decision.get("outcome") else record["state"])


def call_this_flow_run(run: Run, outcome: str = "") -> None:
    """Give the flow run that this code is part of its name and tags; a server that is away keeps no run waiting."""
    context = FlowRunContext.get()
    if context and context.flow_run:
        show(_call, context.flow_run, run, outcome)


def _call(flow_run: FlowRun, run: Run, outcome: str) -> None:
    named = {*flow_run.tags, run.model.name, site_tag(run.site.name), *([outcome] if outcome else ())}
    again = RESUMED if flow_run.name.endswith(RESUMED) else ""
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, name=name_of(run, outcome) + again, tags=sorted(named))
