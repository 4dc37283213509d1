"""What checks the data of a site: a process of its own unless a cluster is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from insitu.errors import SettingsError
from insitu.settings import SiteSettings, load_site

SITE = """\
[data]
kind = "folder"
root = "blobs"

[state]
kind = "folder"
root = "state"

[models]
kind = "mlflow"
uri = "sqlite:///mlflow.db"

[compute]
kind = "process"

"""


def load(project: Path, text: str, **variables: str) -> SiteSettings:
    (project / "deployments/sites").mkdir(parents=True)
    (project / "deployments/sites/here.toml").write_text(SITE + text)
    return load_site(project, "here", variables)


def test_without_the_table_this_machine_checks(tmp_path: Path) -> None:
    assert load(tmp_path, "").validation.engine == "local"


@pytest.mark.parametrize(
    "address",
    [
        "spark://master:7077",
        "spark://one:7077,two.example:7077",
        "spark://10.0.0.1:7077",
        "sc://server:15002",
        "sc://server:443/;use_ssl=true",
        "local[2]",
        "local[*]",
    ],
)
def test_clusters_have_addresses(tmp_path: Path, address: str) -> None:
    settings = load(tmp_path, f'[validation]\nengine = "spark"\nspark = "{address}"\nwait_s = 30\n').validation
    assert (settings.engine, settings.spark, settings.wait_s) == ("spark", address, 30)


@pytest.mark.parametrize(
    ("spark", "wanted"),
    [
        ("", 'an address such as "spark://HOST:PORT"'),
        ('spark = "master:7077"', "spark://HOST:PORT of a master"),
        ('spark = "spark://master"', "spark://HOST:PORT of a master"),
        ('spark = "local"', r"local\[CORES\]"),
        ('spark = "sc://server:15002/;token=abc"', "sc://HOST:PORT"),
    ],
)
def test_a_wrong_address_is_named_with_its_line(tmp_path: Path, spark: str, wanted: str) -> None:
    with pytest.raises(SettingsError, match=wanted) as error:
        load(tmp_path, f'[validation]\nengine = "spark"\n{spark}\n')
    assert "here.toml" in str(error.value)


def test_a_variable_chooses_the_engine_for_one_run(tmp_path: Path) -> None:
    table = '[validation]\nspark = "spark://master:7077"\n'
    assert load(tmp_path, table, INSITU_SITE__VALIDATION__ENGINE="spark").validation.engine == "spark"
