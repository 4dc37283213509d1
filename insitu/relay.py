"""The trigger relay: its files and its site's settings as one package, and the package's way to the web app.

The same content makes the same bytes. What is deployed is known by its digest, which the relay itself tells.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu.errors import BackendUnavailable, DeployFailed, SettingsError, UsageError
from insitu.ports import WebApp
from insitu.settings import AzureStateStore, RelaySettings, SiteSettings

FOLDER = "deployments/relay"
_KINDS = (".js", ".json", ".config")
_EPOCH_S, _SPAN_S = 946_684_800, 600_000_000  # the moments of files lie between 2000 and 2019
_ATTEMPTS, _LOOK_S = 3, 10
_PAUSES_S = (0.2, 2.0)


@dataclass(frozen=True)
class Package:
    """What is deployed.

    Attributes:
        digest: Hex sha256 over the names and bytes of the files, the site's settings among them.
        files: Names in the zip.
        content: The zip.
    """

    digest: str
    files: tuple[str, ...]
    content: bytes


def build(project: Path, settings: SiteSettings) -> Package:
    """Return the relay of a site as a package; it holds no secret.

    Raises:
        UsageError: The project has no relay.
        SettingsError: The site's state is not where a web app reaches it.
    """
    folder = project / FOLDER
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.suffix in _KINDS}
    if not {"server.js", "web.config"} <= set(files):
        raise UsageError(f"the relay is not in {folder}", wanted="server.js and web.config, with what they need")
    if authorities := _authorities(settings):
        files["authorities.pem"] = authorities.read_bytes()
    release = _release(project, settings)
    digest = _digest(files | {"release.json": _json(release)})
    files["release.json"] = _json({"digest": digest, **release})
    return Package(digest, tuple(files), _zip(files))


def deploy(app: WebApp, package: Package, timeout_s: float) -> dict[str, Any]:
    """Let *app* be *package*; a package that is there already is not sent again.

    Returns:
        What was there `before`, whether that `changed`, and what `health` and `readiness` say now.

    Raises:
        DeployFailed: The app refuses the package, does not start it, or lacks a setting.
        BackendUnavailable: No answer.
    """
    before = digest_of(app.health())
    changed = before != package.digest
    if changed:
        _publish(app, package, timeout_s)
    health = app.health() or {}
    if lacking := health.get("lacking"):
        raise DeployFailed(
            f"the relay at {app.name} runs and lacks {len(lacking)} setting(s)",
            found="; ".join(map(str, lacking)),
            next_action="set them as application settings of the web app (docs/relay.md), then deploy again",
        )
    return {"before": before, "changed": changed, "health": health, "readiness": _readiness(app)}


def digest_of(health: Mapping[str, Any] | None) -> str | None:
    """Return which package the relay says that it is; None when it is none."""
    digest = (health or {}).get("digest")
    return digest if isinstance(digest, str) else None


def relay_of(settings: SiteSettings) -> RelaySettings:
    """Return the settings of the site's relay; raise `SettingsError` when it has none."""
    if settings.relay is None:
        raise SettingsError(
            f"site {settings.name} has no relay",
            wanted=f"a table [relay] in deployments/sites/{settings.name}.toml",
            next_action="see docs/relay.md",
        )
    return settings.relay


def _publish(app: WebApp, package: Package, timeout_s: float) -> None:
    """Send the package until the relay says that it is there: an answer can be lost after the work was done."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            app.publish(package.content)
            break
        except BackendUnavailable:
            if _appears(app, package.digest, min(_LOOK_S, timeout_s)):
                return
            if attempt == _ATTEMPTS:
                raise
    if not _appears(app, package.digest, timeout_s):
        raise DeployFailed(
            f"{app.name} took the relay and does not run it after {timeout_s:.0f} s",
            found=f"release {digest_of(app.health()) or 'unknown: nobody answers at /health'}",
            wanted=f"release {package.digest}",
            next_action="see the app's log in Kudu (LogFiles), and that it runs Node 16: WEBSITE_NODE_DEFAULT_VERSION",
        )


def _appears(app: WebApp, digest: str, timeout_s: float) -> bool:
    return _within(timeout_s, lambda: digest_of(app.health()) == digest)


def _within(timeout_s: float, holds: Callable[[], bool]) -> bool:
    deadline, (pause_s, most_s) = time.monotonic() + timeout_s, _PAUSES_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, most_s)
    return True


def _readiness(app: WebApp) -> Mapping[str, Any]:
    found = app.readiness()
    if not found.get("ready"):
        raise DeployFailed(
            f"the relay at {app.name} runs and cannot do its work",
            found=f"event store: {found.get('store')}; Prefect: {found.get('runs')}",
            wanted="an event store that is ok, and Prefect that is ok or not used",
            next_action="see RELAY_STATE_SAS or RELAY_STATE_KEY, and PREFECT_API_URL, of the app (docs/relay.md)",
        )
    return found


def _release(project: Path, settings: SiteSettings) -> dict[str, Any]:
    """Return what the relay must know of its site."""
    relay, state = relay_of(settings), settings.state
    if not isinstance(state, AzureStateStore):
        raise SettingsError(
            f"the relay cannot write into the state of site {settings.name}",
            found=f'[state] of kind "{state.kind}"',
            wanted='kind = "azure-blob": a folder of this machine is out of a web app\'s reach',
        )
    return {
        "site": settings.name,
        "models": sorted(path.parent.name for path in (project / "models").glob("*/model.toml")),
        "state": {
            "account_url": state.account_url,
            "account": state.account_name,
            "container": state.container,
            "api_version": state.api_version,
        },
        "signed_only": relay.signed_only,
        "deployment": relay.deployment,
    }


def _authorities(settings: SiteSettings) -> Path | None:
    """Return the PEM file of the authorities that the site's state store has."""
    own = settings.state.ca_bundle if isinstance(settings.state, AzureStateStore) else None
    return own or settings.network.ca_bundle


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def _digest(files: Mapping[str, bytes]) -> str:
    lines = (f"{sha256(data).hexdigest()} {name}\n" for name, data in sorted(files.items()))
    return sha256("".join(lines).encode()).hexdigest()


def _zip(files: Mapping[str, bytes]) -> bytes:
    """Return a zip that depends on names and bytes alone.

    Kudu leaves a file as it is whose moment did not change, so a file's moment follows from its bytes.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # libraries compress differently
        for name, data in files.items():
            info = zipfile.ZipInfo(name, _moment(data))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def _moment(data: bytes) -> tuple[int, int, int, int, int, int]:
    """Return a moment of the past that stands for *data*, in the two seconds that a zip counts in."""
    seconds = int.from_bytes(sha256(data).digest()[:8]) % (_SPAN_S // 2) * 2
    return time.gmtime(_EPOCH_S + seconds)[:6]
