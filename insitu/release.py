"""From a trained model to a published image: register, containerize with proof, publish."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.crashpoints import crashpoint
from insitu.errors import ImageFailed
from insitu.gate import Decision
from insitu.images.assemble import ImageSpec, assemble_image
from insitu.images.environment import serving_requirements
from insitu.images.publish import Sent, publish_image
from insitu.lineage import EGRESS, significant
from insitu.ports import ImageRegistry, ModelVersion, Scorer
from insitu.runs import Run
from insitu.training import Trained
from insitu.wiring import CHAMPION

_RESIDENCY = "records stayed on site; what left is listed in the run record's egress"


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
    """Where the image went, and whether its model became the champion by it."""

    reference: str
    digest: str
    champion: bool


def note_egress(run: Run, sent: Sent) -> None:
    """Write down an object that is about to be handed to a registry; once, however often it is tried."""
    entries = run.journal.entry(EGRESS) or []
    if sent.to_json() not in entries:
        run.journal.keep(EGRESS, [*entries, sent.to_json()])


def record_run(run: Run, trained: Trained, decision: Decision) -> bool:
    """Record the run in the registry's experiment, whatever the verdict; keep a rejected model where that is policy.

    Return whether a rejected model was archived.
    """
    models, tags = run.site.models, run_tags(run, trained, decision)
    _note_tags(run, "run tags", tags)
    models.record(run.model.name, run.key, trained.job, tags)
    if decision.verdict == "promote" or not models.archives_rejected:
        return False
    version = register_model(run, trained, decision)
    models.archive(version.name, version.version)
    return True


def register_model(run: Run, trained: Trained, decision: Decision) -> ModelVersion:
    """Register the challenger with everything that leads back to its run; once per run key."""
    folder = run.site.jobs.output(trained.job) / "output" / "model"
    tags, models = run_tags(run, trained, decision), run.site.models
    for path, digest in trained.files.items():
        note_egress(run, Sent(f"model file {path}", models.place, (folder / path).stat().st_size, digest))
    _note_tags(run, "model tags", tags)
    return models.register(run.model.name, run.key, folder, tags)


def run_tags(run: Run, trained: Trained, decision: Decision) -> dict[str, str]:
    """Return what a registry is told of a run: where it came from, its verdict and its metrics."""
    return {
        "insitu.batch": run.batch.fingerprint,
        "insitu.code": run.code_hash,
        "insitu.site": run.site.name,
        "insitu.job": trained.job,
        "insitu.verdict": decision.verdict,
        "insitu.residency": _RESIDENCY,
        **{f"metric.{k}": f"{significant(v)}" for k, v in trained.metrics["challenger"].items()},
    }


def _note_tags(run: Run, what: str, tags: Mapping[str, str]) -> None:
    data = json.dumps(tags, sort_keys=True).encode()
    note_egress(run, Sent(what, run.site.models.place, len(data), sha256(data).hexdigest()))


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


def names(images: ImageRegistry, tag: str, digest: str) -> bool:
    """Tell whether *tag* names the image *digest*: assembled alone, an image is not published yet."""
    found = images.resolve(tag)
    return found is not None and found[0].digest == digest


def publish_model(
    run: Run, decision: Decision, version: ModelVersion, image: BuiltImage, on_progress: Callable[[float], None]
) -> Published:
    """Publish the image under its version, then make the version champion; repeating it sends nothing.

    The champion moves only from the version that the challenger was compared with: an old run that is
    finished late, or published to one more registry, leaves a newer champion alone.

    Raises:
        PublishFailed: The registry refuses, or gives back another digest than was sent.
    """
    model, sent_bytes = run.model.name, 0

    def note(sent: Sent) -> None:
        nonlocal sent_bytes
        note_egress(run, sent)
        sent_bytes += sent.size_bytes
        on_progress(min(1.0, sent_bytes / image.size_bytes))

    reigning = run.site.models.alias(model, CHAMPION)
    champion = reigning is None or reigning.version in (decision.champion, version.version)
    tags = (version.version, "latest") if champion else (version.version,)
    publication = publish_image(image.digest, run.site.layout(model), run.site.registry(model), tags, note)
    crashpoint("publish:pushed")
    facts = {"insitu.image": image.digest, "insitu.reference": publication.reference}
    run.site.models.tag(model, version.version, facts)
    crashpoint("publish:tagged")
    if champion:
        run.site.models.set_alias(model, CHAMPION, version.version)
    return Published(publication.reference, publication.digest, champion)
