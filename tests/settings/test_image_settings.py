"""The base that a site's images stand on: how it is named, and what a site is told of it before any run."""

from __future__ import annotations

from pathlib import Path

import pytest

from insitu.building import image_checks
from insitu.errors import SettingsError
from insitu.images.bases import BaseReference
from insitu.settings import load_site
from insitu.wiring import open_site

PROJECT = Path(__file__).parents[2]
DIGEST = f"sha256:{'a' * 64}"
BASE = "INSITU_SITE__IMAGES__BASE"


@pytest.mark.parametrize(
    ("text", "place", "tag", "digest", "name"),
    [
        (f"mcr.example/a/b@{DIGEST}", "mcr.example/a/b", "", DIGEST, "mcr.example/a/b"),
        (f"localhost:5000/a:3.12-slim@{DIGEST}", "localhost:5000/a", "3.12-slim", DIGEST, "localhost:5000/a:3.12-slim"),
        ("[::1]:5000/a:tag", "[::1]:5000/a", "tag", "", "[::1]:5000/a:tag"),
        ("docker.io/library/debian", "docker.io/library/debian", "latest", "", "docker.io/library/debian:latest"),
        (f"oci:/srv/bases@{DIGEST}", "oci:/srv/bases", "", DIGEST, ""),
        (f"oci:bases:debian@{DIGEST}", f"oci:{PROJECT}/bases", "debian", DIGEST, ""),
        ("oci:~/bases:12", f"oci:{Path.home()}/bases", "12", "", ""),
    ],
)
def test_a_base_is_named_as_images_are(text: str, place: str, tag: str, digest: str, name: str) -> None:
    named = load_site(PROJECT, "local", {BASE: text}).images.base
    assert named is not None
    reference = BaseReference.of(named)
    assert (reference.place, reference.tag, reference.digest, reference.name) == (place, tag, digest, name)


@pytest.mark.parametrize(
    "text",
    ["debian:12", f"library/debian@{DIGEST}", f"https://a.b/c@{DIGEST}", "a.b/C", "a.b/c@sha256:12", "oci:", "a.b/c:"],
)
def test_what_is_no_name_of_a_base_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="HOST/NAME@sha256"):
        load_site(PROJECT, "local", {BASE: text})


def test_without_a_base_and_a_daemon_nothing_is_looked_at_and_a_lost_base_is_a_finding(tmp_path: Path) -> None:
    images = {"INSITU_SITE__IMAGES__ROOT": str(tmp_path / "images")}
    assert image_checks(open_site(PROJECT, load_site(PROJECT, "local", images))) == []
    lost = load_site(PROJECT, "local", images | {BASE: f"oci:{tmp_path}/none@{DIGEST}"})
    (check,) = image_checks(open_site(PROJECT, lost))
    assert (check.name, check.ok, check.wanted) == ("base image", False, DIGEST)
    assert "does not have the base" in check.found
    assert not (tmp_path / "images").exists()
