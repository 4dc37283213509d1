"""Published versions without training: what comes of it is put where a run leaves it."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from insitu.adapters.local.images import LayoutImages
from insitu.cli import main
from insitu.deployments import Deployed, deploy_run
from insitu.gate import Decision
from insitu.images.manifest import CONFIG_TYPE, MANIFEST_TYPE, canonical, to_json
from insitu.lineage import close, now
from insitu.ports import Descriptor, ModelVersion
from insitu.release import BuiltImage, Published, publish_model
from insitu.rulings import judge, require_allowed
from insitu.runs import Run, open_run

REPO = Path(__file__).parents[2]
FILES = (
    "deployments/sites/local.toml",
    "models/flights/model.toml",
    "models/flights/train.py",
    "data_checks/flights.json",
)
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Estate:
    """A project on disk whose runs are released one after the other."""

    root: Path

    def configure(self, targets: str) -> None:
        """Let model.toml name targets."""
        with (self.root / "models/flights/model.toml").open("a") as file:
            file.write(targets)

    def arrive(self, month: int) -> None:
        path = self.root / f"var/blobs/flights/month={month:02d}/flights.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"flights of month %d" % month)

    def judged(self) -> Run:
        """Return the run of what lies there now: trained, judged against the champion, promoted."""
        run = open_run(self.root, "flights", "local")
        run.journal.once("snapshot", dict, lambda: {"started": now(), "batch": run.batch.to_json()})
        champion = run.site.models.alias("flights", "champion")
        trained = {"job": run.key, "rows": 100, "metrics": {"challenger": {"roc_auc": 0.7}}, "files": {}, "onnx": None}
        trained |= {"residency": None, "network": "none"}  # nobody scanned
        run.journal.keep("train", {"seconds": 1.0, "value": trained | {"backend": "process", "seconds": 1.0}})
        verdict = Decision("promote", ("roc_auc gains",), champion and champion.version)
        run.journal.again("gate", Decision, lambda: judge(run, verdict))
        return run

    def release(self, run: Run, state: str = "Completed") -> Published:
        """Register, build and publish what the run has trained; another call publishes again."""
        decision = Decision(**run.journal.entry("gate")["value"])
        version = run.journal.once("register", ModelVersion, lambda: _registered(run))
        image = run.journal.once("containerize", BuiltImage, lambda: _built(run, version.version))
        published = publish_model(run, decision, version, image, lambda _: None)
        run.journal.again(run.step_name("publish"), Published, lambda: published)
        close(run, state)
        return published

    def deploy(self, run: Run) -> list[Deployed]:
        """Deploy what the run has published."""
        value = {name: run.journal.entry(run.step_name(name))["value"] for name in ("gate", "register", "publish")}
        version, published = ModelVersion(**value["register"]), Published(**value["publish"])
        decision = Decision(**value["gate"])
        done = run.journal.again(
            "deploy", list[Deployed], lambda: deploy_run(run, run.key, decision, version, published)
        )
        close(run, "Completed")
        return done

    def next_version(self, month: int) -> str:
        """Let a month arrive and become the next published version; return its digest."""
        self.arrive(month)
        return self.release(self.judged()).digest

    def insitu(self, *arguments: str, exit_code: int = 0) -> Any:
        """Run a command of insitu with --json and return its answer."""
        done = CliRunner().invoke(main, [*arguments, "--json", "--project", str(self.root)])
        assert done.exit_code == exit_code, done.output
        return json.loads(done.stdout)

    @property
    def champion(self) -> str | None:
        found = open_run(self.root, "flights", "local").site.models.alias("flights", "champion")
        return found and found.version

    def tagged(self, tag: str) -> str:
        """Return the digest that a tag of the layout names."""
        found = LayoutImages(self.root / "var/images/flights").resolve(tag)
        assert found
        return found[0].digest


def _registered(run: Run) -> ModelVersion:
    folder = run.site.jobs.output(run.key) / "output" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text(f"run_key: {run.key}\n")
    return run.site.models.register("flights", run.key, folder, {})


def _built(run: Run, version: str) -> BuiltImage:
    """Put an image into the layout that holds a file in each of two layers: nobody starts it."""
    images = LayoutImages(run.site.settings.images.root / "flights")
    tars = [_tar("opt/python/bin/python3", b"no program"), _tar("opt/insitu/model/MLmodel", run.key.encode())]
    layers = [_blob(images, _LAYER, gzip.compress(tar, mtime=0), run) for tar in tars]
    decided = require_allowed(run).record.statement
    labels = {"io.insitu.model": "flights", "io.insitu.version": version, "io.insitu.run_key": run.key}
    labels |= {"io.insitu.batch_fingerprint": run.batch.fingerprint, "io.insitu.code": run.code_hash}
    labels |= {"io.insitu.decision": decided}
    settings = {"Env": [], "Entrypoint": ["/opt/python/bin/python3", "-m", "insitu_serving"], "Labels": labels}
    diff_ids = [f"sha256:{sha256(tar).hexdigest()}" for tar in tars]
    config = _blob(
        images,
        CONFIG_TYPE,
        canonical(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": settings,
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
                "history": [{"created_by": "insitu: base"}, {"created_by": "insitu: model"}],
            }
        ),
        run,
    )
    parts = {"mediaType": MANIFEST_TYPE, "schemaVersion": 2, "annotations": labels}
    manifest = canonical(parts | {"config": to_json(config), "layers": list(map(to_json, layers))})
    digest = f"sha256:{sha256(manifest).hexdigest()}"
    images.put_manifest(Descriptor(MANIFEST_TYPE, digest, len(manifest)), manifest)
    told = [
        {"title": title, "digest": layer.digest, "size_bytes": layer.size_bytes}
        for title, layer in zip(("base", "model"), layers, strict=True)
    ]
    return BuiltImage(digest, len(manifest), tuple(told), "onnx", 0.0, decision=decided)


def _tar(name: str, content: bytes) -> bytes:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return tar.getvalue()


def _blob(images: LayoutImages, kind: str, content: bytes, run: Run) -> Descriptor:
    descriptor = Descriptor(kind, f"sha256:{sha256(content).hexdigest()}", len(content))
    path = run.site.project / "blob"
    path.write_bytes(content)
    images.put_blob(descriptor, path)
    path.unlink()
    return descriptor
