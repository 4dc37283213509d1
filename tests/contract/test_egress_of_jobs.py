"""No byte of the data goes to a public host with an edge job in Azure ML, however the job ends.

Rows, names of blobs, parameters, what the script prints and what its errors quote hold planted tokens; every request
to a public host is searched for them (`plants`).
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from azure.storage.blob import ContainerClient
from plants import Plant, found
from twin_places import furnish, state_of, twin_settings

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.adapters.azure.jobs import AzureMlJobs
from insitu.adapters.azure.workspace import open_workspace
from insitu.batch import Batch
from insitu.files import file_digests
from insitu.ports import JobStatus
from insitu.settings import AzureBlobStore, SiteSettings
from insitu.twin.estate import Estate
from insitu.twin.faults import Fault

NAME, NUMBER, BLOB, PARAM = "Ada-Lovelace-1815", 8273.918273, "patient-4711", "a-private-parameter"
PLANTS: list[Plant] = [NAME, NUMBER, BLOB, PARAM]
MARK = "this-mark-stands-in-the-code"
MODEL = """
class Model:
    def predict(self, rows, params=None):
        return 1 / (1 + 2.718281828 ** (-rows["x"].to_numpy() / 1000))


def _load_pyfunc(path):
    return Model()
"""
MLMODEL = """
flavors:
  python_function:
    loader_module: tiny_model
    code: code
    data: nothing.txt
    python_version: 3.11.0
signature:
  inputs: '[{"type": "double", "name": "x", "required": true}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]'
"""
TRAIN = f"""
# {MARK}
import json, os, signal, sys, time, warnings
from pathlib import Path

from insitu.edge.data import open_batch

what, here, batch = sys.argv[1], Path(__file__).parent, open_batch()
rows = batch.table(["name", "x"]).to_pandas()
print(rows.head(3).to_string(), batch.params, os.environ.get("INSITU_BATCH"), flush=True)
print(rows.to_string(), file=sys.stderr, flush=True)
warnings.warn(str(rows.iloc[0].to_dict()))
if what == "error":
    raise ValueError(f"could not convert {{rows.name[0]!r}} {{rows.x[0]}}")
if what == "exit":
    sys.exit(str(rows.name[0]))
if what == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if what == "hang":
    time.sleep(600)
