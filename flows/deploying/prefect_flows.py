"""What a deployment must fit: the parameters of its flow, and the job variables of its pool's kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import prefect
from prefect.exceptions import MissingFlowError, ScriptError
from prefect.flows import load_flow_from_entrypoint

from insitu.settings.words import nearest

_KINDS = "server/api/collections_data/views/aggregate-worker-metadata.json"


@dataclass(frozen=True)
class FlowForm:
    """A flow as a deployment sees it.

    Attributes:
        name: The flow's name.
        version: Prefect's, which follows its file.
        schema: The JSON schema of its parameters, which the UI shows as a form.
    """

    name: str
    version: str | None
    schema: Mapping[str, Any]

    @property
    def default_site(self) -> str:
        """The site of a run that says none."""
        return str(self.schema["properties"].get("site", {}).get("default", "local"))


def flow_form(project: Path, entrypoint: str) -> FlowForm | str:
    """Return the form of the flow at *entrypoint*, FILE.py:FUNCTION, or what would be an entrypoint."""
    file, _, function = entrypoint.partition(":")
    files = [path.relative_to(project).as_posix() for path in sorted(project.glob("flows/*.py"))]
    if not function or not (project / file).is_file():
        near = nearest(file, tuple(files))
        return "FILE.py:FUNCTION with a file of the project" + (f", such as {near}" if near else "")
    try:
        flow: Any = load_flow_from_entrypoint(f"{project / file}:{function}")
    except MissingFlowError:
        return f"FILE.py:FUNCTION with a flow of {file}"
    except ScriptError as exc:
        return f"a file that can be imported: {exc.user_exc}"
    return FlowForm(flow.name, flow.version, flow.parameters.model_dump(exclude_unset=True))


@cache
def pool_schema(kind: str) -> Mapping[str, Any] | None:
    """Return the JSON schema of the job variables of a kind of work pool, or None when Prefect knows no such kind."""
    template = pool_template(kind)
    return template and template["variables"]


@cache
def pool_template(kind: str) -> dict[str, Any] | None:
    """Return the base job template of a kind of work pool, or None when Prefect knows no such kind."""
    collections = json.loads((Path(prefect.__file__).parent / _KINDS).read_text())
    found = [kinds[kind] for kinds in collections.values() if kind in kinds]
    return dict(found[0]["default_base_job_configuration"]) if found else None


def kind_of_pool(name: str, site: str) -> str:
    """Return the kind of the site's pool *name*: insitu-SITE runs processes, insitu-SITE-docker containers; else ""."""
    if name == f"insitu-{site}":
        return "process"
    kind = name.removeprefix(f"insitu-{site}-")
    return "" if kind == name else kind
