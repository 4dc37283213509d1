"""From a trained model to a published image: register, containerize with proof, publish."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.attesting import attest_image
from insitu.building import build_image
from insitu.capacity import note_leaving, note_metrics, over
from insitu.crashpoints import crashpoint
from insitu.decisions import Kept
from insitu.errors import DecisionRefused, ImageFailed, TrainingFailed
from insitu.files import file_digests
from insitu.gate import PUBLISHED, Decision
from insitu.images.assemble import ImageSpec
from insitu.images.contents import identity_of
from insitu.images.described import LABEL, REVISION, TITLE, VERSION
from insitu.images.environment import serving_requirements
from insitu.images.publish import Progress, Sent, publish_image
from insitu.leases import alone_with
from insitu.limits import exceeded
from insitu.lineage import LIMITS, significant
from insitu.ports import ImageRegistry, ModelVersion
from insitu.rulings import require_allowed
from insitu.runs import Run
from insitu.settings import ModelSettings
from insitu.smoke import try_image
from insitu.training import Trained, told_of_export
from insitu.wiring import CHAMPION


@dataclass(frozen=True)
class BuiltImage:
    """An image in the site's layout that has answered the golden rows.

    Attributes:
        layers: Per layer: what it holds, digest, size_bytes.
        runtime: What answers in it: `onnx` or `pyfunc`.
        max_difference: Largest deviation from the trained model's answers over the golden rows; None when not asked.
        decision: Digest of the decision that its label names (`Record.statement`).
        revision: The git commit of the model's files; None where that is not known.
        latency_ms: Milliseconds that its server took for one row, by the median of golden rows.
        peak_memory_bytes: Most memory that its server took; None where the system does not tell.
        smoke: How its server was kept in while it was tried, see `insitu.smoke.Tried`.
        because: Why this is what answers in it.
        mlflow: What MLflow wrote anew when it saved the model (uuid, time, ...), which is not in the image.
    """

    digest: str
    size_bytes: int
    layers: tuple[dict[str, Any], ...]
    runtime: str
    max_difference: float | None
    decision: str = ""
    latency_ms: float | None = None
    peak_memory_bytes: int | None = None
    revision: str | None = None
    smoke: dict[str, Any] = field(default_factory=dict)
    because: str = ""
    mlflow: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """Where the image went, and whether its model became the champion by it."""

    reference: str
    digest: str
    champion: bool


def record_run(run: Run, trained: Trained, decision: Decision) -> bool:
    """Record the run in the registry's experiment, whatever the verdict; keep a rejected model where that is policy.

    Return whether a rejected model was archived.
    """
    models, tags = run.site.models, run_tags(run, trained, decision)
    note_metrics(run)
    run.door.words("run tags", models.place, tags)
    models.record(run.model.name, run.key, trained.job, tags)
    open_still = decision.outcome in (*PUBLISHED, "AwaitingApproval", "Expired")
    if decision.verdict == "promote" or open_still or not models.archives_rejected or over(run):
        return False
    version = register_model(run, trained, decision)
    models.archive(version.name, version.version)
    return True


def register_model(run: Run, trained: Trained, decision: Decision) -> ModelVersion:
    """Register the challenger with everything that leads back to its run; once per run key.

    Raises:
        TrainingFailed: The files are not those that were judged.
        LeakFound: What was waived is not waived any more.
        DecisionRefused: It has room for more rows than it may, and nobody has agreed.
    """
    require_what_was_judged(run, trained)
    folder = run.site.jobs.output(trained.job) / "output" / "model"
    tags, models = run_tags(run, trained, decision), run.site.models
    with note_leaving(run):
        if over(run):  # also where another model has left since the gate, or since a person decided
            require_allowed(run)
        for path, digest in trained.files.items():
            sent = Sent(f"model file {path}", models.place, (folder / path).stat().st_size, digest)
            run.door.file(sent, trained.residency)
        run.door.words("model tags", models.place, tags)
    return models.register(run.model.name, run.key, folder, tags)


def require_what_was_judged(run: Run, trained: Trained) -> None:
    """Raise `TrainingFailed` when the model's files are not those that were judged: they lay there for a while."""
    output = run.site.jobs.output(trained.job) / "output"
    found = file_digests(output / "model", hidden=True)
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
        "insitu.residency": trained.residency["verdict"] if trained.residency else "not scanned",
        **{f"metric.{k}": f"{significant(v)}" for k, v in trained.metrics["challenger"].items()},
    }


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
    revision = run.revision
    spec = image_spec(run.model, job, trained.onnx, facts, decided, revision)
    image = build_image(run.site, run.model.name, spec)
    crashpoint("containerize:assembled")
    golden, layout = job / "golden.json", run.site.layout(run.model.name)
    tried = try_image(run.site.scoring, layout, image.digest, golden, run.model.smoke.tolerance, run.model.limits)
    return BuiltImage(
        digest=image.digest,
        size_bytes=image.size_bytes,
        layers=tuple(
            {"title": layer.title, "digest": layer.descriptor.digest, "size_bytes": layer.descriptor.size_bytes}
            for layer in image.layers
        ),
        runtime="onnx" if spec.onnx else "pyfunc",
        max_difference=tried.max_difference,
        decision=decided,
        latency_ms=tried.latency_ms,
        peak_memory_bytes=tried.peak_memory_bytes,
        smoke=dict(tried.smoke),
        because=told_of_export(trained.onnx),
        revision=revision,
        mlflow=identity_of(spec.model_folder),
    )


