"""Data in a hub's blob storage is looked at where it lies: nothing is copied."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from customer_data import Init, customers

from insitu.runs import open_run
from insitu.settings import AzureBlobStore
from insitu.wiring import open_blobs


@pytest.mark.parametrize("form", ["{url}/{container}/jahr 1/", "{container}/jahr 1/"])
def test_a_container_is_named_by_its_url_or_its_name(
    form: str, init: Init, project: Path, hub_settings: AzureBlobStore, new_container: Callable[[], str]
) -> None:
    container, url, key = new_container(), str(hub_settings.account_url).rstrip("/"), hub_settings.key
    assert key
    assert key.file
    store = open_blobs({"kind": "azure-blob", "container": container, "store": hub_settings.model_dump(mode="json")})
    for month in (1, 2):
        text = customers(month, month=month).to_csv(index=False)
        store.create(f"jahr 1/Umsätze {month}.csv", text.encode())
    store.create("jahr 2.csv", b"another form\n")
    local = (project / "deployments/sites/local.toml").read_text()
    data = f'[data]\nkind = "azure-blob"\naccount_url = "{url}"\nkey = {{ file = "{key.file}" }}\n'
    before, _, after = local.partition("[data]")
    (project / "deployments/sites/plant.toml").write_text(before + data + after[after.index("\n# What insitu rem") :])

    name = form.format(url=url, container=container)
    answers = ("--target", "Ergebnis", "--positive", "ja", "--site", "plant", "--json")
    told = json.loads(init("shops", "--data", name, *answers).stdout)
    assert (told["data"]["container"], told["data"]["blobs"]) == (container, "jahr 1/*.csv")
    assert [blob.name for blob in open_run(project, "shops", "plant").holdout.blobs] == ["jahr 1/Umsätze 2.csv"]
    elsewhere = init("more", "--data", str(project), *answers, code=2)
    assert "reads its data where it lies" in elsewhere.stderr
