"""Parameters of the training script for one run: what may be set, as a JSON schema, and set in the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, Literal

from annotated_types import Ge, Le

from insitu.errors import Problem
from insitu.settings.model import ModelSettings, ParameterForm, short
from insitu.settings.sources import did_you_mean, failure
from insitu.settings.words import Slot, in_words, nearest

_PLACE = "parameters of the run"
_JSON_TYPES: Mapping[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def with_params(model: ModelSettings, given: Mapping[str, Any]) -> ModelSettings:
    """Return *model* with the values of `[train.params]` that are *given* for one run.

    A value has the type that model.toml gives it, so 2 and 2.0 are the same run.

    Raises:
        SettingsError: A parameter is unknown, of another type, or out of the bounds of `[train.forms]`.
    """
    known = model.train.params
    fitting = {name: _fitting(value, known[name]) for name, value in given.items() if name in known}
    problems = [_unknown(model, name) for name in given if name not in known]
    for name, value in fitting.items():
        if value is None or not _form(model, name).allows(value):
            found = json.dumps(given[name], ensure_ascii=False, default=str)[:60]
            problems.append(Problem(_PLACE, None, f"params.{name}", found, in_words(_slot(model, name))))
    if problems:
        raise failure(problems)
    train = model.train.model_copy(update={"params": {**known, **fitting}})
    return model.model_copy(update={"train": train})


def params_schema(model: ModelSettings) -> dict[str, Any]:
    """Return a JSON schema per parameter that a run may set: type, bounds, choices, what it does and its value."""
    return {name: _schema(model, name, position) for position, name in enumerate(model.train.params)}


def _schema(model: ModelSettings, name: str, position: int) -> dict[str, Any]:
    value, form = model.train.params[name], _form(model, name)
    limits = {"minimum": short(form.minimum), "maximum": short(form.maximum), "enum": form.choices or None}
    said = [form.about, form.limits, f"when empty: {value}"]
    about = ". ".join(f"{one[:1].upper()}{one[1:]}" for one in said if one)
    return {
        "title": name,
        "type": _JSON_TYPES[type(value)],
        "description": f"{about}.",
        "position": position,
        **{key: limit for key, limit in limits.items() if limit is not None},
    }


def _unknown(model: ModelSettings, name: str) -> Problem:
    known = tuple(model.train.params)
    wanted = f"one of {', '.join(known)}: [train.params] of models/{model.name}/model.toml" if known else "no parameter"
    hint = did_you_mean(nearest(name, known))
    return Problem(_PLACE, None, f"params.{name}", "an unknown parameter", wanted, hint)


def _form(model: ModelSettings, name: str) -> ParameterForm:
    return model.train.forms.get(name, ParameterForm())


def _slot(model: ModelSettings, name: str) -> Slot:
    form = _form(model, name)
    kind = Literal.__getitem__(tuple(form.choices)) if form.choices else type(model.train.params[name])
    bounds = [(Ge, short(form.minimum)), (Le, short(form.maximum))]
    return Slot(kind, tuple(bound(limit) for bound, limit in bounds if limit is not None), form.about)


def _fitting(value: Any, like: Any) -> Any:
    """Return *value* in the type of *like*, or None where it has another one; a whole number is a number, too."""
    if isinstance(value, bool) or isinstance(like, bool | str):
        return value if type(value) is type(like) else None
    if not isinstance(value, int | float) or not isfinite(value):
        return None
    if isinstance(like, float):
        return float(value)
    return int(value) if float(value).is_integer() else None
