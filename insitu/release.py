"""From a trained model to a published image: register, containerize with proof, publish."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.crashpoints import crashpoint
from insitu.errors import ImageFailed
from insitu.gate import Decision
from insitu.images.assemble import ImageSpec, assemble_image
from insitu.images.environment import serving_requirements
from insitu.images.publish import Sent, publish_image
from insitu.lineage import significant
from insitu.ports import ModelVersion, Scorer
from insitu.runs import Run
from insitu.training import Trained
from insitu.wiring import CHAMPION


@dataclass(frozen=True)
class Egress:
    """One object that was handed to a registry: where it went and which bytes."""

    what: str
    destination: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Registered:
    """A registered version and what was handed over for it."""

    version: ModelVersion
    egress: tuple[Egress, ...]


@dataclass(frozen=True)
class BuiltImage:
    """An image in the site's layout that has answered the golden rows.

    Attributes:
        layers: Per layer: what it holds, digest, size_bytes.
        runtime: What answers in it: `onnx` or `pyfunc`.
        max_difference: Largest deviation from the trained model's answers over the golden rows.
    """

    digest: str
    size_bytes: int
    layers: tuple[dict[str, Any], ...]
    runtime: str
    max_difference: float


@dataclass(frozen=True)
class Published:
    """Where the image went."""

    reference: str
    digest: str
    egress: tuple[Egress, ...]


def register_model(run: Run, trained: Trained, decision: Decision) -> Registered:
    """Register the challenger with everything that leads back to its run; once per run key."""
    folder = run.site.jobs.output(trained.job) / "output" / "model"
    tags = {
        "insitu.batch": run.batch.fingerprint,
        "insitu.code": run.code_hash,
        "insitu.site": run.site.name,
        "insitu.verdict": decision.verdict,
        **{f"metric.{k}": f"{significant(v)}" for k, v in trained.metrics["challenger"].items()},
    }
    version = run.site.models.register(run.model.name, run.key, folder, tags)
    destination = run.site.settings.models.uri
    files = [(f"model file {path}", folder / path, digest) for path, digest in trained.files.items()]
    sent = [Egress(what, destination, path.stat().st_size, digest) for what, path, digest in files]
    tag_bytes = json.dumps(tags, sort_keys=True).encode()
    sent.append(Egress("model tags", destination, len(tag_bytes), sha256(tag_bytes).hexdigest()))
    return Registered(version, tuple(sent))


def containerize_model(run: Run, trained: Trained, version: ModelVersion) -> BuiltImage:
    """Assemble the image and prove that its server answers as the trained model does.

    Raises:
        ImageFailed: The image cannot be assembled, does not start or answers differently.
    """
    job = run.site.jobs.output(trained.job)
    portable = bool(trained.onnx and trained.onnx["usable"])
    facts = {
        "model": run.model.name,
        "version": version.version,
        "run_key": run.key,
        "batch_fingerprint": run.batch.fingerprint,
        "code": run.code_hash,
    }
    model_folder, images = job / "output" / "model", run.site.settings.images.root
    own = () if portable else run.model.train.requirements
    image = assemble_image(
        ImageSpec(
            model_folder=model_folder,
            onnx=job / "output" / "model.onnx" if portable else None,
            requirements=(*serving_requirements(model_folder, "onnx" if portable else "pyfunc"), *own),
            metadata=facts | {"task": run.model.target.task},
            labels={f"io.insitu.{key}": value for key, value in facts.items()},
        ),
        layout=images / run.model.name,
        work=images / ".cache",
    )
    crashpoint("containerize:assembled")
    with run.site.scoring.run(run.site.layout(run.model.name), image.digest) as scorer:
        gap = compare_answers(scorer, job / "golden.json", run.model.smoke.tolerance)
    return BuiltImage(
        digest=image.digest,
        size_bytes=image.size_bytes,
        layers=tuple(
            {"title": layer.title, "digest": layer.descriptor.digest, "size_bytes": layer.descriptor.size_bytes}
            for layer in image.layers
        ),
        runtime="onnx" if portable else "pyfunc",
        max_difference=gap,
    )


def compare_answers(scorer: Scorer, golden: Path, tolerance: float) -> float:
    """Return how far the server's answers to the golden rows are from the model's; raise `ImageFailed`."""
    import numpy as np

    expected = json.loads(golden.read_text())
    status, body = scorer.request("POST", "/score", json.dumps(expected["request"]).encode())
    if status != 200:
        raise ImageFailed("the image refuses the golden rows", found=f"status {status}", wanted="status 200")
    answers = np.asarray(json.loads(body)["predictions"], dtype=np.float64)
    wanted = np.asarray(expected["predictions"], dtype=np.float64)
    if answers.shape != wanted.shape:
        raise ImageFailed(
            "the image answers in another shape than the trained model",
            found=str(answers.shape),
            wanted=str(wanted.shape),
        )
    gap = float(np.abs(answers - wanted).max())
    if not gap <= tolerance:  # NaN is not within any tolerance
        raise ImageFailed(
            "the image answers differently from the trained model",
            found=f"a difference of {gap:.3g} over {len(wanted)} golden rows",
            wanted=f"at most {tolerance:g} (smoke.tolerance)",
        )
    return gap


def publish_model(
    run: Run, version: ModelVersion, image: BuiltImage, on_progress: Callable[[float], None]
) -> Published:
    """Publish the image under its version, then make the version champion; repeating it sends nothing.

    Raises:
        PublishFailed: The registry refuses, or gives back another digest than was sent.
    """
    model, ledger = run.model.name, f"egress-{run.step_name('publish')}"
    # Kept as it happens: an attempt that was killed has sent what it has sent.
    egress = [Egress(**entry) for entry in run.journal.entry(ledger) or ()]

    def note(sent: Sent) -> None:
        egress.append(Egress(sent.what, sent.destination, sent.size_bytes, sent.sha256))
        run.journal.keep(ledger, [asdict(entry) for entry in egress])
        on_progress(min(1.0, sum(entry.bytes for entry in egress) / image.size_bytes))

    source, target = run.site.layout(model), run.site.registry(model)
    publication = publish_image(image.digest, source, target, (version.version, "latest"), note)
    crashpoint("publish:pushed")
    tags = {"insitu.image": image.digest, "insitu.reference": publication.reference}
    run.site.models.tag(model, version.version, tags)
    crashpoint("publish:tagged")
    run.site.models.set_alias(model, CHAMPION, version.version)
    return Published(publication.reference, publication.digest, tuple(egress))
