"""Good settings load; variables override them; the problems of both files come at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from insitu.errors import SettingsError
from insitu.settings import ModelSettings, SiteSettings, load_model, load_settings, load_site

PROJECT = Path(__file__).parents[2]
SITE_FILE = "deployments/sites/local.toml"
MODEL_FILE = "models/flights/model.toml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of what ships, in a folder with a space in its name."""
    root = tmp_path / "my project"
    for file in (SITE_FILE, MODEL_FILE):
        (root / file).parent.mkdir(parents=True)
        (root / file).write_text((PROJECT / file).read_text())
    return root


def _replace(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


def test_what_ships_loads_without_a_variable() -> None:
    site, model = load_settings(PROJECT, "local", "flights", {})
    assert (site.name, site.registry, site.images.root) == ("local", None, PROJECT / "var/images")
    assert (model.name, model.target.label_above, model.gate.primary) == ("flights", 15.0, "roc_auc")
    assert model.train.command == ["python", "train.py"]


def test_relative_paths_start_at_the_project_even_with_spaces(project: Path) -> None:
    site = load_site(project, "local", {})
    assert site.data.root == project / "var/blobs"
    assert site.models.uri == f"sqlite:///{project}/var/mlflow/mlflow.db"


def test_the_default_image_folder_starts_at_the_project_too(project: Path) -> None:
    _replace(project / SITE_FILE, '[images]\nkind = "folder"\nroot = "var/images"', "")
    assert load_site(project, "local", {}).images.root == project / "var/images"


def test_absolute_paths_stay(project: Path) -> None:
    variables = {"INSITU_SITE__DATA__ROOT": "/srv/data", "INSITU_SITE__MODELS__URI": "sqlite:////srv/m.db"}
    site = load_site(project, "local", variables)
    assert (site.data.root, site.models.uri) == (Path("/srv/data"), "sqlite:////srv/m.db")


def test_a_relative_project_gives_absolute_paths(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert load_site(Path(), "local", {}).state.root == project / "var/state"


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "hub.example.org", "[::1]:5000"])
def test_registries_are_hosts_with_or_without_a_port(project: Path, host: str) -> None:
    assert load_site(project, "local", {"INSITU_SITE__REGISTRY": host}).registry == host


def test_variables_override_keys_in_the_type_of_the_key(project: Path) -> None:
    variables = {
        "INSITU_MODEL__TRAIN__TIMEOUT_S": "60",
        "INSITU_MODEL__TRAIN__COMMAND": '["python", "-O", "train.py"]',
        "INSITU_MODEL__GATE__METRICS__ROC_AUC__FLOOR": "0.7",
        "INSITU_MODEL__DATA__SUITE": "2013",
        "INSITU_MODEL__SMOKE": "{ golden_rows = 5 }",
    }
    model = load_model(project, "flights", variables)
    assert (model.train.timeout_s, model.train.command[1]) == (60, "-O")
    assert (model.gate.metrics["roc_auc"].floor, model.data.suite) == (0.7, "2013")
    assert model.smoke.golden_rows == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("true", True), ("gini", "gini"), ('"3"', "3"), ("007", "007")],
)
def test_parameters_are_toml_values_else_text(project: Path, text: str, value: object) -> None:
    params = load_model(project, "flights", {"INSITU_MODEL__TRAIN__PARAMS__DEPTH": text}).train.params
    assert params["depth"] == value
    assert type(params["depth"]) is type(value)


def test_a_variable_finds_a_parameter_whatever_its_case(project: Path) -> None:
    _replace(project / MODEL_FILE, "[train.params]", "[train.params]\nmaxDepth = 3")
    model = load_model(project, "flights", {"INSITU_MODEL__TRAIN__PARAMS__MAXDEPTH": "4"})
    assert model.train.params["maxDepth"] == 4


def test_other_variables_are_left_alone(project: Path) -> None:
    names = ("BATCH", "OUTPUT", "PARAMS", "PROJECT", "CRASH_AT", "CRASH_LOG", "MODEL__GARBAGE")
    environ = {f"INSITU_{name}": "x" for name in names} | {"PATH": "/bin", "INSITUATION": "x"}
    assert load_site(project, "local", environ).name == "local"


def test_the_problems_of_both_files_and_of_the_variables_come_at_once(project: Path) -> None:
    _replace(project / SITE_FILE, 'work = "var"', 'work = ""')
    _replace(project / SITE_FILE, "reserve_disk_mb = 256", "reserve_disk_mb = -1")
    _replace(project / MODEL_FILE, "timeout_s = 900", "timeout = 900")
    environ = {"INSITU_SITE_REGISTRY": "localhost:5000", "INSITU_MODEL__SMOKE__TOLERANCE": "-1"}
    with pytest.raises(SettingsError) as caught:
        load_settings(project, "local", "flights", environ)
    assert [problem.key for problem in caught.value.problems] == [
        "INSITU_SITE_REGISTRY",
        "compute.work",
        "compute.reserve_disk_mb",
        "train.timeout",
        "INSITU_MODEL__SMOKE__TOLERANCE",
    ]
    assert str(caught.value).startswith("E-CONF 5 problems in the settings")


def test_a_missing_site_does_not_hide_a_broken_model(project: Path) -> None:
    (project / MODEL_FILE).write_text("[gate\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(project, "nowhere", "flights", {})
    files = [problem.file for problem in caught.value.problems]
    assert files == ["deployments/sites/nowhere.toml", MODEL_FILE]


def test_a_report_reads_like_this(project: Path) -> None:
    _replace(project / MODEL_FILE, "timeout_s = 900", 'timeout_s = "900"')
    with pytest.raises(SettingsError) as caught:
        load_model(project, "flights", {})
    line = next(n for n, text in enumerate((project / MODEL_FILE).read_text().splitlines(), 1) if "_s =" in text)
    assert str(caught.value) == (
        "E-CONF 1 problem in the settings; nothing was started\n"
        f"  models/flights/model.toml:{line}: train.timeout_s\n"
        '    found:  "900"\n'
        "    wanted: a whole number, more than 0 (seconds after which training is stopped)\n"
        "    hint:   write 900"
    )


def test_a_traceback_does_not_show_values(project: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_site(project, "local", {"INSITU_SITE__PASSWORD": "hush"})
    assert "hush" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize("change", ["\ufeff{}", "{}\r\n", "\t{}"], ids=["byte order mark", "crlf", "tab"])
def test_what_editors_leave_behind_does_no_harm(project: Path, change: str) -> None:
    text = change.replace("{}", (project / SITE_FILE).read_text())
    (project / SITE_FILE).write_bytes(text.replace("\n", "\r\n").encode())
    assert load_site(project, "local", {}).data.kind == "folder"


def test_settings_cannot_be_changed(project: Path) -> None:
    site = load_site(project, "local", {})
    with pytest.raises(ValidationError):
        site.registry = "elsewhere"


@pytest.mark.parametrize("kind", [SiteSettings, ModelSettings])
def test_every_key_says_what_it_is_for(kind: type[SiteSettings | ModelSettings]) -> None:
    schema = kind.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    silent = [key for model in models for key, field in model["properties"].items() if "description" not in field]
    assert silent == []


def test_importing_the_settings_imports_nothing_heavy() -> None:
    heavy = "{'mlflow', 'prefect', 'pandas', 'numpy', 'pyarrow', 'polars', 'sklearn'}"
    code = f"import sys, insitu.settings; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
