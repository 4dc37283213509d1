"""Give the published image to the places that model.toml names."""

from __future__ import annotations

import logging

from insitu.deployments import Deployed, deploy_run, deployed
from insitu.gate import Decision
from insitu.ports import ModelVersion
from insitu.release import Published
from insitu.runs import Run
from insitu.training import Trained
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("deploy-model")
def deploy(
    run: Run, trained: Trained, decision: Decision, version: ModelVersion, published: Published
) -> list[Deployed]:
    """Return what became of each target; raise `DeployFailed`, after all were tried."""
    names = {target.name for target in run.model.targets(run.site.name)}

    def still(done: list[Deployed]) -> bool:
        now = deployed(run.site, run.model.name)
        return names <= {one.name for one in done} and all(now.get(one.name) == one.digest for one in done)

    done = run.journal.once(
        "deploy", list[Deployed], lambda: deploy_run(run, trained.job, decision, version, published), still
    )
    log.info("deployed to %s", ", ".join(one.name for one in done) or "no target: it is not the champion")
    return done
