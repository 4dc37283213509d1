"""What a drift check is given, in a form that is cheap to import and can be sent to another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from insitu.batch import Batch
from insitu.settings import DriftSettings


@dataclass(frozen=True)
class Baseline:
    """What the champion was trained on.

    Attributes:
        champion: What people call it, such as `v3`.
        profile: The `Report.profile` of its run; values of the data.
    """

    champion: str
    profile: Mapping[str, Any]


@dataclass(frozen=True)
class DriftCheck:
    """What to compare with what, and how far it may be.

    Attributes:
        training: The blobs of the batch that the challenger will be trained on.
        baseline: None before there is a champion.
    """

    limits: DriftSettings
    training: Batch
    baseline: Baseline | None = None
