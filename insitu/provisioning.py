"""What a site stands on, brought about once: looked at, made where it is missing, looked at again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from insitu.errors import NotReady


@dataclass(frozen=True)
class Finding:
    """What was seen of a part.

    Attributes:
        found: How it is.
        to_do: What `Part.make` does about it; empty when it is as it should be.
    """

    found: str
    to_do: str = ""


class Part(Protocol):
    """One thing that a site stands on, such as its VM. Both methods raise `InsituError`."""

    @property
    def name(self) -> str:
        """What people call it, e.g. `VM trainer`."""
        ...

    @property
    def place(self) -> str:
        """Where it is, e.g. `resource group insitu of hub north`."""
        ...

    def look(self) -> Finding:
        """Return how it is; changes nothing."""
        ...

    def make(self) -> None:
        """Bring it about; return when it is there. Started again after an interruption, it goes on."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What was found of a part, and what was done, or (*done* is false) would be."""

    name: str
    place: str
    found: str
    to_do: str
    done: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dict(vars(self))


def plan(parts: Sequence[Part]) -> list[Outcome]:
    """Return what `bring_about` would do; changes nothing."""
    return [_outcome(part, part.look(), False) for part in parts]


def bring_about(part: Part, on_start: Callable[[str], None] = lambda _: None) -> Outcome:
    """Make *part* unless it is as it should be; *on_start* is told before anything is changed.

    Raises:
        NotReady: It was made, and still is not as it should be.
    """
    finding = part.look()
    if not finding.to_do:
        return _outcome(part, finding, False)
    on_start(finding.to_do)
    part.make()
    after = part.look()
    if after.to_do:
        raise NotReady(
            f"{part.name} was seen to, and still is not as it should be",
            found=after.found,
            next_action=f"look at it in {part.place}, then start again: what is done is not done twice",
        )
    return _outcome(part, finding, True)


def _outcome(part: Part, finding: Finding, done: bool) -> Outcome:
    return Outcome(part.name, part.place, finding.found, finding.to_do, done)