def image_spec(
    model: ModelSettings,
    job: Path,
    onnx: Mapping[str, Any] | None,
    facts: Mapping[str, str],
    decided: str,
    revision: str | None = None,
) -> ImageSpec:
    """Return what goes into the image of the model that was left in *job*: the same *facts*, the same digest."""
    portable, folder = bool(onnx and onnx["usable"]), job / "output" / "model"
    own = () if portable else model.train.requirements
    standard = {TITLE: facts["model"], VERSION: facts["version"], **({REVISION: revision} if revision else {})}
    return ImageSpec(
        model_folder=folder,
        onnx=job / "output" / "model.onnx" if portable else None,
        requirements=(*serving_requirements(folder, "onnx" if portable else "pyfunc"), *own),
        metadata={**facts, "task": model.target.task},
        labels={**{f"{LABEL}{key}": value for key, value in {**facts, "decision": decided}.items()}, **standard},
    )


def keep_to_limits(run: Run, decision: Decision, version: ModelVersion, image: BuiltImage) -> Decision:
    """Return *decision*, or a rejection where the image is beyond a limit; the version is archived then.

    Raises:
        ImageFailed: It is the champion's image that is beyond a limit.
    """
    ended = bool(image.smoke.get("ended"))
    over = tuple(exceeded(run.model.limits, image.size_bytes, image.latency_ms, image.peak_memory_bytes, ended=ended))
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


def names(images: ImageRegistry, tag: str, digest: str) -> bool:
    """Tell whether *tag* names the image *digest*: assembled alone, an image is not published yet."""
    found = images.resolve(tag)
    return found is not None and found[0].digest == digest


def publish_model(
    run: Run, decision: Decision, version: ModelVersion, image: BuiltImage, on_progress: Callable[[Progress], None]
) -> Published:
    """Attest the image, publish it under its version, make the version champion; repeating it sends nothing.

    The champion moves only from the version that the challenger was compared with: an old run that is
    finished late, or published to one more registry, leaves a newer champion alone. And a version that people
    have rolled back from does not come back by itself.

    Raises:
        DecisionRefused: No decision on record allows it, or the image is labelled with another one.
        SignatureRefused: What is on record is not what a trusted key has signed.
        PublishFailed: The registry refuses, or gives back another digest than was sent.
    """
    model, allowed = run.model.name, _require_decision(run, image)
    attest_image(run, image.digest, allowed)
    scan = run.journal.entry("train")["value"]["residency"]
    layout, registry = run.site.layout(model), run.site.registry(model)
    let_out = run.door.image(layout, image.layers, scan)
    publication = publish_image(image.digest, layout, registry, (version.version,), let_out, on_progress=on_progress)
    crashpoint("publish:pushed")
    facts = {"insitu.image": image.digest, "insitu.reference": publication.reference, **decision_tags(allowed)}
    run.door.words("decision tags", run.site.models.place, facts)
    run.site.models.tag(model, version.version, facts)
    crashpoint("publish:tagged")
    return Published(publication.reference, publication.digest, _crown(run, decision, version, image.digest, let_out))


def _crown(run: Run, decision: Decision, version: ModelVersion, digest: str, let_out: Callable[[Sent], None]) -> bool:
    """Make the version champion and `latest`; not when the champion has changed since the gate, or was rolled back."""
    model, site = run.model.name, run.site
    with alone_with(site.state, f"champions/{model}"):  # a rollback at the same time comes before this, or after
        reigning = site.models.alias(model, CHAMPION)
        if reigning is not None and reigning.version not in (decision.champion, version.version):
            return False
        if version.version in site.withdrawals(model).withdrawn():
            return False
        publish_image(digest, site.layout(model), site.registry(model), (version.version, "latest"), let_out)
        crashpoint("publish:latest")
        site.models.set_alias(model, CHAMPION, version.version)
    return True


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
