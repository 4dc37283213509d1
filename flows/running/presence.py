"""A flow run leaves word that its process lives, and stops when somebody cancels it in Prefect.

Prefect alone leaves the run of a killed process Running for ever, and tells only processes of its own workers that
their run was cancelled. The word is a lease in the site's state, which `flows.running.reconcile` reads.
"""

from __future__ import annotations

import contextvars
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from insitu.leases import Held, take
from insitu.ports import BlobStore

_LOOK_S = 3.0


@dataclass
class Presence:
    """This process, as the one of a flow run.

    Attributes:
        id: The flow run; None outside of one.
        by_schedule: Whether a schedule started it.
        cancelled: Whether somebody has cancelled it.
    """

    id: UUID | None
    by_schedule: bool = False
    cancelled: bool = field(default=False, init=False)

    @classmethod
    def of_this_flow_run(cls) -> Presence:
        """Return the presence of the flow run that this code is part of."""
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        run = context.flow_run if context else None
        return cls(run.id, run.auto_scheduled) if run else cls(None)

    @contextmanager
    def shown(self, state: BlobStore) -> Iterator[None]:
        """Leave word in the site's state for as long as the block lasts, and look whether the run is cancelled."""
        if self.id is None:
            yield
            return
        lease = take(state, name_of(self.id), str(self.id), flow_run=str(self.id))
        with _ended_once(), self._watched():
            if isinstance(lease, Held):  # of two processes of one flow run the first one speaks
                yield
                return
            with lease.kept_alive(lambda: None):
                yield

    def is_cancelled(self) -> bool:
        """Ask the server once more: what ended this process may have been a worker that was faster to see it."""
        if self.id and not self.cancelled and _has_server():
            with suppress(Exception):  # no server, no word
                self.cancelled = _is_cancelled(self.id)
        return self.cancelled

    @contextmanager
    def _watched(self) -> Iterator[None]:
        if not _has_server():
            yield
            return
        ended = threading.Event()
        context = contextvars.copy_context()  # a new thread would ask a server of its own
        thread = threading.Thread(target=context.run, args=(self._watch, ended), name="cancelled?", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()  # not joined: a server that is away lets it wait

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(_LOOK_S):
            with suppress(Exception):  # the server is away for a while; the run goes on
                if self.id and _is_cancelled(self.id) and not ended.is_set():
                    self.cancelled = True
                    end_this_process()
                    return


def name_of(flow_run: UUID) -> str:
    """Return the lease that speaks for a flow run."""
    return f"leases/flow-runs/{flow_run}.json"


def end_this_process() -> None:
    """Let the main thread stop as by SIGTERM, where somebody has said how; else it stops at its next step."""
    if callable(signal.getsignal(signal.SIGTERM)):
        os.kill(os.getpid(), signal.SIGTERM)


def _has_server() -> bool:
    """Tell whether anybody can cancel the run: a temporary server has no UI."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url is not None


def _is_cancelled(flow_run: UUID) -> bool:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        state = client.read_flow_run(flow_run).state
    return state is not None and (state.is_cancelling() or state.is_cancelled())


@contextmanager
def _ended_once() -> Iterator[None]:
    """Let the first SIGTERM end the block, and no other one keep it from ending its job."""
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    told = False

    def end(number: int, frame: Any) -> None:
        nonlocal told
        if not told:
            told = True
            before(number, frame)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
