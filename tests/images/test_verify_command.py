"""`insitu verify` as auditors meet it: an image or a bundle, a public key, and no project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attested import KEY, STRANGER, Attested, tiny_image
from click.testing import CliRunner, Result

from insitu.bundles import export_bundle
from insitu.cli import main
from insitu.images.statements import SBOM


@pytest.fixture
def ours(tmp_path: Path) -> Attested:
    made = tiny_image(tmp_path / "a layout: of ours")
    made.images.tag("1", made.image, (made.images.resolve(made.digest) or pytest.fail("it is there"))[1])
    (tmp_path / "ours.pub").write_bytes(KEY.public.pem)
    (tmp_path / "strange.pub").write_bytes(STRANGER.public.pem)
    return made


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No project is anywhere above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INSITU_PROJECT", raising=False)


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["verify", *arguments])


def test_an_image_is_verified_by_tag_and_by_digest_and_the_proof_is_told_line_by_line(ours: Attested) -> None:
    for reference in (ours.images.reference("1"), ours.images.reference(ours.digest)):
        done = verify(reference, "--key", "ours.pub")
        assert (done.exit_code, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert lines[0] == f"{reference}: verified"
        assert f"  signed by  {KEY.public.id}" in lines
        assert sum(line.startswith("  proved ") for line in lines) == 7
        assert "  NOT proved that no record left: no residency statement" in lines


def test_a_tag_that_is_a_version_names_the_image_of_that_version(ours: Attested) -> None:
    found = ours.images.resolve("1")
    assert found
    ours.images.tag("8", *found)
    done = verify(ours.images.reference("8"), "--key", "ours.pub")
    assert done.exit_code == 1
    assert "the image of another version" in done.stderr


def test_as_json_it_is_one_value_for_a_proof_and_for_a_refusal(ours: Attested) -> None:
    told = json.loads(verify(ours.images.reference("1"), "--key", "ours.pub", "--json", "--quick").stdout)
    assert (told["verified"], told["digest"], told["facts"]["version"]) == (True, ours.digest, "1")
    assert "what the layers hold: they were not read (--quick)" in told["unproved"]
    done = verify(ours.images.reference("1"), "--key", "strange.pub", "--json")
    assert done.exit_code == 1
    error = json.loads(done.stdout)["error"]
    assert (error["code"], KEY.public.id[:12] in error["found"]) == ("E-SIG", True)


def test_a_bundle_is_verified_and_one_with_another_byte_is_refused(ours: Attested) -> None:
    made = export_bundle(ours.images, ours.digest, Path("tiny.bundle"), ["1"])
    assert verify("tiny.bundle", "--key", "ours.pub").exit_code == 0
    content = bytearray(Path("tiny.bundle").read_bytes())
    content[len(content) // 2] ^= 1
    Path("tiny.bundle").write_bytes(content)
    done = verify("tiny.bundle", "--key", "ours.pub")
    assert (done.exit_code, "E-BUN" in done.stderr) == (1, True)
    assert made.digest == ours.digest


def test_what_was_altered_is_named_and_the_exit_code_is_1(ours: Attested) -> None:
    ours.forge(SBOM, lambda bundle: bundle["dsseEnvelope"].update(payload="e30="))
    done = verify(ours.images.reference("1"), "--key", "ours.pub")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("E-SIG the SBOM (sha256:")


@pytest.mark.parametrize(
    ("image", "key", "said"),
    [
        ("oci:a layout: of ours:1", None, "no key is known"),
        ("oci:a layout: of ours:1", "nowhere.pub", "cannot be read"),
        ("oci:a layout: of ours:2", "ours.pub", "has no image 2"),
        ("oci:nowhere:1", "ours.pub", "has no image 1"),
        ("flights", "ours.pub", "names no repository of images"),
        ("a layout: of ours", "ours.pub", "say oci:a layout: of ours, then :TAG"),
        ("./tiny.bundle", "ours.pub", "cannot be read"),
        ("tiny.bundle", "ours.pub", "No such file"),
        ("away/tiny.bundle", "ours.pub", "No such file"),
    ],
)
def test_what_cannot_be_meant_has_the_exit_code_2(ours: Attested, image: str, key: str | None, said: str) -> None:
    done = verify(image, *(["--key", key] if key else []))
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
