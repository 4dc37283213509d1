"""The allow-list proxy: what a job without a network reaches, and nothing else.

    python -m insitu.edge.proxy around PARENT HOST:PORT,... COMMAND...    for COMMAND, which gets our process id, too
    python -m insitu.edge.proxy at SOCKET HOST:PORT,...                   for whoever has the socket

It has a network and the job has none, so what joins them is a socket in the file system. Through it the job hands over
an *ear*: a listening socket of its own loopback. On that the proxy serves HTTP's CONNECT and plain http, as
HTTPS_PROXY and HTTP_PROXY say everywhere; who is not listed is refused, and every name is counted. A child of the job
is no better off, whether it knows of the proxy or not. Behind another proxy (of the site's [network]) it asks that one.

What goes through a tunnel is encrypted, so the proxy sees where to and how often, never what.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from errno import ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from insitu.attached import end_with
from insitu.enclosure import PROXY, endpoint

EAR, QUESTION = b"E", b"?"
"""What is said through the socket: that a listening socket comes with it, or what was asked for so far."""

_HEAD_BYTES, _CHUNK_BYTES = 65_536, 262_144
_HEAD_S, _CONNECT_S, _PAUSE_S = 60.0, 30.0, 0.1
_PASSING = (ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM)
_MAX_NAMES = 50
_TUNNEL = re.compile(rb"HTTP/1\.[01] 2[0-9]{2} [^\r]*\r\n(?:[^\r]+\r\n)*\r\n\Z")
"""That there is a tunnel now; in one of TLS the client speaks first, so nothing follows."""

_NAME = re.compile(r"[a-z0-9._:-]{1,260}")
_NAMELESS = "(no name of a host)"
_OWN_HEADERS = (b"connection", b"host", b"keep-alive", b"proxy-connection", b"proxy-authorization")
_HALF_LINE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
"""What some servers take for the end of a line, behind which a client could hide a header."""


@dataclass(frozen=True)
class Request:
    """What a client asks of the proxy.

    Attributes:
        to: `host:port`.
        scheme: `https` for a tunnel.
        head: The bytes of line and headers, and what came behind them.
    """

    to: str
    scheme: str
    head: bytes

    @property
    def authority(self) -> str:
        """`to`, as it is written in a request."""
        host, _, port = self.to.rpartition(":")
        return f"[{host}]:{port}" if ":" in host else self.to

    def direct(self) -> bytes:
        """Return what the destination itself is sent: of a tunnel what came behind the headers.

        Plain http goes there as one request, whose answer ends the connection: the next may be to somebody else. Its
        host is the one that is let through, whatever the client says: others may be served at the same address.
        """
        head, _, body = self.head.partition(b"\r\n\r\n")
        if self.scheme == "https":
            return body
        line, *headers = head.split(b"\r\n")
        method, url, version = line.split(b" ")
        parts = urlsplit(url)
        path = (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
        kept = [one for one in headers if one.partition(b":")[0].strip().lower() not in _OWN_HEADERS]
        ours = [b"Host: " + self.authority.encode(), b"Connection: close"]
        return b"\r\n".join([b" ".join([method, path, version]), *ours, *kept, b"", body])


@dataclass
class Proxy:
    """Lets what has no network reach *listed* endpoints (`host:port`); counts who was asked for."""

    listed: Collection[str]
    allowed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    heard: Callable[[], object] = lambda: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, door: socket.socket) -> None:
        """Take ears and questions at the listening socket *door*, for ever; call `heard` when there is an ear."""
        _let_in(door, self._attend)

    def told(self) -> dict[str, Any]:
        """Return who is listed, and how often who was asked for."""
        with self._lock:
            return {"listed": sorted(self.listed), "allowed": dict(self.allowed), "refused": dict(self.refused)}

    def _attend(self, caller: socket.socket) -> None:
        with ExitStack() as came:
            with caller:
                said, sent, _, _ = socket.recv_fds(caller, 1, 1)
                ears = [came.enter_context(_socket_of(one)) for one in sent]
                if said == EAR:
                    self.heard()
                caller.sendall(json.dumps(self.told()).encode())
            if said == EAR and ears:
                _let_in(ears[0], self._pass_on)

    def _pass_on(self, client: socket.socket) -> None:
        with client:
            client.settimeout(_HEAD_S)
            request = request_in(_head(client))
            if not self._is_let(request):
                client.sendall(b"HTTP/1.1 403 Not listed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                return
            assert request
            try:
                server = _reached(request)
            except OSError:
                client.sendall(b"HTTP/1.1 502 No answer\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                return
            with server:
                client.settimeout(None)
                if request.scheme == "https":
                    client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                server.sendall(request.direct())
                _in_thread(_copy, client, server)
                _copy(server, client)

    def _is_let(self, request: Request | None) -> bool:
        """Tell whether the request goes on, and count it: few names, and none that is no name, for a job makes them."""
        name = request.to if request and _NAME.fullmatch(request.to) else _NAMELESS
        with self._lock:
            if name in self.listed:
                self.allowed[name] += 1
                return True
            known = name in self.refused or len(self.refused) < _MAX_NAMES
            self.refused[name if known else "(others)"] += 1
        return False


def request_in(head: bytes) -> Request | None:
    """Return what *head* asks for; None for what is no request to a proxy."""
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    lines, end, _ = head.partition(b"\r\n\r\n")
    if not end or len(words) != 3 or _HALF_LINE.search(lines):
        return None
    scheme, url = ("https", f"https://{words[1]}") if words[0] == "CONNECT" else ("http", words[1])
    try:
        return Request(endpoint(url), scheme, head) if url.startswith(f"{scheme}://") else None
    except ValueError:
        return None


def _head(client: socket.socket) -> bytes:
    head = b""
    with suppress(OSError):
        while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES and (data := client.recv(_HEAD_BYTES)):
            head += data
    return head


def _reached(request: Request) -> socket.socket:
    """Return a connection to the destination; raise `OSError`.

    Of the site's own proxy a tunnel is asked, in words of ours: what the client says goes to the destination alone.
    """
    host, _, port = request.to.rpartition(":")
    beyond = None if proxy_bypass(request.to) else getproxies_environment().get("https")
    if request.scheme == "http" or not beyond:
        return _connected(host, int(port))
    proxy = urlsplit(beyond if "://" in beyond else f"http://{beyond}")
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}" if proxy.username else ""
    by = f"Proxy-Authorization: Basic {base64.b64encode(login.encode()).decode()}\r\n" if login else ""
    name = request.authority
    server = _connected(proxy.hostname or "", proxy.port or 80)
    server.settimeout(_HEAD_S)
    server.sendall(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n{by}\r\n".encode())
    if not _TUNNEL.match(_head(server)):
        server.close()
        raise ConnectionRefusedError
    server.settimeout(None)
    return server


def _connected(host: str, port: int) -> socket.socket:
    server = socket.create_connection((host, port), _CONNECT_S)
    server.settimeout(None)
    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return server


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Pass on what *source* sends until it says no more, and that."""
    with suppress(OSError):
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while size := source.recv_into(buffer):
            target.sendall(buffer[:size])
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _let_in(door: socket.socket, attend: Callable[[socket.socket], None]) -> None:
    """Let *attend* have whoever comes to *door*, for ever: what is short now may be there in a moment."""
    while True:
        try:
            client = door.accept()[0]
        except OSError as exc:
            if exc.errno not in _PASSING:
                raise
            time.sleep(_PAUSE_S)
            continue
        try:
            _in_thread(attend, client)
        except RuntimeError:  # no thread can be started
            client.close()
            time.sleep(_PAUSE_S)


