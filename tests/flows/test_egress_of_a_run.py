"""No byte of the data goes to a public host with a whole run on the twin: Azure ML, its storage, its registry and ACR.

Some rows hold planted tokens where the suite admits them; every request to a public host is searched for them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from azure.storage.blob import ContainerClient
from flow_helpers import NewProject, Project
from planted import TOKENS, planted
from plants import found

from insitu.enclosure import without_network
from insitu.twin.azurite import PROGRAM
from insitu.twin.estate import Estate
from insitu.twin.hub_blob import make_containers
from insitu.twin.server import running_estate
from insitu.twin.site_file import write_site_file
from insitu.twin.sshd import sshd_program

pytestmark = pytest.mark.slow
PLANTS = [*TOKENS]


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    if not PROGRAM.exists() or sshd_program() is None:
        pytest.skip("Azurite or openssh-server is not installed: tests/system-parts.sh does that")
    with running_estate(tmp_path_factory.mktemp("twin"), in_memory=True) as running:
        make_containers(running)
        yield running


@pytest.fixture(scope="module")
def project(new_project: NewProject, estate: Estate) -> Project:
    """A project whose months, with planted rows, are on the twin's hub."""
    made = new_project("nothing leaves")
    for path in sorted((made.var / "blobs" / "flights").rglob("*.parquet")):
        put(estate, path.relative_to(made.var / "blobs" / "flights").as_posix(), planted(pq.read_table(path), 8))
    write_site_file(estate, made.root)
    return made


def put(estate: Estate, name: str, rows: pa.Table) -> None:
    account, file = estate.names.hub_account, io.BytesIO()
    pq.write_table(rows, file)
    key = {"account_name": account, "account_key": estate.account_key(account).read_text()}
    with ContainerClient(estate.storage().url(account), estate.names.data_container, credential=key) as container:
        container.upload_blob(name, file.getvalue(), overwrite=True)


def test_nothing_of_the_data_leaves_with_a_whole_run(project: Project, estate: Estate) -> None:
    record = project.retrain("--site", "twin", "--json", **estate.environment).require(0).json
    assert record["state"] == "Completed"
    assert record["publication"]["reference"].startswith(estate.names.registry_host)
    if without_network():
        asked = {"allowed": [f"{estate.names.hub_blob}:443"], "refused": []}
        assert {how: list(names) for how, names in record["training"]["destinations"].items()} == asked
    kinds = {line.kind for line in estate.journal.lines("public")}
    assert {"sign-in", "job", "model", "definition", "blob", "image layer", "image manifest"} <= kinds
    assert list(estate.journal.lines("unknown")) == []
    held = found(estate.folder, [*PLANTS, record["run_key"]])  # the key does go there: the search sees it
    assert {plant for plants in held.values() for plant in plants} == {record["run_key"]}, held


def test_nothing_of_the_data_leaves_when_it_fails_validation(project: Project, estate: Estate) -> None:
    month = project.var / "blobs" / "flights" / "month=03" / "flights.parquet"
    put(estate, "month=03/flights.parquet", planted(pq.read_table(month), 400))
    estate.journal.clear()
    done = project.retrain("--site", "twin", "--json", **estate.environment).require(4)
    assert done.json["state"] == "ValidationFailed"
    assert str(PLANTS[0]) not in done.out + done.err
    assert found(estate.folder, PLANTS) == {}
    assert list(estate.journal.lines("unknown")) == []
    assert json.dumps(done.json).count(str(PLANTS[1])) == 0
