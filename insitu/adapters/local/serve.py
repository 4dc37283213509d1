"""Serve an image of a registry on a loopback port, as a process: `python -m insitu.adapters.local.serve …`.

Who has no container engine tries out this way what an orchestrator would do with the image. It listens when the
image's own server is ready, hands every request on to that, and ends with it.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from insitu.adapters.local.images import LayoutImages
from insitu.adapters.local.scoring import ProcessScoringHost
from insitu.errors import ImageFailed
from insitu.images.client import RegistryImages
from insitu.images.publish import publish_image
from insitu.ports import Scorer


def serve(repository: str, digest: str, work: Path, port: int) -> None:
    """Serve until the process ends; raise `ImageFailed`, `PublishFailed` before it listens.

    Args:
        repository: `HOST:PORT/NAME`.
        work: Folder for the image: its layers, and what they unpack to.
    """
    host, _, name = repository.partition("/")
    layout = LayoutImages(work / "layout")
    publish_image(digest, RegistryImages(host, name), layout, tags=())
    with ProcessScoringHost(work / "unpacked").run(layout, digest) as scorer:
        handler = type("Handler", (_Handler,), {"scorer": scorer})
        ThreadingHTTPServer(("127.0.0.1", port), handler).serve_forever()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scorer: Scorer

    def do_GET(self) -> None:
        self._hand_on(None)

    def do_POST(self) -> None:
        self._hand_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _hand_on(self, body: bytes | None) -> None:
        try:
            status, answer = self.scorer.request(self.command, self.path, body)
        except ImageFailed:
            status, answer = 502, b"{}"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing: paths are all the same."""


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
