"""See to one thing that a site stands on."""

from __future__ import annotations

import logging

from insitu.provisioning import Outcome, Part, bring_about
from tasks.policy import verb

log = logging.getLogger(__name__)


@verb("provision")
def provision_part(part: Part) -> Outcome:
    """Make *part* unless it is as it should be; what is done is not done twice.

    Raises:
        NotReady: It is not as it should be, and cannot be made so.
        AccessRefused: The site's principal may not do this.
    """
    outcome = bring_about(part, on_start=lambda to_do: log.info("%s: %s", part.name, to_do))
    log.info("%s: %s", part.name, "done" if outcome.done else outcome.found)
    return outcome
