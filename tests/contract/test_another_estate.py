"""Services that answer in other shapes than the twin's, as legally: nothing relies on what it happens to say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from job_places import make_place
from other_shapes import Shape, another_estate, tersely, verbosely
from twin_places import attach_cluster, twin_jobs, twin_models, twin_settings

from insitu.adapters.azure.acr import acr_images
from insitu.adapters.azure.compute import StackHubCompute
from insitu.adapters.azure.hub import open_hub
from insitu.adapters.azure.jobs import AzureMlJobs
from insitu.adapters.azure.workspace import open_workspace
from insitu.adapters.local.images import LayoutImages
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, canonical, to_json
from insitu.images.publish import publish_image
from insitu.ports import Descriptor, JobStatus, Need
from insitu.provisioning import bring_about, plan
from insitu.twin.azurite import PROGRAM
from insitu.twin.estate import Estate
from insitu.twin.hub_blob import make_containers
from insitu.twin.sshd import sshd_program
from insitu.wiring import open_parts

_numbers = count(1)


@pytest.fixture(scope="module")
def _another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Estate, Callable[[Shape], None]]]:
    if not PROGRAM.exists() or sshd_program() is None:
        pytest.skip("Azurite or sshd are not installed: tests/system-parts.sh does that")
    with another_estate(tmp_path_factory.mktemp("another")) as another:
        make_containers(another[0])
        yield another


@pytest.fixture(params=[tersely, verbosely], ids=lambda shape: shape.__name__)
def estate(
    request: pytest.FixtureRequest,
    _another: tuple[Estate, Callable[[Shape], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> Estate:
    """The other estate, with this process's environment leading into it by the standard variables alone."""
    estate, choose = _another
    for name in (*estate.environment, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, estate.environment[name])
    choose(request.param)
    return estate


def test_the_vm_is_found_ready_and_is_started(estate: Estate, tmp_path: Path) -> None:
    site = twin_settings(estate, tmp_path)
    checks = StackHubCompute(site, pause_s=0.1).readiness(Need(4, 1_000_000, 1_000_000, (estate.names.data_container,)))
    assert [check for check in checks if not check.ok] == []
    assert site.hub
    assert len(open_hub(site.hub).sizes("north")) > 5
    estate.machine.switch("deallocated")
    StackHubCompute(site, pause_s=0.1).wake()
    assert estate.machine.power == "running"


def test_a_job_is_submitted_once_runs_and_leaves_its_model(estate: Estate, tmp_path: Path) -> None:
    place = make_place(lambda root: twin_jobs(estate, root), tmp_path)
    key = f"another{next(_numbers)}"
    job = place.jobs.submit(key, place.spec())
    assert place.jobs.submit(key, place.spec()) == job
    assert place.ended(job) == JobStatus("completed")
    assert (place.jobs.output(job) / "output/model/MLmodel").is_file()
    assert isinstance(place.jobs, AzureMlJobs)
    assert all(check.ok for check in place.jobs.checks())
    models = twin_models(estate, tmp_path / "models")
    models.record("another", key, job, {"metric.roc_auc": "0.7", "insitu.verdict": "promote"})


def test_models_are_registered_found_listed_and_named(estate: Estate, tmp_path: Path) -> None:
    models, model = twin_models(estate, tmp_path), f"model-{next(_numbers)}"
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "MLmodel").write_text("flavors: {}\n")
    for number in "123":
        made = models.register(model, f"key-{number}", tmp_path / "trained", {"insitu.verdict": "promote"})
        assert made.version == number
    models.set_alias(model, "champion", "1")
    models.set_alias(model, "champion", "2")
    models.archive(model, "3")
    models.record(model, "key-1", "no-job", {"metric.roc_auc": "0.7"})
    assert [version.version for version in models.versions(model)] == ["1", "2"]
    third, champion = models.find(model, "key-3"), models.alias(model, "champion")
    assert third
    assert champion
    assert (third.version, champion.version) == ("3", "2")
    assert (models.folder(champion) / "MLmodel").is_file()


@pytest.mark.registry
def test_an_image_is_published_and_locked(estate: Estate, tmp_path: Path) -> None:
    site = twin_settings(estate, tmp_path)
    assert site.azure
    assert site.registry
    images = acr_images(site.azure, site.registry, f"another{next(_numbers)}")
    layout, digest = _layout(tmp_path / "layout")
    assert publish_image(digest, layout, images, ["1", "latest"]).reference == images.reference("1")
    found = images.resolve("latest")
    assert found
    assert found[0].digest == digest
    assert all(check.ok for check in images.checks())


def test_what_is_there_is_left_alone_and_a_cluster_is_attached(estate: Estate, tmp_path: Path) -> None:
    site = twin_settings(estate, tmp_path)
    assert site.azure
    attach_cluster(open_workspace(site.azure), estate)
    for part in open_parts(tmp_path, site, os.environ):
        bring_about(part)
    assert [one.name for one in plan(list(open_parts(tmp_path, site, os.environ))) if one.to_do] == []


def _layout(folder: Path) -> tuple[LayoutImages, str]:
    layout, parts = LayoutImages(folder), []
    folder.mkdir()
    for kind, content in ((CONFIG_TYPE, b"{}"), ("application/octet-stream", os.urandom(20_000_000))):
        (folder / "part").write_bytes(content)
        parts.append(Descriptor(kind, f"sha256:{sha256(content).hexdigest()}", len(content)))
        layout.put_blob(parts[-1], folder / "part")
    config, layer = map(to_json, parts)
    content = canonical({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]})
    digest = f"sha256:{sha256(content).hexdigest()}"
    layout.put_manifest(Descriptor(MANIFEST_TYPE, digest, len(content)), content)
    return layout, digest
