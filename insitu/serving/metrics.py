"""What the server counts, in Prometheus's text format 0.0.4: never a value of a request."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OTHER = len(BUCKETS_S)  # slower than the last
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_INFO = ("model", "version", "runtime", "run_key")


class Metrics:
    """Counts requests by path and status, and how long they took; paths that nobody serves are one."""

    def __init__(self, metadata: Mapping[str, object]) -> None:
        self._info = {name: str(metadata.get(name, "")) for name in _INFO}
        self._started_s = time.time()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, tuple[list[int], list[float]]] = {}
        self._rows = 0

    def count(self, path: str, status: int, seconds: float, rows: int) -> None:
        """Add one request that was answered."""
        self._requests[path, status] += 1
        self._rows += rows
        buckets, total_s = self._seconds.setdefault(path, ([0] * (_OTHER + 1), [0.0]))
        buckets[bisect_left(BUCKETS_S, seconds)] += 1
        total_s[0] += seconds

    def text(self, *, ready: bool, in_flight: int) -> bytes:
        """Return everything that was counted."""
        return "".join(f"{line}\n" for line in self._lines(ready, in_flight)).encode()

    def _lines(self, ready: bool, in_flight: int) -> Iterator[str]:
        yield from _head("insitu_requests_total", "counter", "Requests that were answered.")
        for (path, status), count in sorted(self._requests.items()):
            yield f"insitu_requests_total{_labels(path=path, status=str(status))} {count}"
        yield from _head("insitu_request_seconds", "histogram", "Time from the head of a request to its answer.")
        for path, (buckets, total_s) in sorted(self._seconds.items()):
            yield from _histogram(path, buckets, total_s[0])
        simple: tuple[tuple[str, str, str, float | None], ...] = (
            ("insitu_rows_total", "counter", "Rows that were scored.", self._rows),
            ("insitu_requests_in_flight", "gauge", "Scoring requests that are read, wait or are scored.", in_flight),
            ("insitu_ready", "gauge", "Whether requests are taken.", int(ready)),
            ("process_start_time_seconds", "gauge", "When the server started.", self._started_s),
            ("process_resident_memory_bytes", "gauge", "Memory that the server has.", _memory_bytes("VmRSS")),
            ("insitu_peak_memory_bytes", "gauge", "Most memory that the server had.", _memory_bytes("VmHWM")),
        )
        for name, kind, about, value in simple:
            if value is not None:
                yield from (*_head(name, kind, about), f"{name} {value}")
        yield from _head("insitu_model_info", "gauge", "What is served.")
        yield f"insitu_model_info{_labels(**self._info)} 1"


def _histogram(path: str, buckets: list[int], total_s: float) -> Iterator[str]:
    name, below = "insitu_request_seconds", 0
    for most, count in zip((*map(str, BUCKETS_S), "+Inf"), buckets, strict=True):
        below += count
        yield f"{name}_bucket{_labels(path=path, le=most)} {below}"
    yield f"{name}_sum{_labels(path=path)} {total_s:.6f}"
    yield f"{name}_count{_labels(path=path)} {below}"


def _head(name: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP {name} {about}", f"# TYPE {name} {kind}"


def _labels(**values: str) -> str:
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items()) + "}"


def _memory_bytes(which: str) -> int | None:
    """Return what proc(5) says; None where there is no such file."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(which)), None)
