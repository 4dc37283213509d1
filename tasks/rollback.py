"""Put an earlier published version in the place of the champion."""

from __future__ import annotations

import logging

from insitu.acts import Act
from insitu.rollback import Outcome, roll_back
from insitu.settings import ModelSettings
from insitu.wiring import Site
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("roll-back-model")
def roll_back_model(site: Site, model: ModelSettings, to: str | None, act: Act) -> Outcome:
    """Return what was brought about; raise `UsageError`, `DecisionRefused`, `PublishFailed`, `DeployFailed`."""
    outcome = roll_back(site, model, to, act)
    went = f"from version {outcome.was} to" if outcome.was else "nothing to roll back, the champion is"
    log.info("%s: %s version %s", outcome.model, went, outcome.to)
    return outcome
