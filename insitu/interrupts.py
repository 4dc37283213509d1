"""A Ctrl-C that gets lost on its way is raised again.

Python raises it wherever the main thread is just then; where that is a callback of a library, or a destructor, it is
printed or swallowed, and the job would run on. Who waits for long calls `heed` now and then.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

_unheeded: Callable[[], object] | None = None


def remember(sign: signal.Signals) -> None:
    """Let the signal's handler leave a note for `heed`; one that is ignored stays so."""
    before = signal.getsignal(sign)
    if not callable(before):
        return
    handler = before

    def note(number: int, frame: FrameType | None) -> None:
        global _unheeded
        _unheeded = lambda: handler(number, None)  # noqa: E731 - one line says it
        handler(number, frame)

    signal.signal(sign, note)


def heed() -> None:
    """Do once more what the last signal did, if this process still goes on as if there had been none."""
    global _unheeded
    again, _unheeded = _unheeded, None
    if again:
        again()
