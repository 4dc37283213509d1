"""A run may have training parameters of its own: within what the model's settings allow, with a key of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect.utilities.callables import parameter_schema

from flows.retrain import retrain
from insitu.errors import SettingsError
from insitu.runs import Run, open_run
from insitu.settings import load_model, params_schema

MakeProject = Callable[..., Path]


def opened(project: Path, **params: Any) -> Run:
    return open_run(project, "flights", "local", params=params)


def test_another_value_is_another_run_and_what_is_left_out_stays(make_project: MakeProject) -> None:
    project = make_project(1, 2)
    plain, own = opened(project), opened(project, C=0.1)
    assert own.key != plain.key
    assert own.model.train.params == plain.model.train.params | {"C": 0.1}


@pytest.mark.parametrize("same", [{"C": 1.0}, {"C": 1}, {"min_frequency": 50.0}, {}])
def test_the_value_of_the_settings_is_the_same_run_however_it_is_written(
    make_project: MakeProject, same: Mapping[str, Any]
) -> None:
    project = make_project(1, 2)
    assert opened(project, **same).key == opened(project).key
    assert json.dumps(opened(project, **same).model.train.params) == json.dumps(opened(project).model.train.params)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"c": 1.0}, ["params.c", "an unknown parameter", "one of C, min_frequency", "did you mean C?"]),
        ({"min_frequncy": 30}, ["did you mean min_frequency?"]),
        ({"C": "strong"}, ["params.C", '"strong"', "a number, at least 0.01, at most 1000"]),
        ({"C": True}, ["params.C", "true", "a number"]),
        ({"C": None}, ["params.C", "null", "a number"]),
        ({"C": float("nan")}, ["params.C", "NaN", "a number"]),
        ({"C": 0}, ["params.C", "found:  0", "at least 0.01"]),
        ({"C": 1000.5}, ["params.C", "1000.5", "at most 1000"]),
        ({"min_frequency": 30.5}, ["params.min_frequency", "30.5", "a whole number, at least 20"]),
        ({"min_frequency": [30]}, ["params.min_frequency", "[30]", "a whole number"]),
        ({"c": 1, "C": -1, "min_frequency": 1}, ["3 problems", "params.c\n", "params.C\n", "params.min_frequency\n"]),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_is_right(
    make_project: MakeProject, params: Mapping[str, Any], told: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        opened(make_project(1, 2), **params)
    assert [part for part in told if part not in caught.value.render()] == []


FORMS = "[train.forms.C]"


def edit(project: Path, old: str, new: str) -> None:
    file = project / "models/flights/model.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def test_choices_are_the_only_values(make_project: MakeProject) -> None:
    project = make_project(1, 2)
    edit(project, "min_frequency = 50", 'min_frequency = 50\nsolver = "lbfgs"')
    edit(project, FORMS, f'[train.forms.solver]\nchoices = ["lbfgs", "saga"]\n\n{FORMS}')
    assert opened(project, solver="saga").model.train.params["solver"] == "saga"
    with pytest.raises(SettingsError, match='"lbfgs" or "saga"'):
        opened(project, solver="newton")
    schema = params_schema(load_model(project, "flights", {}))["solver"]
    assert (schema["type"], schema["enum"], schema["position"]) == ("string", ["lbfgs", "saga"], 2)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (FORMS, "[train.forms.c]", "did you mean C?"),
        ("C = 1.0", "C = 2000.0", "a number, at least 0.01, at most 1000, as [train.forms] says"),
        ("minimum = 20", "minimal = 20", "did you mean train.forms.min_frequency.minimum?"),
    ],
)
def test_limits_that_fit_no_parameter_are_mistakes_of_the_settings(
    make_project: MakeProject, old: str, new: str, told: str
) -> None:
    project = make_project(1, 2)
    edit(project, old, new)
    with pytest.raises(SettingsError) as caught:
        opened(project)
    assert told in caught.value.render()


def test_the_form_says_what_each_parameter_does_its_limits_and_its_value(make_project: MakeProject) -> None:
    schema = params_schema(load_model(make_project(1, 2), "flights", {}))
    assert list(schema) == ["C", "min_frequency"]
    assert schema["C"] == {
        "title": "C",
        "type": "number",
        "description": "Inverse strength of the regularisation: lower is a simpler model. "
        "At least 0.01, at most 1000. When empty: 1.0.",
        "position": 0,
        "minimum": 0.01,
        "maximum": 1000,
    }


def test_a_parameter_of_two_models_has_no_limits_in_the_common_form(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(1, 2)
    edit(project, "maximum = 1000.0", "maximum = 10.0")
    (project / "models/flights").rename(project / "models/delays")
    make_project(name="project")
    monkeypatch.setenv("INSITU_PROJECT", str(project))
    form = parameter_schema(retrain).properties["params"]
    assert form["additionalProperties"] is False
    assert set(form["properties"]["C"]) == {"title", "type", "position", "description"}
    assert form["properties"]["min_frequency"]["minimum"] == 20


def test_a_parameter_of_three_models_is_in_the_form_wherever_it_stands_in_theirs(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(1, 2)
    for name, params in (("a", "x = 1\nC = 0.5"), ("b", "C = 2.0")):
        folder = project / "models" / name
        shutil.copytree(project / "models/flights", folder)
        text = (folder / "model.toml").read_text()
        before, after = text.split("[train.params]")[0], text[text.index("# What the compute must have") :]
        (folder / "model.toml").write_text(f"{before}[train.params]\n{params}\n{after}")
    monkeypatch.setenv("INSITU_PROJECT", str(project))
    form = parameter_schema(retrain).properties["params"]["properties"]
    assert {"C", "x", "min_frequency"} == set(form)
    assert set(form["C"]) == {"title", "type", "description"}
