"""The log of an edge job as it may leave the site: line by line, without escapes, tracebacks or floods."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from insitu.ports import JobPhase

_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[^\t\x20-\x7e\xa0-\U0010ffff]")
_PROGRESS = re.compile(r"::progress (\d(?:\.\d+)?)( .*)?")
_TRACEBACK = b"Traceback (most recent call last)"
_LINE_END = re.compile(rb"[\r\n]")  # progress bars end their lines with a carriage return
_MAX_LINE_CHARS = 500


@dataclass
class LogRelay:
    """Passes complete log lines on, without escapes, tracebacks or floods.

    A traceback may quote rows, and where its message ends cannot be told: from there to the next
    progress line everything stays in the log on site, and a note takes its place.
    """

    on_line: Callable[[str], None]
    on_progress: Callable[[float], None]
    max_lines: int = 500
    on_phase: Callable[[JobPhase], None] = lambda _: None
    _rest: bytes = field(default=b"", init=False)
    _lines: int = field(default=0, init=False)
    _withheld: bool = field(default=False, init=False)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the log."""
        *lines, rest = _LINE_END.split(self._rest + data)
        for line in lines:
            self._pass_on(line)
        self._withhold_from(rest)
        self._rest = rest[-4 * _MAX_LINE_CHARS :]  # the end of a long line: what it becomes is seen there

    def _pass_on(self, line: bytes) -> None:
        text = _CONTROL.sub("", line[: 4 * _MAX_LINE_CHARS].decode(errors="replace"))[:_MAX_LINE_CHARS]
        if match := _PROGRESS.fullmatch(text):
            self._withheld = False
            fraction = min(1.0, float(match[1]))
            self.on_progress(fraction)
            self._emit(f"{fraction:.0%}{match[2] or ''}")
        self._withhold_from(line)
        if text.strip() and not self._withheld and not match:
            self._emit(text)

    def _withhold_from(self, line: bytes) -> None:
        if _TRACEBACK in line and not self._withheld:
            self._emit("(a traceback follows; it is kept in the log on site)")
            self._withheld = True

    def _emit(self, line: str) -> None:
        self._lines += 1
        if self._lines <= self.max_lines:
            self.on_line(line)
        elif self._lines == self.max_lines + 1:
            self.on_line(f"(more than {self.max_lines} lines: the rest is in the log on site)")
