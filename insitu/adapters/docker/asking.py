"""Ask the server in a container from inside: by a program that its own interpreter runs there.

So it makes no difference where the Docker host is, which network the container has, or whether it has one at all.
What is asked travels over the program's input, and so is in no list of processes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import docker

from insitu.adapters.docker.host import DockerHost
from insitu.errors import BackendUnavailable, ImageFailed

_PROGRAM = """
import http.client, sys, time
port, method, path, size, patience_s = int(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4]), float(sys.argv[5])
body = sys.stdin.buffer.read(size) if size else sys.stdin.buffer.read(1) and None
until = time.monotonic() + patience_s
while True:
    try:
        door = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        door.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        said = door.getresponse()
        status, content = said.status, said.read()
    except OSError:
        status, content = 0, b""
    if status not in (0, 503) or time.monotonic() > until:
        break
    time.sleep(0.05)
sys.stdout.buffer.write(b"%d %b" % (status, content))
"""
_HEADER = struct.Struct(">BxxxL")
_STDOUT = 1
_SLACK_S = 90.0


@dataclass(frozen=True)
class ContainerScorer:
    """`Scorer` of a running container.

    Args:
        interpreter: What runs the Python of the image, see `python_of`.
        port: Where the server listens in the container.
    """

    host: DockerHost
    container: str
    interpreter: Sequence[str]
    port: int

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of one HTTP request; raise `ImageFailed` when nobody answers."""
        return self._asked(method, path, body, patience_s=0.0)

    def wait(self, patience_s: float) -> None:
        """Return when the server is ready; raise `ImageFailed` when it is not in time."""
        status, _ = self._asked("GET", "/ready", None, patience_s)
        if status != 200:
            raise ImageFailed(
                "the image's server did not become ready",
                found=f"status {status}",
                wanted=f"an answer at /ready within {patience_s:.0f} s",
            )

    def peak_memory_bytes(self) -> int | None:
        """Return None: Docker tells it on some machines only."""
        return None

    def _asked(self, method: str, path: str, body: bytes | None, patience_s: float) -> tuple[int, bytes]:
        arguments = [str(self.port), method, path, str(len(body or b"")), str(patience_s)]
        command = [*self.interpreter, "-P", "-c", _PROGRAM, *arguments]

        def ask(client: docker.APIClient) -> bytes:
            made = client.exec_create(self.container, command, stdin=True)
            return _conversation(client.exec_start(made["Id"], socket=True), body or b"\n", patience_s + _SLACK_S)

        status, _, content = self.host.ask(ask, "ask a container").partition(b" ")
        if not status.isdigit() or status == b"0":
            raise ImageFailed("the image's server does not answer", found="no answer" if status == b"0" else "it ended")
        return int(status), content


def _conversation(stream: Any, said: bytes, patience_s: float) -> bytes:
    """Say something to a program and return what it prints; standard error is dropped: it may quote a row."""
    door = getattr(stream, "_sock", stream)  # a channel of SSH is one already
    try:
        door.settimeout(patience_s)
        door.sendall(said)
        heard, printed = b"", b""
        while chunk := door.recv(1 << 16):
            heard += chunk
            while len(heard) >= _HEADER.size:
                kind, size = _HEADER.unpack_from(heard)
                if len(heard) < _HEADER.size + size:
                    break
                printed += heard[_HEADER.size : _HEADER.size + size] if kind == _STDOUT else b""
                heard = heard[_HEADER.size + size :]
        return printed
    except TimeoutError:
        raise BackendUnavailable("a container does not answer", wanted=f"an answer within {patience_s:.0f} s") from None
    finally:
        stream.close()
