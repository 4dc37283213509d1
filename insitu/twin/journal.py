"""What was asked of the twin: one line per request, and whatever was sent to public hosts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from insitu.twin.tls import write_private

Side = Literal["public", "hub", "unknown"]

_LOGS: Mapping[Side, str] = {"public": "egress.jsonl", "hub": "hub.jsonl", "unknown": "egress.jsonl"}
_SECRET_HEADERS = {"authorization", "x-ms-copy-source", "cookie"}
_SECRET_PARAMETERS = {"sig", "client_secret", "client_assertion", "access_token", "refresh_token", "skoid", "code"}
_SECRET_FIELDS = re.compile(
    rb"(?P<name>\b(?:client_secret|client_assertion|access_token|refresh_token)=)[^&\s]+", re.IGNORECASE
)
_KINDS = (
    (r"^(login\.|adfs\.)", "sign-in"),
    (r"\.azurecr\.io/(oauth2|acr)/", "registry"),
    (r"\.azurecr\.io/.*/blobs/", "image layer"),
    (r"\.azurecr\.io/.*/manifests/", "image manifest"),
    (r"\.azurecr\.io", "registry"),
    (r"\.blob\.", "blob"),
    (r"\.api\.azureml\.ms/", "run history"),
    (r"/providers/microsoft\.machinelearningservices/workspaces/[^/]+/jobs", "job"),
    (r"/providers/microsoft\.machinelearningservices/workspaces/[^/]+/models", "model"),
    (r"/providers/microsoft\.machinelearningservices/workspaces/[^/]+/(codes|environments|data)", "definition"),
    (r"^management\.", "control"),
)


@dataclass(frozen=True)
class Line:
    """One request.

    Attributes:
        side: Whose host it is; `unknown` hosts are refused.
        path: Path and query, without signatures and other secrets.
        bytes_out: Bytes of the request's head and body.
        bytes_in: Bytes of the answer's body.
        status: HTTP status; 0 when nothing was answered.
        kind: What it is about, for people.
        body: Name of the file in bodies/ that holds what was sent; empty for none.
    """

    time: str
    side: Side
    host: str
    method: str
    path: str
    status: int
    bytes_out: int
    bytes_in: int
    kind: str
    body: str = ""


class Journal:
    """The logs in *folder*: `egress.jsonl` of what goes to public and unknown hosts, `hub.jsonl` of the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bodies = folder / "bodies"
        self._lock = Lock()
        self.bodies.mkdir(parents=True, exist_ok=True)
        self._numbers = count(len(list(self.bodies.iterdir())) + 1)

    def add(
        self,
        side: Side,
        host: str,
        method: str,
        target: str,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        status: int = 0,
        bytes_in: int = 0,
        kind: str = "",
    ) -> None:
        """Write down one request, and, of one to a public host, all that it held but secrets."""
        path = without_secrets(target)
        head = _head(method, path, host, headers)
        line = Line(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            side=side,
            host=host,
            method=method,
            path=path,
            status=status,
            bytes_out=len(head) + len(body),
            bytes_in=bytes_in,
            kind=kind or kind_of(host, path),
            body=self._keep(head + body, host) if side != "hub" else "",
        )
        with self._lock, open(self.folder / _LOGS[side], "a") as log:
            log.write(json.dumps(line.__dict__) + "\n")

    def lines(self, *sides: Side) -> Iterator[Line]:
        """Yield the requests to hosts of *sides* (default: public and unknown), oldest first."""
        wanted = sides or ("public", "unknown")
        for name in dict.fromkeys(_LOGS[side] for side in wanted):
            log = self.folder / name
            for text in log.read_text().splitlines() if log.exists() else ():
                values: dict[str, Any] = json.loads(text)
                if values["side"] in wanted:
                    yield Line(**values)

    def clear(self) -> None:
        """Forget every request."""
        with self._lock:
            for file in [*self.bodies.iterdir(), *(self.folder / name for name in _LOGS.values())]:
                file.unlink(missing_ok=True)

    def _keep(self, content: bytes, host: str) -> str:
        name = f"{next(self._numbers):06d}-{re.sub('[^a-z0-9.-]', '_', host)}"
        write_private(self.bodies / name, _SECRET_FIELDS.sub(rb"\g<name>-", content))
        return name


def without_secrets(target: str) -> str:
    """Return path and query with the values of signatures and the like left out."""
    path, mark, query = target.partition("?")
    kept = [
        (key, "-" if key.lower() in _SECRET_PARAMETERS else value)
        for key, value in parse_qsl(query, keep_blank_values=True)
    ]
    return path + mark + urlencode(kept, safe="/:'$,")


def kind_of(host: str, path: str) -> str:
    """Return what a request is about, in a word or two."""
    place = f"{host}{path}".lower()
    return next((kind for pattern, kind in _KINDS if re.search(pattern, place)), "other")


def _head(method: str, path: str, host: str, headers: Sequence[tuple[str, str]]) -> bytes:
    kept = (f"{name}: {'-' if name.lower() in _SECRET_HEADERS else value}" for name, value in headers)
    return "\n".join([f"{method} {path} {host}", *kept, "", ""]).encode(errors="replace")
