"""Publish the image and make its model the champion."""

from __future__ import annotations

import logging

from insitu.gate import Decision
from insitu.ports import ModelVersion
from insitu.release import BuiltImage, Published, names, publish_model
from insitu.runs import Run
from tasks.policy import verb
from tasks.progress import ProgressArtifact

log = logging.getLogger(__name__)


@verb("publish-image")
def publish(run: Run, decision: Decision, version: ModelVersion, image: BuiltImage) -> Published:
    """Return where the image went, read back by digest; raise `PublishFailed`, `DecisionRefused`."""
    target = run.site.registry(run.model.name)
    published = run.journal.once(
        run.step_name("publish"),
        Published,
        lambda: _publish(run, decision, version, image),
        still=lambda published: names(target, version.version, published.digest),
    )
    log.info("published %s as %s", published.digest[:19], published.reference)
    if not published.champion:
        log.warning("the champion has changed since the gate, or people have: it and the tag latest stay as they are")
    return published


def _publish(run: Run, decision: Decision, version: ModelVersion, image: BuiltImage) -> Published:
    progress = ProgressArtifact("publishing", f"publishing-{run.model.name}")
    published = publish_model(run, decision, version, image, lambda now: progress.update(now.fraction, str(now)))
    progress.update(1.0)
    return published
