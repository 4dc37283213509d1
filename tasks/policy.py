"""How every task behaves: what is retried, what is cached, and what its errors may say."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from insitu.errors import BackendUnavailable, InsituError
from insitu.runs import Run

P = ParamSpec("P")
R = TypeVar("R")


class _InOneLine(logging.Filter):
    """Lets Prefect tell an error of ours, which says what to do, without the traceback: that is for defects.

    How a run ended comes in quotes, with its line ends as two signs each.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], InsituError):
            record.exc_info = None
        if str(record.msg).startswith("Finished in state"):
            record.msg = re.sub(r"\\n *", "; ", record.msg)
        return True


for _name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(_InOneLine())


def _is_transient(_task: Any, _run: Any, state: Any) -> bool:
    return isinstance(state.result(raise_on_failure=False), BackendUnavailable)


def verb(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task of insitu.

    Only an absent answer is worth another try; everything else would fail again. Results are not
    cached by Prefect: they are in the run's journal, which survives the loss of Prefect's database.
    An error that insitu does not know may quote a row, so its text stays in the site's state and
    Prefect sees its class.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        @wraps(function)
        def shielded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except InsituError:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever it is, its text must not go on
                shield = _shield(name, exc, args)
            raise shield  # outside: inside, the foreign error would be its context

        return task(
            name=name,
            retries=3,
            retry_delay_seconds=[1, 5, 15],
            retry_jitter_factor=0.5,
            retry_condition_fn=_is_transient,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(shielded)

    return decorate


def _shield(name: str, exc: Exception, args: tuple[Any, ...]) -> InsituError:
    run = next((arg for arg in args if isinstance(arg, Run)), None)
    next_action = None
    if run:
        with suppress(Exception):  # a full disk must not bring the foreign error back
            run.journal.keep("traceback", traceback.format_exception(exc))
        kept = f"{run.journal.name('traceback')} of the state of site {run.site.name}"
        next_action = f"read the traceback, {kept}; starting again is safe: it goes on where it was"
    return InsituError(
        f"{name} broke with an error that insitu does not know", found=type(exc).__name__, next_action=next_action
    )
