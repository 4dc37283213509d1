"""What Prefect logs of a task that fails: an error of ours without its traceback, a defect with it."""

from __future__ import annotations

import logging

import pytest

import tasks.policy  # noqa: F401 - it sees to Prefect's loggers
from insitu.errors import BackendUnavailable


@pytest.mark.parametrize("logger", ["prefect.task_runs", "prefect.flow_runs"])
@pytest.mark.parametrize(("error", "kept"), [(BackendUnavailable("away"), False), (KeyError("defect"), True)])
def test_only_a_defect_is_logged_with_its_traceback(logger: str, error: Exception, kept: bool) -> None:
    log, raised = logging.getLogger(logger), (type(error), error, None)
    record = log.makeRecord(log.name, logging.ERROR, __file__, 1, "failed: %r", (error,), raised)
    assert log.filter(record)
    assert bool(record.exc_info) is kept
