"""What stands before a real registry to make it an Azure Container Registry: token exchange, challenges, tag locks."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

ENTRA_TOKEN, TENANT = "a-token-of-entra", "11111111-2222-3333-4444-555555555555"
_WRITES = ("POST", "PUT", "PATCH")


class AcrFront(ThreadingHTTPServer):
    """The front; tests change its attributes."""

    daemon_threads = True

    def __init__(self, registry: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry
        self.host = f"127.0.0.1:{self.server_port}"
        self.life_s = 3600
        self.actions = {"pull", "push", "delete", "metadata_read", "metadata_write"}
        self.refresh_tokens: set[str] = set()
        self.access_tokens: dict[str, set[str]] = {}
        self.locked: set[str] = set()
        self.asked: list[str] = []
        self.fail: dict[str, list[int]] = {}
        self.uses: int | None = None
        self.shown = self.host
        self.service, self.oauth = self.host, "/oauth2/"

    def forget(self, *, refresh: bool = False) -> None:
        """Let every access token have run out, and every refresh token, too."""
        self.access_tokens.clear()
        if refresh:
            self.refresh_tokens.clear()


class _Handler(BaseHTTPRequestHandler):
    server: AcrFront
    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        planned = next((codes for part, codes in self.server.fail.items() if part in path and codes), None)
        if planned:
            return self._say(planned.pop(0), {"errors": [{"code": "UNAVAILABLE"}]}, {"Retry-After": "0"})
        if path.startswith(self.server.oauth):
            return self._oauth(
                path.removeprefix(self.server.oauth),
                {key: values[0] for key, values in parse_qs(body.decode()).items()},
            )
        repository, action = self._wanted(path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if f"{repository}:{action}" not in self.server.access_tokens.get(token, ()):
            return self._challenge(repository, action)
        if self.server.uses is not None:
            self.server.uses -= 1
            if self.server.uses <= 0:
                self.server.access_tokens.pop(token)
        if path.startswith("/acr/v1/"):
            return self._lock(path, json.loads(body))
        tag = re.fullmatch(r"/v2/(.+)/manifests/(.+)", path)
        if tag and self.command == "PUT" and f"{tag[1]}:{tag[2]}" in self.server.locked:
            return self._say(405, {"errors": [{"code": "UNSUPPORTED"}]})
        return self._forward(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _do  # noqa: N815

    def _wanted(self, path: str) -> tuple[str, str]:
        if match := re.fullmatch(r"/acr/v1/(.+)/_tags/.+", path):
            return match[1], "metadata_write"
        match = re.fullmatch(r"/v2/(.+?)/(blobs|manifests)/.*", path)
        action = "delete" if self.command == "DELETE" else "push" if self.command in _WRITES else "pull"
        return (match[1] if match else ""), action

    def _oauth(self, path: str, form: dict[str, str]) -> None:
        server = self.server
        if form.get("service") != server.service:
            return self._say(400, {"errors": [{"code": "BAD_SERVICE"}]})
        if path == "exchange":
            known = form.get("access_token") == ENTRA_TOKEN and form.get("tenant") == TENANT
            if form.get("grant_type") != "access_token" or not known:
                return self._say(401, {"errors": [{"code": "UNAUTHORIZED", "message": ENTRA_TOKEN}]})
            server.refresh_tokens.add(token := secrets.token_hex(8))
            return self._say(200, {"refresh_token": token})
        if form.get("grant_type") != "refresh_token" or form.get("refresh_token") not in server.refresh_tokens:
            return self._say(401, {"errors": [{"code": "UNAUTHORIZED"}]})
        _, name, actions = form["scope"].split(":")
        granted = set(actions.split(",")) & server.actions
        token = _jwt(server.life_s)
        server.access_tokens[token] = {f"{name}:{action}" for action in granted}
        return self._say(200, {"access_token": token})

    def _challenge(self, repository: str, action: str) -> None:
        server = self.server
        scope = f'scope="repository:{repository}:{action}"'
        realm = f'realm="http://{server.host}{server.oauth}token"'
        header = f'Bearer {scope},service="{server.service}", {realm}'
        self._say(401, {"errors": [{"code": "UNAUTHORIZED"}]}, {"WWW-Authenticate": header})

    def _lock(self, path: str, wanted: dict[str, bool]) -> None:
        match = re.fullmatch(r"/acr/v1/(.+)/_tags/(.+)", path)
        assert match
        if wanted.get("writeEnabled") is False:
            self.server.locked.add(f"{match[1]}:{match[2]}")
        self._say(200, {"tag": {"name": match[2], "changeableAttributes": wanted}})

    def _forward(self, body: bytes) -> None:
        back = HTTPConnection(self.server.registry)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "authorization"}
        back.request(self.command, self.path, body, headers)
        answer = back.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value.replace(self.server.host, self.server.shown))
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        back.close()

    def _say(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _jwt(life_s: int) -> str:
    now = int(time.time()) - 86_400  # a clock of its own: a day behind
    claims = json.dumps({"iat": now, "exp": now + life_s, "jti": secrets.token_hex(8)}).encode()
    return f"e30.{urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


@contextmanager
def acr_front(registry: str) -> Iterator[AcrFront]:
    """Run the front before the registry at `host:port`."""
    server = AcrFront(registry)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
