"""uvicorn's HTTP protocol with an end to what comes before a body: its parser takes any size, and waits forever."""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request has a head of more than `MAX_HEAD_BYTES`, or that takes too long."""

    head_timeout_s = 30.0
    """Seconds from connection, or from a later request's first byte, to the end of the head; at most twice that."""

    _head_bytes = 0
    _since_s: float | None = None  # when the head that is being read began; None while none is
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a first head."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._since_s = self.loop.time()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for the rest of a head."""
        super().on_message_begin()
        self._head_bytes, self._since_s = 0, self.loop.time()

    def on_headers_complete(self) -> None:
        """Take the request."""
        self._since_s = None
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse *data*; close the connection when what it has sent of a head is too much."""
        super().data_received(data)
        if self._since_s is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.close()

    def _look_later(self) -> None:
        """Close the connection if its head is late, or look again: one timer, since one per request costs more."""
        if self._since_s is not None and self.loop.time() - self._since_s >= self.head_timeout_s:
            self.transport.close()
        else:
            self._look = self.loop.call_later(self.head_timeout_s, self._look_later)
