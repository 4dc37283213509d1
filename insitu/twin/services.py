"""Which host of the estate is played by whom."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from typing import NamedTuple

from insitu.twin import acr, appservice, azure_ml, entra, hub_arm, hub_blob, inference, runs, workspace_blob
from insitu.twin.estate import Estate
from insitu.twin.journal import Side
from insitu.twin.web import App

_PLAYERS = (
    (entra.hosts, entra.app),
    (hub_arm.hosts, hub_arm.app),
    (hub_blob.hosts, hub_blob.app),
    (appservice.hosts, appservice.app),
    (azure_ml.hosts, azure_ml.app),
    (inference.hosts, inference.app),
    (workspace_blob.hosts, workspace_blob.app),
    (runs.hosts, runs.app),
    (acr.hosts, acr.app),
)


class Service(NamedTuple):
    """What answers for a host."""

    side: Side
    app: App


def services(estate: Estate) -> dict[str, Service]:
    """Return the services by host, or by pattern of hosts such as `*.azurecr.io`."""
    found: dict[str, Service] = {}
    for hosts, app in _PLAYERS:
        playing = app(estate)
        found.update({host.lower(): Service(side, playing) for host, side in hosts(estate).items()})
    return found


def service_of(host: str, known: Mapping[str, Service]) -> Service | None:
    """Return the service that plays *host*: by its name, else by a pattern."""
    if host in known:
        return known[host]
    return next((known[pattern] for pattern in known if fnmatch(host, pattern)), None)
