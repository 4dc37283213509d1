"""Another estate than the twin's: the same services, whose answers have other shapes that are as legal.

Real services differ from one another, and from month to month, in what they leave out, add, and how they
spell it. What the twin happens to say must be nothing that the adapters rely on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from insitu.twin.control import control
from insitu.twin.estate import Estate
from insitu.twin.gateway import Gateway
from insitu.twin.services import services
from insitu.twin.web import App

_OPTIONAL = {b"x-ms-error-code", b"x-ms-failure-cause", b"retry-after", b"x-ms-request-id"}
_ADDRESSES = (b"location", b"azure-asyncoperation")


@dataclass
class Said:
    """One answer, on its way out."""

    host: str
    target: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """What the service says as JSON, None when it says nothing so, or it is content of a user's."""
        if ".blob." in self.host or self.target.startswith("/v2/"):
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            return None


Shape = Callable[[Said], None]


def tersely(said: Said) -> None:
    """Leave out what may be left out: nulls, optional headers, the difference of 200 and 201, hosts of addresses."""
    said.headers = [pair for pair in said.headers if pair[0].lower() not in _OPTIONAL]
    said.headers = [(name, _relative(value) if name.lower() in _ADDRESSES else value) for name, value in said.headers]
    if isinstance(value := said.json, dict):
        said.status = 200 if said.status == 201 else said.status
        _put(said, _without_nulls(value))


def verbosely(said: Said) -> None:
    """Add what nobody knows, give lists one by one, and spell headers otherwise."""
    said.headers = [(_spelled(name), value) for name, value in said.headers]
    said.headers.append((b"X-Ms-Tomorrow", b"yes"))
    value = said.json
    if isinstance(value, dict):
        _put(said, _one_by_one(said.target, _with_unknown(value)))


def _relative(address: bytes) -> bytes:
    parts = urlsplit(address.decode())
    return f"{parts.path}?{parts.query}".rstrip("?").encode()


def _spelled(name: bytes) -> bytes:
    return name.upper() if len(name) % 2 else name.title()


def _put(said: Said, value: Any) -> None:
    said.body = json.dumps(value).encode()
    said.headers = [pair for pair in said.headers if pair[0].lower() != b"content-length"]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _with_unknown(value: Any) -> Any:
    if isinstance(value, dict):
        known = {key: inner if key in ("tags", "services") else _with_unknown(inner) for key, inner in value.items()}
        return known | ({"ofTomorrow": {"kind": None}} if "properties" in value or "statuses" in value else {})
    return [_with_unknown(inner) for inner in value] if isinstance(value, list) else value


def _one_by_one(target: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return one entry of a list, and where the next one is."""
    found = value.get("value")
    if not isinstance(found, list) or len(found) < 2 or "nextLink" in value:
        return value
    start = int(parse_qs(urlsplit(target).query).get("$from", ["0"])[0])
    page = {**value, "value": found[start : start + 1]}
    if start + 1 < len(found):
        page["nextLink"] = f"$HOST{target.split('&$from=')[0]}&$from={start + 1}"
    return page


@contextmanager
def another_estate(folder: Path, **options: Any) -> Iterator[tuple[Estate, Callable[[Shape], None]]]:
    """Run an estate whose answers are reshaped; yield it, and what sets the shape."""
    estate = Estate(folder, in_memory=True, **options)
    gateway, shapes = Gateway(estate), [tersely]

    def shaped(app: App) -> App:
        async def serve(scope: Any, receive: Any, send: Any) -> None:
            said = Said(scope["server"][0], _target(scope), 500, [], b"")

            async def hear(message: Mapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    said.status, said.headers = message["status"], list(message.get("headers", ()))
                else:
                    said.body += message.get("body", b"")

            await app(scope, receive, hear)
            shapes[0](said)
            said.body = said.body.replace(b'"$HOST', f'"https://{said.host}'.encode())
            await send({"type": "http.response.start", "status": said.status, "headers": said.headers})
            await send({"type": "http.response.body", "body": said.body})

        return serve

    def choose(shape: Shape) -> None:
        shapes[0] = shape

    try:
        played = {host: one._replace(app=shaped(one.app)) for host, one in services(estate).items()}
        gateway.start(played, control(estate))
        estate.machine.follow()
        yield estate, choose
    finally:
        gateway.stop()
        estate.close()


def _target(scope: Mapping[str, Any]) -> str:
    query = scope["query_string"].decode()
    return scope["raw_path"].decode() + (f"?{query}" if query else "")