folder = batch.output / "model"
(folder / "code").mkdir(parents=True)
(folder / "code/tiny_model.py").write_text((here / "model.txt").read_text())
(folder / "nothing.txt").write_text(rows.to_csv())
broken = "not: [yaml" + rows.name[0]
(folder / "MLmodel").write_text(broken if what == "broken model" else (here / "MLmodel.txt").read_text())
claimed = {{rows.name[0]: 1.0, "rows": rows.name[0], "x": float(rows.x[0])}}
(batch.output / "metrics.json").write_text(json.dumps(claimed))
rows.to_csv(batch.output / "rows.csv")
"""


@dataclass(frozen=True)
class Place:
    """Jobs of a site on the twin, and a batch with planted tokens in its storage."""

    jobs: AzureMlJobs
    settings: SiteSettings
    container: str
    folder: Path

    def spec(self, what: str) -> dict[str, Any]:
        data = self.settings.data
        assert isinstance(data, AzureBlobStore)
        store = {"kind": data.kind, "container": self.container, "store": data.model_dump(mode="json")}
        blobs = list(AzureBlobs(data, self.container).list())
        shared = {"store": store, "target": {"task": "classification", "label_column": "late", "label_above": 0.5}}
        return {
            "model": "tiny",
            "model_folder": str(self.folder),
            "code": file_digests(self.folder),
            "command": ["python", "train.py", what],
            "params": {"word": PARAM},
            "max_log_bytes": 100_000,
            "train": Batch.of(self.container, blobs[:-1]).to_json() | shared,
            "holdout": Batch.of(self.container, blobs[-1:]).to_json() | shared,
            "metrics": ["roc_auc", "log_loss"],
            "primary": "roc_auc",
            "error": 0.05,
            "champion": None,
            "slices": {},
            "golden_rows": 5,
            "tolerance": 1e-6,
        }

    def ended(self, job_id: str) -> JobStatus:
        deadline = time.monotonic() + 240
        while (status := self.jobs.status(job_id)).state == "running":
            assert time.monotonic() < deadline, "the job did not end"
            time.sleep(0.3)
        return status


@pytest.fixture(scope="module")
def place(_running_estate: Estate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    estate, root = _running_estate, tmp_path_factory.mktemp("egress")
    with pytest.MonkeyPatch.context() as surroundings:
        for name, value in estate.environment.items():
            surroundings.setenv(name, value)
        settings = twin_settings(estate, root)
        assert settings.azure
        furnish(open_workspace(settings.azure), estate)
        folder = root / "model"
        folder.mkdir()
        for name, text in (("train.py", TRAIN), ("model.txt", MODEL), ("MLmodel.txt", MLMODEL)):
            (folder / name).write_text(text)
        _put_data(estate, "planted")
        yield Place(AzureMlJobs(settings, state_of(settings), root / "work"), settings, "planted", folder)


def _put_data(estate: Estate, container: str) -> None:
    account = estate.names.hub_account
    credential = {"account_name": account, "account_key": estate.account_key(account).read_text()}
    random = np.random.default_rng(5)
    with ContainerClient(estate.storage().url(account), container, credential=credential) as client:
        client.create_container()
        for month in range(1, 4):
            x = random.normal(size=120) * 1000
            x[:40] = NUMBER
            rows = {"name": [NAME] * 120, "x": x, "late": (x + random.normal(size=120) * 900 > 0) * 1.0}
            file = io.BytesIO()
            pq.write_table(pa.table(rows), file)
            client.upload_blob(f"{BLOB}/month={month}.parquet", file.getvalue())


def require_no_plant(estate: Estate) -> None:
    """Fail when a plant went to a public host; the code, which has to go there, shows that the search sees."""
    held = found(estate.folder, [*PLANTS, MARK])
    assert {plant for plants in held.values() for plant in plants} == {MARK}, held
    assert list(estate.journal.lines("unknown")) == []


ENDS = {"error": "failed", "exit": "failed", "crash": "failed", "broken model": "failed", "train": "completed"}


def test_nothing_of_the_data_leaves_with_a_job_however_it_ends(estate: Estate, place: Place) -> None:
    jobs = {what: place.jobs.submit(f"key-of-{what.replace(' ', '-')}", place.spec(what)) for what in ENDS}
    ended = {what: place.ended(job_id) for what, job_id in jobs.items()}
    assert {what: status.state for what, status in ended.items()} == ENDS
    assert not [what for what, status in ended.items() if NAME in str(status.error)]
    # What the script printed stays on site.
    assert [what for what, job_id in jobs.items() if NAME in place.jobs.log(job_id, 0).decode()] == list(ENDS)
    require_no_plant(estate)


def test_nothing_leaves_with_a_job_whose_answers_are_lost(estate: Estate, place: Place) -> None:
    faults = [
        Fault("status:503", host="management.azure.com", path="/jobs/", method="PUT", when="after"),
        Fault("drop", host="*.blob.core.windows.net", method="PUT", when="after"),
        Fault("truncate", host="management.azure.com", path="/jobs/", method="GET", skip=3),
        Fault("status:429:1", host="management.azure.com", path="/codes/"),
        Fault("status:500", host="login.*", when="before"),
    ]
    for fault in faults:
        estate.faults.add(fault)
    assert place.ended(place.jobs.submit("key-of-lost-answers", place.spec("train"))).state == "completed"
    require_no_plant(estate)


def test_nothing_leaves_with_a_job_that_is_canceled(estate: Estate, place: Place) -> None:
    job_id = place.jobs.submit("key-of-hang", place.spec("hang"))
    deadline = time.monotonic() + 60
    while NAME not in place.jobs.log(job_id, 0).decode():
        assert time.monotonic() < deadline, "the job did not begin"
        assert place.jobs.status(job_id).state == "running"
        time.sleep(0.3)
    place.jobs.cancel(job_id)
    assert place.ended(job_id).state == "canceled"
    require_no_plant(estate)


def test_nothing_leaves_with_a_batch_that_changed(estate: Estate, place: Place) -> None:
    spec = place.spec("train")
    account = estate.names.hub_account
    credential = {"account_name": account, "account_key": estate.account_key(account).read_text()}
    with ContainerClient(estate.storage().url(account), place.container, credential=credential) as client:
        client.upload_blob(spec["train"]["blobs"][0]["name"], b"PAR1" + NAME.encode(), overwrite=True)
    status = place.ended(place.jobs.submit("key-of-changed", spec))
    assert status.state == "failed"
    require_no_plant(estate)
    broken = place.spec("train")
    assert place.ended(place.jobs.submit("key-of-damaged", broken)).state == "failed"
    require_no_plant(estate)
