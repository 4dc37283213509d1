"""From a trained model to a published image: register, containerize with proof, publish."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

from insitu.crashpoints import crashpoint
from insitu.decisions import Kept
from insitu.errors import DecisionRefused, ImageFailed, TrainingFailed
from insitu.files import file_digests
from insitu.gate import PUBLISHED, Decision
from insitu.images.assemble import ImageSpec, assemble_image
from insitu.images.environment import serving_requirements
from insitu.images.publish import Sent, publish_image
from insitu.limits import exceeded
from insitu.lineage import EGRESS, LIMITS, significant
from insitu.ports import ImageRegistry, ModelVersion, Scorer
from insitu.rulings import require_allowed
from insitu.runs import Run
from insitu.settings import ModelSettings
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
        decision: Digest of the decision that its label names (`Record.statement`).
        latency_ms: Milliseconds that its server took for one row, by the median of the golden rows.
        peak_memory_bytes: Most memory that its server took; None where the system does not tell.
    """

    digest: str
    size_bytes: int
    layers: tuple[dict[str, Any], ...]
    runtime: str
    max_difference: float
    decision: str = ""
    latency_ms: float | None = None
    peak_memory_bytes: int | None = None


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
    open_still = decision.outcome in (*PUBLISHED, "AwaitingApproval", "Expired")
    if decision.verdict == "promote" or open_still or not models.archives_rejected:
        return False
    version = register_model(run, trained, decision)
    models.archive(version.name, version.version)
    return True


def register_model(run: Run, trained: Trained, decision: Decision) -> ModelVersion:
    """Register the challenger with everything that leads back to its run; once per run key."""
    require_what_was_judged(run, trained)
    folder = run.site.jobs.output(trained.job) / "output" / "model"
    tags, models = run_tags(run, trained, decision), run.site.models
    for path, digest in trained.files.items():
        note_egress(run, Sent(f"model file {path}", models.place, (folder / path).stat().st_size, digest))
    _note_tags(run, "model tags", tags)
    return models.register(run.model.name, run.key, folder, tags)


