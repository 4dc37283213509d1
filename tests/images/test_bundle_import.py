"""From one site to another by hand: what arrives is what was published there, or nothing is written."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attested import KEY, STRANGER, TRUSTED, Attested, record_of, tiny_image

from insitu.adapters.local.images import LayoutImages
from insitu.bundles import export_bundle, holdings, import_bundle
from insitu.errors import BundleRefused, InsituError, PublishFailed, SignatureRefused
from insitu.images.bundle import header, padding
from insitu.images.bundle_file import open_bundle, write_bundle
from insitu.images.client import RegistryImages
from insitu.images.publish import Sent
from insitu.images.statements import REQUIRED
from insitu.verifying import verify_image


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Attested:
    return tiny_image(tmp_path_factory.mktemp("site") / "tiny")


@pytest.fixture
def file(made: Attested, tmp_path: Path) -> Path:
    export_bundle(made.images, made.digest, tmp_path / "tiny.bundle", ("1", "latest"))
    return tmp_path / "tiny.bundle"


@pytest.fixture
def target(tmp_path: Path) -> LayoutImages:
    return LayoutImages(tmp_path / "target")


def untouched(images: LayoutImages) -> bool:
    return not images.root.exists()


def test_what_is_imported_is_what_was_exported_and_verifies_there(
    made: Attested, file: Path, target: LayoutImages, tmp_path: Path
) -> None:
    done = import_bundle(file, target, TRUSTED)
    assert (done.digest, done.model, done.version, done.tags) == (made.digest, "tiny", "1", ("1", "latest"))
    assert list(target.tags()) == ["1", "latest"]
    assert target.referrers(made.digest) == made.images.referrers(made.digest)
    assert verify_image(target, made.digest, TRUSTED).digest == made.digest
    export_bundle(target, made.digest, tmp_path / "again", ("1", "latest"))
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_a_tag_that_is_to_stay_stays(made: Attested, file: Path, target: LayoutImages) -> None:
    import_bundle(file, target, TRUSTED, leave=("latest",))
    assert list(target.tags()) == ["1"]


@pytest.mark.registry
def test_it_goes_into_a_registry_and_a_second_time_sends_nothing(
    made: Attested, file: Path, registry_host: str
) -> None:
    target = RegistryImages(registry_host, "imported")
    for count in (True, False):
        sent = list[Sent]()
        import_bundle(file, target, TRUSTED, on_send=sent.append)
        assert bool(sent) is count
    assert verify_image(target, made.digest, TRUSTED)


def test_signatures_of_a_stranger_are_refused_and_nothing_is_written(file: Path, target: LayoutImages) -> None:
    with pytest.raises(SignatureRefused, match="by a trusted key"):
        import_bundle(file, target, [STRANGER.public])
    assert untouched(target)


@pytest.mark.parametrize("kind", REQUIRED)
def test_a_bundle_that_leaves_out_an_attestation_is_refused(
    made: Attested, target: LayoutImages, tmp_path: Path, kind: str
) -> None:
    copy = made.copy(tmp_path / "copy")
    copy.drop(kind)
    export_bundle(copy.images, copy.digest, tmp_path / "less", ("1",))
    with pytest.raises(SignatureRefused, match=REQUIRED[kind]):
        import_bundle(tmp_path / "less", target, TRUSTED)
    assert untouched(target)


def test_a_byte_flipped_in_any_blob_is_refused_and_nothing_is_written(file: Path, target: LayoutImages) -> None:
    whole, taken, offset = file.read_bytes(), [], 0
    with open_bundle(file) as images:
        entries = list(images.bundle.entries)
    for name, size, _, _ in entries:
        spot = offset + len(header(name, size)) + size // 2
        file.write_bytes(whole[:spot] + bytes([whole[spot] ^ 4]) + whole[spot + 1 :])
        try:
            import_bundle(file, target, TRUSTED)
        except InsituError:
            assert untouched(target)
        else:
            taken.append(name)
        offset += len(header(name, size)) + size + len(padding(size))
    assert taken == []


def test_a_tag_that_nobody_has_signed_is_refused(made: Attested, file: Path, target: LayoutImages) -> None:
    with open_bundle(file) as images:
        forged = replace(images.bundle, tags=("1", "production"))
    write_bundle(forged, made.images, file, lambda done, size: None)
    with pytest.raises(BundleRefused, match="production"):
        import_bundle(file, target, TRUSTED)
    assert untouched(target)


def test_an_image_whose_override_has_ended_is_not_taken(file: Path, target: LayoutImages, tmp_path: Path) -> None:
    record = record_of(kind="override", who="ada", verdict="reject", expires="2020-12-31T23:59:59+00:00")
    ended = tiny_image(tmp_path / "ended", record=record)
    export_bundle(ended.images, ended.digest, file, ("1",))
    with pytest.raises(BundleRefused, match="may not be used any more") as refused:
        import_bundle(file, target, TRUSTED)
    assert "2020-12-31" in str(refused.value.found)
    assert untouched(target)


def test_a_version_of_another_image_is_not_taken(made: Attested, file: Path, tmp_path: Path) -> None:
    other = tiny_image(tmp_path / "other", "2")
    found = other.images.resolve(other.digest)
    assert found
    other.images.tag("1", *found)
    with pytest.raises(PublishFailed, match="names another image already"):
        import_bundle(file, other.images, TRUSTED)
    assert not other.images.has_blob(made.digest)


def test_a_bundle_without_what_the_receiver_has_needs_that(
    made: Attested, file: Path, target: LayoutImages, tmp_path: Path
) -> None:
    newer = tiny_image(tmp_path / "newer", "2")
    have = set(holdings(made.images)["blobs"]) if made.images.tags() else set()
    have |= {one.digest for one in _layers(made)}
    small = export_bundle(newer.images, newer.digest, tmp_path / "delta", ("2", "latest"), have)
    assert len(small.without) == 3
    with pytest.raises(BundleRefused, match="without 3 layers") as refused:
        import_bundle(tmp_path / "delta", target, TRUSTED)
    assert untouched(target)
    assert all(one.digest in str(refused.value) for one in small.without)
    import_bundle(file, target, TRUSTED)
    import_bundle(tmp_path / "delta", target, TRUSTED)
    assert verify_image(target, newer.digest, TRUSTED)
    assert target.resolve("latest") == newer.images.resolve(newer.digest)


def test_a_base_that_was_damaged_where_it_is_to_go_is_seen(made: Attested, file: Path, target: LayoutImages) -> None:
    import_bundle(file, target, TRUSTED)
    layer = _layers(made)[0]
    path = target.local_blob(layer.digest)
    assert path
    path.write_bytes(bytes(layer.size_bytes))
    export_bundle(made.images, made.digest, file, ("1", "latest"), [layer.digest])
    with pytest.raises(PublishFailed, match="is not what was read"):
        import_bundle(file, target, TRUSTED)


def _layers(made: Attested) -> list[Any]:
    from insitu.images.manifest import parts_of

    found = made.images.resolve(made.digest)
    assert found
    return list(parts_of(found[1])[1])


# --- on the command line, without a project ---


def insitu(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "insitu", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_machine_that_has_only_insitu_imports_and_tells_what_it_has(made: Attested, file: Path) -> None:
    folder = file.parent
    (folder / "site.pub").write_bytes(KEY.public.pem)
    unclear = insitu(folder, "bundle", "import", "tiny.bundle", "--key", "site.pub", "--json")
    assert unclear.returncode == 2
    assert "--to" in json.loads(unclear.stdout)["error"]["wanted"]
    unsigned = insitu(folder, "bundle", "import", "tiny.bundle", "--to", "oci:edge/tiny")
    assert (unsigned.returncode, "--key" in unsigned.stderr) == (2, True)
    done = insitu(folder, "bundle", "import", "tiny.bundle", "--to", "oci:edge/tiny", "--key", "site.pub", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["reference"], told["digest"]) == ("oci:edge/tiny:1", made.digest)
    assert told["sent"]
    listed = json.loads(insitu(folder, "bundle", "list", "--in", "oci:edge/tiny", "--json").stdout)
    assert listed["images"] == {"1": made.digest, "latest": made.digest}
    assert listed["blobs"] == sorted(one.digest for one in _layers(made))
