"""The one door of the estate: an HTTP proxy that ends TLS for the hosts that the twin plays, and refuses all others."""

from __future__ import annotations

import logging
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress
from email.utils import formatdate
from json import dumps
from socketserver import BaseRequestHandler, ThreadingTCPServer

import h11

from insitu.twin.estate import Estate
from insitu.twin.exchange import Answer, Asked, Loop, Wire
from insitu.twin.faults import Fault
from insitu.twin.services import Service, service_of
from insitu.twin.web import App

_HEAD_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: hang up without a goodbye

log = logging.getLogger(__name__)


class Gateway:
    """The proxy, which holds a loopback port from now on: *port*, or a free one. It serves from `start` to `stop`."""

    def __init__(self, estate: Estate, port: int = 0) -> None:
        self.estate, self.loop, self.stopped = estate, Loop(), threading.Event()
        self._server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"gateway": self}))
        self._thread: threading.Thread | None = None
        self._open: set[socket.socket] = set()
        estate.port = int(self._server.server_address[1])

    def start(self, services: Mapping[str, Service], control: App) -> None:
        """Serve *services*, and *control* to those who come without a proxy's request."""
        self.services, self.control = services, control
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="twin-gateway"
        )
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections, and drop those that there are."""
        self.stopped.set()
        if self._thread:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for sock in list(self._open):  # else a client that keeps its connection would wait for ever
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.loop.stop()

    def accept(self, sock: socket.socket) -> None:
        """Serve one connection to its end."""
        self._open.add(sock)
        try:
            self._converse(sock)
        except (OSError, h11.ProtocolError) as exc:  # clients are killed, and hang up
            log.info("a connection ends: %s", type(exc).__name__)
        finally:
            self._open.discard(sock)

    def _converse(self, sock: socket.socket) -> None:
        head, rest = _head(sock)
        method, _, target = head.partition(b"\r\n")[0].decode("latin-1").rpartition(" ")[0].partition(" ")
        if method == "CONNECT":
            self._tunnel(sock, target)
        elif target.startswith("/"):
            self._serve(Wire(sock, head + rest), "twin", Service("hub", self.control), logged=False)
        else:
            host = target.partition("://")[2].partition("/")[0]
            self._refuse(sock, host, method, "only https leads to the estate")

    def _tunnel(self, sock: socket.socket, target: str) -> None:
        host, _, port = target.rpartition(":")
        host = host.strip("[]").lower()
        service = service_of(host, self.services) if port == "443" else None
        if service is None:
            self._refuse(sock, target, "CONNECT", "no such host in the estate")
            return
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        fault = self.estate.faults.take(host, "*", "", of_connection=True)
        flaw = fault.kind.partition(":")[2] if fault else ""
        try:
            with self.estate.authority.context(host, flaw).wrap_socket(sock, server_side=True) as secured:
                self._open.add(secured)
                try:
                    self._serve(Wire(secured), host, service)
                finally:
                    self._open.discard(secured)
        except ssl.SSLError as exc:
            log.info("%s: the client ends TLS: %s", host, exc.reason)

    def _serve(self, wire: Wire, host: str, service: Service, *, logged: bool = True) -> None:
        while asked := wire.receive():
            fault = self.estate.faults.take(host, asked.method, asked.target) if logged else None
            answer = Answer(0)
            if fault is None or fault.when == "after" or not _replaces(fault):
                answer = self._answer(service, host, asked)
            given = _spoiled(answer, fault) if fault else answer
            if logged:
                self._write_down(service, host, asked, given)
            if fault and not self._send_badly(wire, given, fault):
                return
            if not fault:
                wire.send(given)
            if not wire.goes_on:
                return

    def _answer(self, service: Service, host: str, asked: Asked) -> Answer:
        try:
            answer = self.loop.answer(service.app, host, asked)
        except Exception:  # its client must see a 500, as from any other service
            log.exception("the twin itself failed at %s %s%s", asked.method, host, asked.target.partition("?")[0])
            answer = _json(500, "InternalServerError", "The twin itself failed: see its log.")
        if not any(name.lower() == b"date" for name, _ in answer.headers):
            answer.headers.append((b"date", formatdate(self.estate.now(), usegmt=True).encode()))
        return answer

    def _write_down(self, service: Service, host: str, asked: Asked, answer: Answer) -> None:
        self.estate.journal.add(
            service.side,
            host,
            asked.method,
            asked.target,
            headers=asked.headers,
            body=asked.body,
            status=answer.status,
            bytes_in=len(answer.body),
        )

    def _refuse(self, sock: socket.socket, host: str, method: str, reason: str) -> None:
        self.estate.journal.add("unknown", host, method, "", status=403, kind="refused")
        sock.sendall(
            f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(reason)}\r\nConnection: close\r\n\r\n{reason}".encode()
        )

    def _send_badly(self, wire: Wire, answer: Answer, fault: Fault) -> bool:
        """Send *answer* as the fault has it; return whether the connection can go on."""
        word = fault.kind.partition(":")[0]
        if word == "silence":
            self._wait_for_end(wire.sock)
        elif word == "drop":
            wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif word == "truncate":
            wire.send(answer, only_bytes=len(answer.body) // 2)
        else:
            if word == "slow":
                self.stopped.wait((fault.numbers or (5.0,))[0])
            wire.send(answer)
            return True
        return False

    def _wait_for_end(self, sock: socket.socket) -> None:
        """Say nothing until the client hangs up, or the twin ends."""
        sock.settimeout(0.2)
        while not self.stopped.is_set():
            try:
                if not sock.recv(_HEAD_BYTES):
                    return
            except TimeoutError:
                continue


class _Handler(BaseRequestHandler):
    gateway: Gateway

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.gateway.accept(self.request)


class _Server(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128


def _head(sock: socket.socket) -> tuple[bytes, bytes]:
    """Read until the head of a request is there; return it, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < _HEAD_BYTES:
        more = sock.recv(_HEAD_BYTES)
        if not more:
            break
        data += more
    head, mark, rest = data.partition(b"\r\n\r\n")
    return head + mark, rest


def _replaces(fault: Fault) -> bool:
    """Tell whether nothing of the service's own answer is given."""
    return fault.kind.partition(":")[0] not in ("truncate", "slow")


def _spoiled(answer: Answer, fault: Fault) -> Answer:
    """Return what is given instead of *answer*."""
    word = fault.kind.partition(":")[0]
    if word == "status":
        status, *pause_s = fault.numbers
        headers = [(b"retry-after", str(int(pause_s[0])).encode())] if pause_s else []
        made = _json(int(status), "InjectedFault", "The twin was told to fail here.")
        return Answer(made.status, made.headers + headers, made.body)
    if word == "garbage":
        page = b"<html><body>Sign in to the guest network</body></html>"
        return Answer(200, [(b"content-type", b"text/html")], page)
    return Answer(0) if word in ("drop", "silence") else answer


def _json(status: int, code: str, message: str) -> Answer:
    body = dumps({"error": {"code": code, "message": message}}).encode()
    return Answer(status, [(b"content-type", b"application/json")], body)
