"""What a site can set about what leaves it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from insitu.settings.strict import Strict


class SiteResidencySettings(Strict):
    """What the site lets be told of its data: see docs/residency.md."""

    blob_names: Literal["none", "keyed", "plain"] = Field(
        default="none",
        description="how an image's statement names the blobs: not at all, under the site's key, as they are",
    )
