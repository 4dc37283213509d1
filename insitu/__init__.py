"""insitu: retrain models where the data lives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insitu.notebook import open_run as open_run

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return `insitu.open_run`, for notebooks; it is imported when it is asked for, for it is heavy."""
    if name == "open_run":
        from insitu.notebook import open_run

        return open_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
