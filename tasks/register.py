"""Register the promoted challenger."""

from __future__ import annotations

import logging

from insitu.gate import Decision
from insitu.ports import ModelVersion
from insitu.release import Registered, register_model
from insitu.runs import Run
from insitu.training import Trained
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("register-model")
def register(run: Run, trained: Trained, decision: Decision) -> ModelVersion:
    """Return the one version of this run key; raise `RegistryFailed`."""
    registered = run.journal.once("register", Registered, lambda: register_model(run, trained, decision))
    log.info("registered as %s version %s", registered.version.name, registered.version.version)
    return registered.version
