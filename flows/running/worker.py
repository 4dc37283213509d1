"""A worker of Prefect's kind `process` whose runs begin at once: `python -m flows.running.worker POOL`.

Its runs are done by forks of a process that has imported everything (`flows.running.warm_server`). When it is
stopped, what was under way ends politely, is put back, and goes on in the next worker after its last finished step.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from flows.running import engine, handing_over
from flows.running.warm_server import WarmServer, prefect_settings

_POLITE_S, _FORCED_S = 25.0, 5.0
_COMMAND = shlex.join([sys.executable, "-I", "-S", handing_over.__file__])


warnings.filterwarnings("ignore", "Type 'WarmWorker'")  # it takes the place of Prefect's in this process


class WarmJob(ProcessJobConfiguration):
    """A job that is handed over, unless the deployment names a command of its own."""

    def prepare_for_flow_run(self, *args: Any, **options: Any) -> None:
        """Set the command before the base class sets its own."""
        self.command = self.command or _COMMAND
        super().prepare_for_flow_run(*args, **options)


class WarmWorker(ProcessWorker):
    """Prefect's process worker; what is under way when it is stopped is put back."""

    job_configuration = WarmJob

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pids: dict[UUID, int | None] = {}
        self._stops = False

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Ask for runs and start them, until this worker is being stopped."""
        return [] if self._stops else await super().get_and_submit_flow_runs()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Do the run to its end."""
        self._pids[flow_run.id] = None
        noted = _Noted(self, flow_run.id, task_status or anyio.TASK_STATUS_IGNORED)
        try:
            result = await super().run(flow_run, configuration, noted)
            if self._stops and await _put_back(flow_run.id):
                return ProcessWorkerResult(status_code=0, identifier=result.identifier)
            return result
        finally:
            del self._pids[flow_run.id]

    async def end_runs(self) -> None:
        """Take no more runs, and end those that are under way: politely, then by force."""
        self._stops = True
        for sign, limit_s in ((signal.SIGTERM, _POLITE_S), (signal.SIGKILL, _FORCED_S)):
            for pid in self._pids.values():
                _signal(pid, sign)
            with anyio.move_on_after(limit_s):
                while self._pids:
                    await anyio.sleep(0.1)

    def note(self, flow_run: UUID, pid: int) -> None:
        """Remember the process of a run; end it when it comes too late."""
        self._pids[flow_run] = pid
        if self._stops:
            _signal(pid, signal.SIGTERM)


class _Noted(anyio.abc.TaskStatus[int]):
    def __init__(self, worker: WarmWorker, flow_run: UUID, outer: anyio.abc.TaskStatus[int]) -> None:
        self._worker, self._flow_run, self._outer = worker, flow_run, outer

    def started(self, value: Any = None) -> None:
        self._worker.note(self._flow_run, value)
        self._outer.started(value)


async def _put_back(flow_run: UUID) -> bool:
    """Let the next worker go on with a run that did not reach its end; return whether it was so."""
    async with get_client() as client:
        state = (await client.read_flow_run(flow_run)).state
        if state is None or (state.is_final() and not state.is_crashed()) or state.is_cancelling():
            return False
        message = "its worker was stopped; the next one goes on after its last finished step"
        await client.set_flow_run_state(flow_run, AwaitingRetry(message=message), force=True)
    return True


def _signal(pid: int | None, sign: signal.Signals) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, sign)


async def _work(pool: str) -> None:
    worker, me = WarmWorker(work_pool_name=pool), asyncio.current_task()
    assert me
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        await worker.end_runs()
        me.cancel()

    def begin_to_stop() -> None:
        if not stopping:
            stopping.append(asyncio.create_task(stop()))

    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, begin_to_stop)
    with suppress(asyncio.CancelledError):
        await worker.start()


def main(pool: str) -> None:
    """Run a worker of *pool*, and the warm process of its runs, until SIGTERM."""
    import prefect.deployments.steps.core
    import prefect.flow_engine  # noqa: F401 - what the runs need, and what it needs

    import flows.retrain  # noqa: F401

    settings = prefect_settings({**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)})
    folder, listener, here = Path(tempfile.mkdtemp(prefix="insitu-")), socket.socket(socket.AF_UNIX), os.getpid()
    os.environ[handing_over.SOCKET] = str(folder / "warm")
    listener.bind(os.environ[handing_over.SOCKET])
    listener.listen()
    worker_pid = os.fork()
    if not worker_pid:
        listener.close()
        asyncio.run(_work(pool))
        return
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda number, _: _signal(worker_pid, signal.Signals(number)))
    code = WarmServer(listener, settings).serve(worker_pid)
    if code is None:  # this is the fork for a run
        engine.run(here)
        return
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
