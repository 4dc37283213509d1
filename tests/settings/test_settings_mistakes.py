"""Every mistake is reported with its line, its key, what was found, what is wanted and what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from insitu.errors import Problem, SettingsError
from insitu.settings import load_model, load_site

SITE = """\
registry = "localhost:5000"

[data]
kind = "folder"
root = "var/blobs"

[state]
kind = "folder"
root = "var/state"

[models]
kind = "mlflow"
uri = "sqlite:///var/mlflow.db"

[compute]
kind = "process"
reserve_memory_mb = 256
"""

MODEL = """\
description = "late arrivals"

[target]
task = "classification"
label_column = "arr_delay"
label_above = 15

[data]
container = "flights"
blobs = "month=*/flights.parquet"
suite = "flights"
contiguous = "month"

[train]
command = ["python", "train.py"]
timeout_s = 900
params = { depth = 3 }

[needs]
cores = 1

[gate]
primary = "roc_auc"
policy = "not_worse"
margin = 0.01

[gate.metrics.roc_auc]
direction = "higher"
floor = 0.6

[smoke]
golden_rows = 20
"""


class Mistake(NamedTuple):
    """A change to a good file, and the one problem that it must give."""

    old: str
    new: str
    line: int | None
    key: str
    found: str
    wanted: str
    hint: str | None = None


SITE_MISTAKES = {
    "unknown key": Mistake(
        "registry =", "registri =", 1, "registri", "unknown key", "description, data", "mean registry?"
    ),
    "unknown table": Mistake("[compute]", "[computer]", 15, "computer", "unknown key", "compute", "mean compute?"),
    "name is no key": Mistake("[data]", 'name = "x"\n[data]', 3, "name", '"x"', "name of the file"),
    "registry is a port": Mistake('"localhost:5000"', "5000", 1, "registry", "5000", "text", 'write "5000"'),
    "registry is a port as text": Mistake('"localhost:5000"', '"5000"', 1, "registry", '"5000"', "host:port"),
    "registry has a scheme": Mistake('"local', '"http://local', 1, "registry", "http://", "no scheme"),
    "registry has a path": Mistake("5000", "5000/flights", 1, "registry", "5000/flights", "no path"),
    "registry has no such port": Mistake("5000", "65536", 1, "registry", "65536", "host:port"),
    "registry is empty": Mistake("localhost:5000", "", 1, "registry", '""', "host:port"),
    "unknown kind": Mistake(
        '[data]\nkind = "folder"', '[data]\nkind = "foldr"', 4, "data.kind", '"foldr"', '"folder"', "folder?"
    ),
    "kind of another table": Mistake('"mlflow"', '"folder"', 12, "models.kind", '"folder"', '"mlflow"'),
    "missing root": Mistake('root = "var/blobs"\n', "", 3, "data.root", "nothing", "a path"),
    "empty root": Mistake('"var/blobs"', '""', 5, "data.root", '""', "not empty"),
    "root is a list": Mistake('"var/blobs"', '["var"]', 5, "data.root", '["var"]', "a path"),
    "missing table": Mistake('[state]\nkind = "folder"\nroot = "var/state"\n', "", 1, "state", "nothing", "table"),
    "text for a table": Mistake(
        '[data]\nkind = "folder"\nroot = "var/blobs"\n', 'data = "var"\n', 3, "data", '"var"', "a table"
    ),
    "array of tables": Mistake("[compute]", "[[compute]]", 15, "compute", "list of tables", "a table"),
    "uri is a path": Mistake("sqlite:///var", "var", 13, "models.uri", "var/mlflow.db", "sqlite:///FILE.db"),
    "uri has two slashes": Mistake("sqlite:///", "sqlite://", 13, "models.uri", "sqlite://var", "sqlite:///"),
    "uri has a password": Mistake(
        "sqlite:///var/mlflow.db",
        "http://me:hush@host",
        13,
        "models.uri",
        "http://***@host",
        "sqlite:///FILE.db",
    ),
    "uri is a server": Mistake(
        "sqlite:///var/mlflow.db", "http://host:5001", 13, "models.uri", "http://host:5001", "a database in a file"
    ),
    "negative reserve": Mistake("256", "-1", 17, "compute.reserve_memory_mb", "-1", "at least 0 (MB of memory"),
    "decimal reserve": Mistake("256", "1e3", 17, "compute.reserve_memory_mb", "1000.0", "a whole number", "write 1000"),
    "duplicate key": Mistake("[state]", 'root = "b"\n[state]', 7, "data.root", "first in line 5", "each key once"),
    "duplicate table": Mistake("[state]", "[data]", 7, "data", "first in line 3", "each key once"),
    "no quotes": Mistake('"localhost:5000"', "localhost", 1, "", "line 1, column 12", "TOML", "in quotes"),
    "yaml": Mistake("registry =", "registry:", 1, "", "line 1, column 9", "TOML"),
    "a leading zero": Mistake("256", "0256", 17, "", "line 17", "TOML"),
    "an open string": Mistake('"var/blobs"', '"var/blobs', 5, "", "line 5", "TOML"),
    "an open list at the end": Mistake("256\n", "[1,\n", 17, "", "end of document", "TOML"),
    "an open table header": Mistake("[compute]", "[compute", 15, "", "line 15", "TOML"),
    "a number too long to read": Mistake("256", "9" * 5000, 17, "", "digits", "TOML"),
}

MODEL_MISTAKES = {
    "misspelt required key": Mistake(
        "command =", "comand =", 15, "train.comand", '["python", "train.py"]', "command,", "train.command?"
    ),
    "key in the wrong table": Mistake(
        "[target]", "timeout_s = 3\n[target]", 3, "timeout_s", "3", "target, data", "train.timeout_s?"
    ),
    "secret key is not shown": Mistake(
        "timeout_s = 900", 'api_token = "hush"', 16, "train.api_token", "not shown", "command,"
    ),
    "command is text": Mistake(
        '["python", "train.py"]',
        '"python train.py"',
        15,
        "train.command",
        "python",
        "a list",
        '["python", "tr',
    ),
    "command is empty": Mistake('["python", "train.py"]', "[]", 15, "train.command", "[]", "not empty"),
    "command holds a number": Mistake(
        '["python", "train.py"]', '[\n  "python",\n  3]', 15, "train.command[1]", "3", "text", 'write "3"'
    ),
    "command holds empty text": Mistake('"train.py"', '""', 15, "train.command[1]", '""', "not empty"),
    "seconds are text": Mistake("900", '"900"', 16, "train.timeout_s", '"900"', "whole number", "write 900"),
    "seconds have a unit": Mistake("900", '"15m"', 16, "train.timeout_s", '"15m"', "(seconds"),
    "seconds are zero": Mistake("900", "0", 16, "train.timeout_s", "0", "more than 0"),
    "seconds are true": Mistake("900", "true", 16, "train.timeout_s", "true", "whole number"),
    "seconds are a time": Mistake("900", "00:15:00", 16, "train.timeout_s", "00:15:00", "whole number"),
    "parameter is a list": Mistake("3 }", "[3] }", 17, "train.params.depth", "[3]", "text, a number, true"),
    "parameter is not finite": Mistake("3 }", "nan }", 17, "train.params.depth", "NaN", "a number"),
    "parameters are a list": Mistake("{ depth = 3 }", "[3]", 17, "train.params", "[3]", "a table"),
    "no cores": Mistake("cores = 1", "cores = 0", 20, "needs.cores", "0", "at least 1 (CPU cores)"),
    "unknown task": Mistake(
        '"classification"', '"clasification"', 4, "target.task", "clasif", "regression", "n classification?"
    ),
    "label of classes for regression": Mistake(
        'task = "classification"\nlabel_column = "arr_delay"\n',
        'label_column = "arr_delay"\ntask = "regression"\n',
        6,
        "target.label_above",
        "15",
        "regression",
    ),
    "a label of two rules": Mistake(
        "= 15", '= 15\nlabel_is = "late"', 7, "target.label_is", "late", "one of label_above"
    ),
    "label is infinite": Mistake("= 15", "= inf", 6, "target.label_above", "Infinity", "a number"),
    "empty label": Mistake('"arr_delay"', '" "', 5, "target.label_column", '" "', "not empty"),
    "container in capitals": Mistake('"flights"', '"Flights"', 9, "data.container", "Flights", "a-z, 0-9"),
    "pattern from the root": Mistake('"month=*', '"/month=*', 10, "data.blobs", "/month", "relative to"),
    "suite with its ending": Mistake('suite = "flights', 'suite = "flights.json', 11, "data.suite", "json", ".json"),
    "partition with its sign": Mistake('"month"', '"month="', 12, "data.contiguous", "month=", 'without "="'),
    "no holdout": Mistake("[train]", "holdout_blobs = 0\n[train]", 14, "data.holdout_blobs", "0", "at least 1"),
    "primary is no metric": Mistake(
        '"roc_auc"\n', '"roc_acu"\n', 23, "gate.primary", "roc_acu", "of this gate", "mean roc_auc?"
    ),
    "unknown metric": Mistake(
        "metrics.roc_auc", "metrics.auc_roc", 27, "gate.metrics.auc_roc", "a table", "roc_auc, average"
    ),
    "misspelt metric": Mistake(
        "metrics.roc_auc", "metrics.roc_au", 27, "gate.metrics.roc_au", "a table", "brier", "mean roc_auc?"
    ),
    "metric of the other task": Mistake(
        "[smoke]",
        '[gate.metrics.rmse]\ndirection = "lower"\n[smoke]',
        31,
        "gate.metrics.rmse",
        "a table",
        "a metric of classification",
    ),
    "wrong direction": Mistake(
        '"higher"', '"lower"', 28, "gate.metrics.roc_auc.direction", '"lower"', "higher roc_auc is better"
    ),
    "floor in percent": Mistake("0.6", "60", 29, "gate.metrics.roc_auc.floor", "60", "from 0 to 1"),
    "missing direction": Mistake(
        'direction = "higher"\n', "", 27, "gate.metrics.roc_auc.direction", "nothing", "higher"
    ),
    "no metrics": Mistake(
        '[gate.metrics.roc_auc]\ndirection = "higher"\nfloor = 0.6\n',
        "[gate.metrics]",
        27,
        "gate.metrics",
        "table",
        "not empty",
    ),
    "margin of another policy": Mistake(
        '"not_worse"', '"better"', 25, "gate.margin", "0.01", 'policy = "not_worse" only'
    ),
    "gain of another policy": Mistake("margin =", "min_gain =", 25, "gate.min_gain", "0.01", 'policy = "better" only'),
    "negative margin": Mistake("0.01", "-0.01", 25, "gate.margin", "-0.01", "at least 0"),
    "decimal comma": Mistake("0.01", "0,01", 25, "", "line 25", "TOML"),
    "confidence in percent": Mistake(
        "margin = 0.01", "confidence = 95", 25, "gate.confidence", "95", "more than 0.5, less than 1"
    ),
    "no golden rows": Mistake("20", "0", 32, "smoke.golden_rows", "0", "at least 1"),
    "the name of another target's container": Mistake(
        "[smoke]",
        '[[deploy]]\nname = "line-before"\nkind = "docker"\n\n[smoke]',
        31,
        "deploy[0].name",
        '"line-before"',
        "does not end in -before or -trial",
    ),
    "capital true": Mistake("= 20", "= True", 32, "", "Invalid value", "TOML", "lower case"),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "deployments/sites").mkdir(parents=True)
    (tmp_path / "deployments/sites/local.toml").write_text(SITE)
    (tmp_path / "models/flights").mkdir(parents=True)
    (tmp_path / "models/flights/model.toml").write_text(MODEL)
    return tmp_path


def _only_problem(caught: pytest.ExceptionInfo[SettingsError]) -> Problem:
    assert caught.value.exit_code == 2
    (problem,) = caught.value.problems
    return problem


def _changed(text: str, mistake: Mistake) -> str:
    assert mistake.old in text
    return text.replace(mistake.old, mistake.new, 1)


def _assert_reports(problem: Problem, mistake: Mistake, file: str) -> None:
    assert (problem.file, problem.line, problem.key) == (file, mistake.line, mistake.key)
    assert mistake.found in problem.found
    assert mistake.wanted in problem.wanted
    assert (mistake.hint or "") in (problem.hint or "")
    assert "hush" not in problem.render()


@pytest.mark.parametrize("mistake", SITE_MISTAKES.values(), ids=SITE_MISTAKES.keys())
def test_a_mistake_in_a_site_is_reported(project: Path, mistake: Mistake) -> None:
    file = "deployments/sites/local.toml"
    (project / file).write_text(_changed(SITE, mistake))
    with pytest.raises(SettingsError) as caught:
        load_site(project, "local", {})
    _assert_reports(_only_problem(caught), mistake, file)


@pytest.mark.parametrize("mistake", MODEL_MISTAKES.values(), ids=MODEL_MISTAKES.keys())
def test_a_mistake_in_a_model_is_reported(project: Path, mistake: Mistake) -> None:
    file = "models/flights/model.toml"
    (project / file).write_text(_changed(MODEL, mistake))
    with pytest.raises(SettingsError) as caught:
        load_model(project, "flights", {})
    _assert_reports(_only_problem(caught), mistake, file)


VARIABLE_MISTAKES = {
    "unknown key": ("INSITU_SITE__REGSITRY", "x", "unknown key", "registry", "INSITU_SITE__REGISTRY?"),
    "single underscore": (
        "INSITU_SITE_REGISTRY",
        "x",
        "unknown variable",
        "INSITU_",
        "INSITU_SITE__REGISTRY?",
    ),
    "misspelt group": ("INSITU_STIE__REGISTRY", "x", "unknown variable", "INSITU_", "INSITU_SITE__REGISTRY?"),
    "misspelt other": ("INSITU_PROJCT", "x", "unknown variable", "INSITU_", "INSITU_PROJECT?"),
    "the name": ("INSITU_SITE__NAME", "x", "unknown key", "name of the file", None),
    "no key": ("INSITU_SITE__", "x", "unknown key", "registry", None),
    "a bare port": ("INSITU_SITE__REGISTRY", "5000", '"5000"', "localhost:5000", None),
    "an empty text": ("INSITU_SITE__REGISTRY", "", '""', "host:port", None),
    "no number": ("INSITU_SITE__COMPUTE__RESERVE_MEMORY_MB", "1 GB", '"1 GB"', "a whole number", None),
    "an empty number": ("INSITU_SITE__COMPUTE__RESERVE_MEMORY_MB", "", '""', "a whole number", None),
    "two values": ("INSITU_SITE__COMPUTE__RESERVE_DISK_MB", "1\nx=2", '"1\\nx=2"', "whole number", None),
    "a secret": ("INSITU_SITE__API_KEY", "hush", "not shown", "registry", None),
    "text for a table": ("INSITU_SITE__DATA", "var", '"var"', "a table", None),
}


@pytest.mark.parametrize(
    ("variable", "text", "found", "wanted", "hint"), VARIABLE_MISTAKES.values(), ids=VARIABLE_MISTAKES.keys()
)
def test_a_mistake_in_a_variable_is_reported(
    project: Path, variable: str, text: str, found: str, wanted: str, hint: str | None
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_site(project, "local", {variable: text})
    mistake = Mistake("", "", None, variable, found, wanted, hint)
    _assert_reports(_only_problem(caught), mistake, "environment")


def test_a_table_put_where_text_belongs_is_reported_by_its_variable(project: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_site(project, "local", {"INSITU_SITE__REGISTRY__HOST": "x"})
    problem = _only_problem(caught)
    assert (problem.key, problem.found) == ("INSITU_SITE__REGISTRY__HOST", "a table")


def test_bytes_that_are_not_utf_8_are_reported_with_their_line(project: Path) -> None:
    (project / "deployments/sites/local.toml").write_bytes(b'registry = "x"\n# caf\xe9\n')
    with pytest.raises(SettingsError) as caught:
        load_site(project, "local", {})
    problem = _only_problem(caught)
    assert (problem.line, problem.found) == (2, "byte 0xe9, which is not UTF-8")


@pytest.mark.parametrize("name", ["locl", "../sites/local", "", "*"])
def test_a_missing_file_lists_what_exists(project: Path, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_site(project, name, {})
    assert _only_problem(caught).wanted == "one of local"


def test_a_missing_file_offers_the_nearest(project: Path) -> None:
    with pytest.raises(SettingsError, match=r"did you mean flights\?"):
        load_model(project, "fligths", {})


def test_a_project_without_sites_says_where_they_go(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"a file deployments/sites/\*\.toml; there is none yet"):
        load_site(tmp_path, "local", {})


def test_a_folder_in_place_of_the_file_is_reported(project: Path) -> None:
    (project / "deployments/sites/odd.toml").mkdir()
    with pytest.raises(SettingsError, match=r"odd\.toml\n    found:  Is a directory"):
        load_site(project, "odd", {})


def test_a_name_that_cannot_name_an_image_is_refused(project: Path) -> None:
    (project / "deployments/sites/My Site.toml").write_text(SITE)
    with pytest.raises(SettingsError, match="of a-z, 0-9, - and _"):
        load_site(project, "My Site", {})
