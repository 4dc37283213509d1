"""The parameters of flows as the Prefect UI shows them: a form with the choices that this project has.

Prefect makes the form from the JSON schema of a flow's parameters when the flow is deployed. What is wrong in spite
of it (parameters come from schedules, automations and the API as well) is an error of the run that says what is right.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from insitu.errors import InsituError
from insitu.project import find_project
from insitu.settings import load_model, load_site, params_schema

Schema = dict[str, Any]


class _Form:
    """How a parameter is asked for; the value itself stays as it is.

    Args:
        schema: Returns its JSON schema, which may depend on the project.
    """

    def __init__(self, schema: Callable[[], Schema]) -> None:
        self.schema = schema

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> Schema:
        return self.schema()


class _Described(Protocol):
    @property
    def description(self) -> str: ...


def _model(about: str = "What is retrained.") -> Schema:
    models = sorted(file.parent.name for project in _project() for file in project.glob("models/*/model.toml"))
    return _name(about, models, load_model)


def _withdrawn_model() -> Schema:
    return _model("Which model goes back to an earlier version.")


def _version() -> Schema:
    about = "A published version. Leave it empty for the one that the champion has replaced."
    return {"type": "string", "pattern": "^(v?[0-9]+)?$", "description": about}


def _words(about: str) -> Callable[[], Schema]:
    return lambda: {"type": "string", "minLength": 1, "description": about}


def _models() -> Schema:
    about = "Whose new blobs are looked for. Leave it empty for all models."
    return {"type": "array", "items": _model(), "uniqueItems": True, "description": about}


def _site() -> Schema:
    sites = sorted(file.stem for project in _project() for file in project.glob("deployments/sites/*.toml"))
    return _name("Where the data lies.", sites, load_site)


def _batch() -> Schema:
    about = (
        "Leave it empty to train on what lies at the site now. Else the path, on the worker's machine, of a JSON "
        "manifest of pinned blobs, such as /srv/batch.json."
    )
    return {"type": "string", "pattern": r"^(/.+\.json)?$", "description": about}


def _params() -> Schema:
    """Return the schema of the overrides: every parameter of every model."""
    known: dict[str, Schema] = {}
    for project in _project():
        for file in sorted(project.glob("models/*/model.toml")):
            with suppress(InsituError):  # told by whoever uses the model
                for name, schema in params_schema(load_model(project, file.parent.name, {})).items():
                    known[name] = _common(known.get(name, schema), schema)
    about = "Training parameters for this run alone. What you leave empty is as model.toml says."
    return {"type": "object", "properties": known, "additionalProperties": not known, "description": about}


def _name(about: str, known: list[str], load: Callable[[Path, str, Mapping[str, str]], _Described]) -> Schema:
    """Return the schema of a name that the project has, with what its settings say that it is."""
    for project in _project():
        for name in known:
            with suppress(InsituError):  # told by whoever uses it
                if said := load(project, name, {}).description:
                    about += f"\n\n**{name}**: {said}."
    choices = {"enum": known} if known else {"pattern": "^[a-z0-9][a-z0-9_-]*$"}
    return {"type": "string", "description": about, **choices}


def _common(one: Schema, other: Schema) -> Schema:
    """Return what holds for a parameter of two models; the run itself knows the limits of its own."""
    if one == other:
        return dict(one)
    about = "Several models have it, each with limits of its own: see their model.toml."
    alike = [key for key in ("title", "type", "position") if key in one and one[key] == other.get(key)]
    return {key: one[key] for key in alike} | {"description": about}


def _project() -> list[Path]:
    """Return the project, or nothing where there is none: the flow can be imported anywhere."""
    try:
        return [find_project(Path(os.environ.get("INSITU_PROJECT", ".")), named="INSITU_PROJECT" in os.environ)]
    except InsituError:
        return []


Model = Annotated[str, _Form(_model)]
Models = Annotated[list[str] | None, _Form(_models)]
SiteName = Annotated[str, _Form(_site)]
BatchFile = Annotated[str | None, _Form(_batch)]
WithdrawnModel = Annotated[str, _Form(_withdrawn_model)]
Version = Annotated[str, _Form(_version)]
PersonName = Annotated[str, _Form(_words("Who decides. Nobody checks it: it goes on record."))]
Reason = Annotated[str, _Form(_words("Why. It goes on record."))]
Params = Annotated[dict[str, Any], _Form(_params)]
