"""The container of a scoring server: what it may do, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import docker

from insitu.adapters.docker.host import DockerHost
from insitu.adapters.local.scoring import class_in

_TMP_BYTES, _MAX_PIDS = 64 << 20, 512
_HEARS_S, _LOOK_S = 1.0, 0.05


def locked_in(client: docker.APIClient, network: str, memory_bytes: int, **more: Any) -> Any:
    """Return the host config of a server: read-only but for a small `/tmp`, without rights, within its memory."""
    return client.create_host_config(
        read_only=True,
        network_mode=network,
        mem_limit=memory_bytes,
        memswap_limit=memory_bytes,  # no swap on top
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=_MAX_PIDS,
        tmpfs={"/tmp": f"size={_TMP_BYTES}"},  # noqa: S108 - the one folder that may be written
        **more,
    )


def state_soon(host: DockerHost, name: str) -> Mapping[str, Any]:
    """Return the container's state, `Running` only while its first server runs; empty when there is no container.

    Of a process that has just ended, Docker hears a little later.
    """
    until = time.monotonic() + _HEARS_S
    while True:
        found = host.container(name) or {}
        state: Mapping[str, Any] = found.get("State", {})
        if found.get("RestartCount"):
            return {**state, "Running": False}
        if not state.get("Running") or time.monotonic() > until:
            return state
        time.sleep(_LOOK_S)


def reason_of(host: DockerHost, name: str, state: Mapping[str, Any]) -> str:
    """Return why the server ended: the class of its error, else its exit status."""
    printed = host.ask(lambda client: client.logs(name, stdout=False, tail=200), "show a log")
    return class_in(printed.decode(errors="replace")) or f"exit status {state.get('ExitCode')}"
