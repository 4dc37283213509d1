"""Reads prefect.yaml strictly: every mistake at once, each with its line, what was found, wanted and probably meant."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.deploying.prefect_flows import FlowForm, flow_form, kind_of_pool, pool_schema
from flows.deploying.prefect_yaml import Deployment, PrefectYaml
from flows.deploying.schema_problems import missing_problems, schema_problems
from insitu.errors import Problem
from insitu.settings.problems import problems_of
from insitu.settings.sources import Source, did_you_mean, failure
from insitu.settings.toml_lines import KeyPath
from insitu.settings.words import nearest
from insitu.settings.yaml_lines import read_yaml

FILE = "prefect.yaml"
_TEMPLATE = re.compile(r"\{\{\s*([^}]*?)\s*\}\}")
_FILLED_LATER = re.compile(
    r"deployments\.\d+\.(triggers\.\d+\.parameters|work_pool\.job_variables|pull)\.|pull\.|definitions\."
)


@dataclass(frozen=True)
class Entry:
    """A deployment of prefect.yaml, and the flow that it runs."""

    said: Deployment
    flow: FlowForm
    pull: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """What Prefect calls it: FLOW/NAME."""
        return f"{self.flow.name}/{self.said.name}"

    @property
    def site(self) -> str:
        """The site of its runs."""
        return str(self.said.parameters.get("site", self.flow.default_site))

    @property
    def pool_kind(self) -> str:
        """The kind of its work pool; empty when the pool is not one of the site's."""
        return kind_of_pool(self.said.work_pool.name, self.site)

    def at(self, site: str) -> Entry:
        """Return the same deployment for another site, with the pool of that one."""
        said = self.said
        name = said.work_pool.name.replace(f"insitu-{self.site}", f"insitu-{site}", 1)
        return replace(
            self,
            said=said.model_copy(
                update={
                    "parameters": said.parameters | {"site": site},
                    "work_pool": said.work_pool.model_copy(update={"name": name}),
                }
            ),
        )


def read_entries(project: Path, environ: Mapping[str, str] = os.environ) -> list[Entry]:
    """Return the deployments of prefect.yaml, its variables filled in.

    Raises:
        SettingsError: All problems of the file.
    """
    source = _filled(read_yaml(project, project / FILE), environ)
    try:
        said = PrefectYaml.model_validate(source.values)
    except ValidationError as exc:
        raise failure(problems_of(source, PrefectYaml, exc)) from exc
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, one in enumerate(said.deployments):
        path, flow = ("deployments", number), flow_form(project, one.entrypoint)
        if isinstance(flow, str):
            problems.append(Problem(*source.place((*path, "entrypoint")), one.entrypoint, flow))
            continue
        entry = Entry(one, flow, tuple(one.pull or said.pull))
        if any((entry.flow.name, one.name) == (other.flow.name, other.said.name) for other in entries):
            wanted = f"a name that no other deployment of {flow.name} has"
            problems.append(Problem(*source.place((*path, "name")), one.name, wanted))
        problems.extend(_of_parameters(source, path, entry))
        problems.extend(_of_pool(source, path, entry))
        entries.append(entry)
    if problems:
        raise failure(_each_place_once(problems))
    return entries


def _of_parameters(source: Source, path: KeyPath, entry: Entry) -> Iterator[Problem]:
    """Yield parameters that the flow does not have or take, and those that a run without a person would lack."""
    schema, given = entry.flow.schema, entry.said.parameters
    yield from schema_problems(source, (*path, "parameters"), given, schema)
    for number, schedule in enumerate(entry.said.schedules):
        here = (*path, "schedules", number)
        yield from schema_problems(source, (*here, "parameters"), schedule.parameters, schema)
        yield from missing_problems(source, here, given | schedule.parameters, schema)
    for number, trigger in enumerate(entry.said.triggers):
        here = (*path, "triggers", number)
        plain = {
            name: value
            for name, value in trigger.parameters.items()
            if name not in schema["properties"] or not _TEMPLATE.search(str(value))
        }
        yield from schema_problems(source, (*here, "parameters"), plain, schema)
        yield from missing_problems(source, here, given | trigger.parameters, schema)


def _of_pool(source: Source, path: KeyPath, entry: Entry) -> Iterator[Problem]:
    """Yield a pool that no worker of the site serves, and job variables that its kind does not know."""
    here, pool = (*path, "work_pool"), entry.said.work_pool
    schema = pool_schema(entry.pool_kind)
    if schema is None:
        wanted = f"insitu-{entry.site} (processes) or insitu-{entry.site}-docker: the pools of site {entry.site}"
        yield Problem(*source.place((*here, "name")), pool.name, wanted)
        return
    yield from schema_problems(source, (*here, "job_variables"), pool.job_variables, schema)
    for number, trigger in enumerate(entry.said.triggers):
        yield from schema_problems(source, (*path, "triggers", number, "job_variables"), trigger.job_variables, schema)


def _filled(source: Source, environ: Mapping[str, str]) -> Source:
    """Return *source* with its `{{ $VARIABLE }}` filled in; raise `SettingsError` for what nothing fills in."""
    problems: list[Problem] = []
    values = _fill(source, (), source.values, environ, problems)
    if problems:
        raise failure(_each_place_once(problems))
    return replace(source, values=values)


def _each_place_once(problems: list[Problem]) -> list[Problem]:
    """Return the problems in the order of the file; what deployments share by an anchor is wrong once."""
    first: dict[object, Problem] = {}
    for problem in sorted(problems, key=lambda problem: problem.line or 0):
        first.setdefault((problem.line, problem.key.rpartition(".")[2], problem.found), problem)
    return list(first.values())


def _fill(source: Source, path: KeyPath, value: Any, environ: Mapping[str, str], problems: list[Problem]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(source, (*path, key), inner, environ, problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill(source, (*path, number), inner, environ, problems) for number, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        if name.startswith("$") and name[1:] in environ:
            return environ[name[1:]]
        if name.startswith("$"):
            hint = did_you_mean(nearest(name[1:], tuple(environ)))
            problems.append(Problem(*source.place(path), f"{name}, which is not set", "a variable that is set", hint))
        elif not _FILLED_LATER.match(".".join(map(str, (*path, "")))):
            problems.append(
                Problem(*source.place(path), found[0], "a value, or {{ $VARIABLE }}: nothing fills this in")
            )
        return found[0]

    return _TEMPLATE.sub(fill, value)
