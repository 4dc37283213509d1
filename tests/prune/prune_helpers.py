"""A site with runs of the past, made of any bytes; its model registry is a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from small_images import attach, small_image

from insitu.adapters.local.images import LayoutImages
from insitu.images.manifest import parts_of
from insitu.journal import Journal, write_json
from insitu.ports import ModelVersion
from insitu.pruning import prune
from insitu.recorded import keep_record
from insitu.removal import Item, Stay
from insitu.reports import page_of, write_private
from insitu.settings import RetentionSettings, load_site
from insitu.wiring import Site, open_site

PROJECT = Path(__file__).parents[2]
NOW = datetime.now(UTC)
RULES = RetentionSettings(keep_versions=2, keep_days=30)


@dataclass(frozen=True)
class FolderModels:
    """Versions as folders, aliases as files."""

    root: Path

    def versions(self, model: str) -> Sequence[ModelVersion]:
        found = sorted((self.root / model).glob("[0-9]*"), key=lambda path: int(path.name))
        return [ModelVersion(model, path.name, path.as_uri()) for path in found]

    def alias(self, model: str, alias: str) -> ModelVersion | None:
        version = self.aliases(model).get(alias)
        return ModelVersion(model, version, "") if version else None

    def aliases(self, model: str) -> Mapping[str, str]:
        return {path.stem: path.read_text() for path in (self.root / model).glob("*.alias")}

    def set_alias(self, model: str, alias: str, version: str) -> None:
        (self.root / model / f"{alias}.alias").write_text(version)

    def remove(self, model: str, version: str) -> None:
        shutil.rmtree(self.root / model / version, ignore_errors=True)


def a_site(root: Path, **changes: Any) -> Site:
    """Return a site whose files are below *root*."""
    (root / "deployments/sites").mkdir(parents=True)
    (root / "models").mkdir()
    shutil.copy(PROJECT / "deployments/sites/local.toml", root / "deployments/sites/local.toml")
    settings = load_site(root, "local", {}).model_copy(update=changes)
    models: Any = FolderModels(root / "var/versions")
    return replace(open_site(root, settings), models=models)


def key_of(number: int, model: str = "flights") -> str:
    """Return the key of a run."""
    return sha256(f"{model} {number}".encode()).hexdigest()


def add_run(site: Site, number: int, days: int, model: str = "flights", **changes: Any) -> dict[str, Any]:
    """Let a run have ended *days* ago, with everything that one leaves; it published version *number*."""
    key, version = key_of(number, model), str(number)
    images, digest = small_image(site.settings.images.root / model, version, salt=f"{model} {number}")
    attach(images, digest, b"about %d" % number)
    record = {
        "run_key": key,
        "model": model,
        "state": "Completed",
        "finished": (NOW - timedelta(days=days)).isoformat(timespec="seconds"),
        "decision": {"champion": str(number - 1) if number > 1 else None, "outcome": "Promoted"},
        "model_version": {"name": model, "version": version},
        "image": {"digest": digest, "size_bytes": 1},
        "publication": {"reference": images.reference(version), "digest": digest, "champion": True},
        **changes,
    }
    audited = ("waived", "blob-names", "egress", "egress-signed", "egress-head")
    for what in ("snapshot", "train", "containerize", "report", *audited):
        write_json(site.state, f"runs/{model}/{key}/{what}.json", {"of": number})
    record = keep_record(Journal(site.state, model, key), site.keys, record)
    write_json(site.state, f"jobs/{key}/spec.json", {"of": number})
    for path in (
        site.project / "var/jobs" / key / "golden.json",
        site.project / "var/versions" / model / version / "m",
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(1000))
    page = page_of(site.project / "var", record)
    write_private(page.parents[1], page, "values of the data")
    if record["publication"] is None:
        for tag in (version, "latest"):
            images.untag(tag)
    else:
        FolderModels(site.project / "var/versions").set_alias(model, "champion", version)
    return record


def names(items: Sequence[Item]) -> set[tuple[str, str]]:
    """Return which kinds of things of which runs go."""
    return {(item.of.partition(",")[0], item.kind) for item in items}


def why(staying: Sequence[Stay]) -> dict[str, tuple[str, ...]]:
    """Return why each run stays, by its version."""
    return {stay.of.partition(",")[0].removeprefix("version "): stay.why for stay in staying}


def prune_all(site: Site, rules: RetentionSettings = RULES, **options: Any) -> tuple[list[Item], list[Stay]]:
    """Prune the site as of `NOW`."""
    return prune(site, None, rules, NOW, **options)


def require_sound(images: LayoutImages) -> None:
    """Assert that what tags name, and what is said about it, is whole."""
    for tag in images.tags():
        there = images.resolve(tag)
        assert there
        manifests = [there[1], *(found[1] for one in images.referrers(there[0].digest) if (found := _got(images, one)))]
        for manifest in manifests:
            config, layers = parts_of(manifest)
            assert [one.digest for one in (config, *layers) if not images.has_blob(one.digest)] == []


def _got(images: LayoutImages, one: Any) -> Any:
    found = images.resolve(one.digest)
    assert found
    return found


def tree(root: Path) -> dict[str, bytes]:
    """Return the files below *root* but hidden ones and leases, which tell when somebody was there."""
    files = (path for path in root.rglob("*") if path.is_file())
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if "/." not in name and "/leases/" not in name}


def age(path: Path, days: float) -> None:
    """Let *path* have lain there for *days*."""
    then = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (then, then))
