"""A registry that keeps every byte of an upload, also of a broken chunk, as the standard asks: `FOLDER PORT`.

docker-registry 2.8 gives such an upload up, so it cannot show that a client goes on where it was.
"""

from __future__ import annotations

import re
import sys
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class Keeping(BaseHTTPRequestHandler):
    """Blob uploads and nothing else."""

    protocol_version = "HTTP/1.1"
    folder = Path()

    @property
    def upload(self) -> Path:
        """The bytes that have arrived."""
        return self.folder / "upload"

    def do_POST(self) -> None:
        self.upload.write_bytes(b"")
        self.say(202, Location="/v2/kept/blobs/uploads/1")

    def do_GET(self) -> None:
        self.say(204, Location="/v2/kept/blobs/uploads/1", Range=f"0-{max(0, self.upload.stat().st_size - 1)}")

    def do_HEAD(self) -> None:
        self.say(200 if (self.folder / self.path.rpartition(":")[2]).exists() else 404)

    def do_PATCH(self) -> None:
        match = re.match(r"(\d+)-", self.headers["Content-Range"])
        if not match or int(match[1]) != self.upload.stat().st_size:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.say(416)
            return
        left = int(self.headers["Content-Length"])
        with self.upload.open("ab", buffering=0) as file:
            while left and (piece := self.rfile.read1(min(left, 1 << 16))):  # type: ignore[attr-defined]
                file.write(piece)
                left -= len(piece)
        self.say(202, Location="/v2/kept/blobs/uploads/1", Range=f"0-{self.upload.stat().st_size - 1}")

    def do_PUT(self) -> None:
        digest = parse_qs(urlsplit(self.path).query)["digest"][0].removeprefix("sha256:")
        if sha256(self.upload.read_bytes()).hexdigest() != digest:
            self.say(400)
            return
        self.upload.rename(self.folder / digest)
        self.say(201)

    def say(self, status: int, **headers: str) -> None:
        """Answer without a body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    Keeping.folder = Path(sys.argv[1])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Keeping).serve_forever()
