"""What a site can set about how long it keeps things."""

from __future__ import annotations

from pydantic import Field

from insitu.settings.strict import Strict


class RetentionSettings(Strict):
    """What `insitu prune` leaves, beside all that is in use."""

    keep_versions: int = Field(default=10, ge=1, description="how many published versions of a model stay, the newest")
    keep_days: int = Field(default=30, ge=1, description="days that everything stays, whatever became of it")
    registry: bool = Field(
        default=False, description="whether images are removed from the registry, too, and not from this machine alone"
    )
    keep_records_days: int | None = Field(
        default=None,
        ge=1,
        description="days that records and decisions of pruned runs stay; none: for ever, as an audit trail",
    )
