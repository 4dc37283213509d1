"""Put the model into an image and prove that it answers."""

from __future__ import annotations

import logging

from insitu.ports import ModelVersion
from insitu.release import BuiltImage, containerize_model
from insitu.rulings import require_allowed
from insitu.runs import Run
from insitu.training import Trained
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("containerize-model")
def containerize(run: Run, trained: Trained, version: ModelVersion) -> BuiltImage:
    """Return the image that answered the golden rows as the model does; raise `ImageFailed`, `DecisionRefused`."""
    decided = require_allowed(run).record.statement
    layout = run.site.layout(run.model.name)
    image = run.journal.once(
        "containerize",
        BuiltImage,
        lambda: containerize_model(run, trained, version),
        still=lambda image: layout.resolve(image.digest) is not None and image.decision == decided,
    )
    told = "was ended" if image.max_difference is None else f"within {image.max_difference:.1g} of the model"
    log.info("image %s, %.1f MB, answers by %s: %s", image.digest[:19], image.size_bytes / 1e6, image.runtime, told)
    return image
