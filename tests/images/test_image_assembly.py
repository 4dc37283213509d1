from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from image_helpers import Trained, spec_of

from insitu.adapters.local.images import LayoutImages
from insitu.errors import ImageFailed
from insitu.images.assemble import Image, assemble_image
from insitu.images.blobs import BlobFolder
from insitu.images.contents import identity_of, model_entries
from insitu.images.unpack import unpack_image


def test_the_same_input_in_other_folders_gives_the_same_digest(model: Trained, image: Image, tmp_path: Path) -> None:
    copy = tmp_path / "another model"
    shutil.copytree(model.folder, copy)
    mlmodel = yaml.safe_load((copy / "MLmodel").read_text())
    mlmodel |= {"model_uuid": "0" * 32, "utc_time_created": "2001-01-01 00:00:00", "run_id": "1" * 32}
    (copy / "MLmodel").write_text(yaml.safe_dump(mlmodel))
    os.utime(copy / "MLmodel", (1, 1))
    before = os.umask(0o077)
    try:
        again = assemble_image(spec_of(model, model_folder=copy), tmp_path / "layout", tmp_path / "work")
    finally:
        os.umask(before)
    assert again == image


def test_other_metadata_changes_the_image_and_no_layer(model: Trained, image: Image, work: Path) -> None:
    other = assemble_image(spec_of(model, metadata={"version": "8"}), work / "layout", work)
    assert other.digest != image.digest
    assert other.layers == image.layers


def test_an_image_holds_no_row_no_machine_and_no_time(image: Image, layout: LayoutImages, work: Path) -> None:
    root = unpack_image(layout, image.digest, work / "run")
    served = root / "opt/insitu/model"
    files = {path.relative_to(served).as_posix() for path in served.rglob("*") if path.is_file()}
    assert files == {"metadata.json", "model.onnx"}
    metadata = json.loads((served / "metadata.json").read_bytes())
    assert metadata["runtime"] == "onnx"
    assert [column["type"] for column in metadata["columns"]] == ["string", "double", "long"]
    record = next((root / "opt/insitu/site-packages").glob("uvicorn-*.dist-info/RECORD")).read_text()
    assert "INSTALLER" not in record
    assert "bin/uvicorn" not in record


def test_a_model_served_by_mlflow_leaves_rows_and_identities_behind(model: Trained) -> None:
    entries = {entry.name: entry.source for entry in model_entries(model.folder, None)}
    assert not [name for name in entries if "example" in name]
    mlmodel = entries["opt/insitu/model/model/MLmodel"]
    assert isinstance(mlmodel, bytes)
    assert b"model_uuid" not in mlmodel
    assert b"input_example" not in mlmodel
    saved = yaml.safe_load((model.folder / "MLmodel").read_text())
    kept = identity_of(model.folder)
    assert kept["model_uuid"] == saved["model_uuid"]
    assert not [name for name in kept if "example" in name]


def test_the_configuration_needs_nothing_to_serve(image: Image, layout: LayoutImages) -> None:
    config = json.loads(BlobFolder(layout.root).path(image.config.digest).read_bytes())
    assert config["created"] == "2020-01-01T00:00:00Z"
    assert config["config"]["User"] == "10001:10001"
    assert config["config"]["ExposedPorts"] == {"5001/tcp": {}}
    assert config["config"]["Labels"] == {"io.insitu.model": "flights"}
    assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in image.layers]
    assert image.size_bytes < 120e6


def test_a_model_that_cannot_be_served_is_refused(model: Trained, tmp_path: Path) -> None:
    with pytest.raises(ImageFailed, match="not a model of MLflow's format"):
        assemble_image(spec_of(model, model_folder=tmp_path), tmp_path / "layout", tmp_path)
    copy = tmp_path / "model"
    shutil.copytree(model.folder, copy)
    unsigned = yaml.safe_load((copy / "MLmodel").read_text()) | {"signature": None}
    (copy / "MLmodel").write_text(yaml.safe_dump(unsigned))
    with pytest.raises(ImageFailed, match="no named columns"):
        assemble_image(spec_of(model, model_folder=copy), tmp_path / "layout", tmp_path)


def test_skopeo_reads_the_layout(image: Image, layout: LayoutImages) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("the Debian package skopeo is not installed")
    found = layout.resolve(image.digest)
    assert found is not None
    layout.tag("v7", *found)
    command = ["skopeo", "inspect", layout.reference("v7")]
    inspected = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert inspected["Digest"] == image.digest
    assert inspected["Layers"] == [layer.descriptor.digest for layer in image.layers]
