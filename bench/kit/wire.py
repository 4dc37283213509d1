"""A proxy that counts the bytes which pass it: `python -m bench.kit.wire PORT` in front of 127.0.0.1:PORT."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread

from bench.harness import ROOT

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Wire:
    """The proxy's own port, and how many bytes came through it from the service so far."""

    port: int
    _process: subprocess.Popen[str]

    def received_bytes(self) -> int:
        """Return the bytes that the service has sent, headers included."""
        print(file=self._process.stdin, flush=True)
        return _number(self._process)


@contextmanager
def counting(port: int) -> Iterator[Wire]:
    """Run the proxy in front of the service on loopback port *port*."""
    command = [sys.executable, "-m", "bench.kit.wire", str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Wire(_number(process), process)
        finally:
            process.terminate()


def _number(process: subprocess.Popen[str]) -> int:
    assert process.stdout  # a pipe
    return int(process.stdout.readline())


class _Proxy:
    """One loop over all connections; what one side sends goes to the other as it comes."""

    def __init__(self, port: int) -> None:
        self.received_bytes = 0
        self._service = ("127.0.0.1", port)
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._selector.register(self._listener, selectors.EVENT_READ, None)

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    self._connect()
                else:
                    self._forward(*key.data)

    def _connect(self) -> None:
        client = self._listener.accept()[0]
        service = socket.create_connection(self._service)
        for here, there, counts in ((client, service, False), (service, client, True)):
            here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(here, selectors.EVENT_READ, (here, there, counts))

    def _forward(self, here: socket.socket, there: socket.socket, counts: bool) -> None:
        try:
            data = here.recv(_CHUNK_BYTES)
            there.sendall(data)
        except OSError:
            data = b""
        self.received_bytes += len(data) if counts else 0
        if not data:
            for end in (here, there):
                if end in self._selector.get_map():
                    self._selector.unregister(end)
                end.close()


def _main(port: int) -> None:
    proxy = _Proxy(port)
    Thread(target=proxy.serve, daemon=True).start()
    print(proxy.port, flush=True)
    for _ in sys.stdin:
        print(proxy.received_bytes, flush=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
