"""Register the promoted challenger."""

from __future__ import annotations

import logging

from insitu.gate import Decision
from insitu.ports import ModelVersion
from insitu.release import register_model
from insitu.runs import Run
from insitu.training import Trained
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("register-model")
def register(run: Run, trained: Trained, decision: Decision) -> ModelVersion:
    """Return the one version of this run key; raise `RegistryFailed`."""
    version = run.journal.once("register", ModelVersion, lambda: register_model(run, trained, decision))
    log.info("registered as %s version %s", version.name, version.version)
    return version