def require_what_was_judged(run: Run, trained: Trained) -> None:
    """Raise `TrainingFailed` when the model's files are not those that were judged: they lay there for a while."""
    output = run.site.jobs.output(trained.job) / "output"
    found = file_digests(output / "model")
    changed = {name for name in {*found, *trained.files} if found.get(name) != trained.files.get(name)}
    export = output / "model.onnx"
    if trained.onnx and (not export.is_file() or sha256(export.read_bytes()).hexdigest() != trained.onnx.get("sha256")):
        changed.add(export.name)
    if changed:
        raise TrainingFailed(
            "the files of the trained model are not those that were judged",
            found=f"others in {output}: {', '.join(sorted(changed)[:5])}",
            wanted="the bytes that the holdout was scored with",
            next_action="restore them from a backup, or change a [train.params] value: that makes it a new run",
        )


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
        TrainingFailed: The files are not those that were judged.
        DecisionRefused: No decision on record allows publishing the model.
    """
    decided = require_allowed(run).record.statement
    require_what_was_judged(run, trained)
    job = run.site.jobs.output(trained.job)
    facts = {
        "model": run.model.name,
        "version": version.version,
        "run_key": run.key,
        "batch_fingerprint": run.batch.fingerprint,
        "code": run.code_hash,
    }
    images, spec = run.site.settings.images.root, image_spec(run.model, job, trained.onnx, facts, decided)
    image = assemble_image(spec, layout=images / run.model.name, work=images / ".cache")
    crashpoint("containerize:assembled")
    with run.site.scoring.run(run.site.layout(run.model.name), image.digest) as scorer:
        gap = compare_answers(scorer, job / "golden.json", run.model.smoke.tolerance)
        latency_ms, memory = median_latency_ms(scorer, job / "golden.json"), scorer.peak_memory_bytes()
    return BuiltImage(
        digest=image.digest,
        size_bytes=image.size_bytes,
        layers=tuple(
            {"title": layer.title, "digest": layer.descriptor.digest, "size_bytes": layer.descriptor.size_bytes}
            for layer in image.layers
        ),
        runtime="onnx" if spec.onnx else "pyfunc",
        max_difference=gap,
        decision=decided,
        latency_ms=latency_ms,
        peak_memory_bytes=memory,
    )


def image_spec(
    model: ModelSettings, job: Path, onnx: Mapping[str, Any] | None, facts: Mapping[str, str], decided: str
) -> ImageSpec:
    """Return what goes into the image of the model that was left in *job*: the same *facts*, the same digest."""
    portable, folder = bool(onnx and onnx["usable"]), job / "output" / "model"
    own = () if portable else model.train.requirements
    return ImageSpec(
        model_folder=folder,
        onnx=job / "output" / "model.onnx" if portable else None,
        requirements=(*serving_requirements(folder, "onnx" if portable else "pyfunc"), *own),
        metadata={**facts, "task": model.target.task},
        labels={f"io.insitu.{key}": value for key, value in {**facts, "decision": decided}.items()},
    )


def median_latency_ms(scorer: Scorer, golden: Path) -> float:
    """Return how many milliseconds a request for one golden row takes, by the median over them."""
    request, taken_ms = json.loads(golden.read_text())["request"]["dataframe_split"], []
    for row in request["data"]:
        body = json.dumps({"dataframe_split": {**request, "data": [row]}}).encode()
        started = time.perf_counter()
        scorer.request("POST", "/score", body)
        taken_ms.append((time.perf_counter() - started) * 1000)
    return round(median(taken_ms), 2)


def keep_to_limits(run: Run, decision: Decision, version: ModelVersion, image: BuiltImage) -> Decision:
    """Return *decision*, or a rejection where the image is beyond a limit; the version is archived then.

    Raises:
        ImageFailed: It is the champion's image that is beyond a limit.
    """
    over = tuple(exceeded(run.model.limits, image.size_bytes, image.latency_ms, image.peak_memory_bytes))
    if not over:
        return decision
    champion = run.site.models.alias(version.name, CHAMPION)
    if champion and champion.version == version.version:  # its image was lost and is made anew
        raise ImageFailed(
            f"the image of {version.name} version {version.version}, which is the champion, is over a limit now",
            found="; ".join(over),
            next_action="see what else keeps this machine busy, or raise the limit; then start the run again",
        )
    run.site.models.archive(version.name, version.version)
    rejected = replace(decision, verdict="reject", reasons=over, outcome="Rejected")
    run.journal.keep(LIMITS, list(over))
    run.journal.keep("gate", {**run.journal.entry("gate"), "value": asdict(rejected)})
    return rejected


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
        DecisionRefused: No decision on record allows it, or the image is labelled with another one.
        SignatureRefused: What is on record is not what a trusted key has signed.
        PublishFailed: The registry refuses, or gives back another digest than was sent.
    """
    model, sent_bytes, allowed = run.model.name, 0, _require_decision(run, image)

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
    facts = {"insitu.image": image.digest, "insitu.reference": publication.reference, **decision_tags(allowed)}
    _note_tags(run, "decision tags", facts)
    run.site.models.tag(model, version.version, facts)
    crashpoint("publish:tagged")
    if champion:
        run.site.models.set_alias(model, CHAMPION, version.version)
    return Published(publication.reference, publication.digest, champion)


def decision_tags(allowed: Kept) -> dict[str, str]:
    """Return what the registered version tells of the decision that let it be published."""
    record = allowed.record
    tags = {"insitu.decision": allowed.digest, "insitu.decision.kind": record.kind, "insitu.approver": record.who}
    return tags | ({"insitu.decision.expires": record.expires} if record.expires else {})


def _require_decision(run: Run, image: BuiltImage) -> Kept:
    allowed = require_allowed(run)
    if image.decision != allowed.record.statement:
        raise DecisionRefused(
            f"the image of run {run.key[:12]} is labelled with another decision than the one on record",
            found=image.decision or "none",
            wanted=allowed.record.statement,
            next_action="start the run again: the image is built anew",
        )
    return allowed