def _socket_of(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise


def _in_thread(work: Any, *arguments: Any) -> None:
    def quietly() -> None:
        with suppress(OSError):  # who asked is gone
            work(*arguments)

    threading.Thread(target=quietly, daemon=True).start()


def listening(path: Path, listed: Collection[str], heard: Callable[[], object] = lambda: None) -> Proxy:
    """Return a proxy that serves at *path*, from now on; *heard* is called when it has an ear."""
    path.unlink(missing_ok=True)  # of a proxy that was started anew
    door, proxy = socket.socket(socket.AF_UNIX), Proxy(listed, heard=heard)
    door.bind(str(path))
    door.listen()
    _in_thread(proxy.serve, door)
    return proxy


def _around(parent_pid: int, listed: Collection[str], command: Sequence[str]) -> int:
    """Run *command*, with a proxy as long as it runs; return its exit code, or end by the signal that ended it."""
    end_with(parent_pid)
    # The command is in this group and gets it too; a handler, for SIG_IGN would be inherited by the command.
    signal.signal(signal.SIGTERM, lambda *_: None)
    # A socket's path may have 107 bytes at most, wherever the project is.
    # Whoever hands over an ear needs it no more, so it is gone then: we may be killed.
    place = tempfile.TemporaryDirectory(prefix="insitu-", dir="/tmp")
    with place as folder:
        path = Path(folder, "proxy")
        listening(path, listed, heard=place.cleanup)
        code = subprocess.call([*command, str(os.getpid())], env={**os.environ, PROXY: str(path)})
    if code < 0:
        with suppress(OSError):  # SIGKILL takes no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def main(words: Sequence[str]) -> int:
    """Do what the command line says; see the head of this module."""
    mode, where, listed, *command = words
    if mode == "around":
        return _around(int(where), listed.split(","), command)
    listening(Path(where), listed.split(","))
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
