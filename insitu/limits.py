"""What a finished image may be and take before it is published: the `[limits]` of model.toml."""

from __future__ import annotations

from collections.abc import Iterator

from insitu.settings import LimitSettings


def exceeded(
    limits: LimitSettings,
    size_bytes: int,
    latency_ms: float | None,
    peak_memory_bytes: int | None,
    *,
    ended: bool = False,
) -> Iterator[str]:
    """Yield each limit that the image does not keep; what was not measured keeps none.

    Its server may have been *ended* for taking more memory than `max_memory_mb`: then nothing of it was measured.
    """
    found = {
        "size": (size_bytes / 1e6, limits.max_size_mb, "MB", "max_size_mb"),
        "time for one row": (latency_ms, limits.max_latency_ms, "ms", "max_latency_ms"),
        "memory of its server": (
            None if peak_memory_bytes is None else peak_memory_bytes / 1e6,
            limits.max_memory_mb,
            "MB",
            "max_memory_mb",
        ),
    }
    if ended:
        most = f"{limits.max_memory_mb:.4g} MB (limits.max_memory_mb)"
        yield f"the image's server took more memory than {most}, and was ended"
        found = {"size": found["size"]}
    for what, (value, limit, unit, key) in found.items():
        if limit is not None and not (value is not None and value <= limit):
            seen = "was not measured" if value is None else f"is {value:.4g} {unit}"
            yield f"the image's {what} {seen}, wanted at most {limit:.4g} {unit} (limits.{key})"
