"""Every error that insitu raises on purpose.

    InsituError                  exit 1
    ├── UsageError               exit 2   E-USE   a command that cannot be meant
    │   └── SettingsError        exit 2   E-CONF  a settings file or variable, all problems at once
    ├── DataError                exit 4   E-DATA  the batch is incomplete, unreadable or fails its suite
    ├── BlobNotFound                      E-GONE
    ├── BlobExists                        E-EXISTS create-if-absent lost to an earlier writer
    ├── BlobChanged                       E-BLOB  the ETag is not the pinned one any more
    ├── StoreRefused                      E-STORE the blob store refuses: no such container, no right, no such version
    ├── AccessRefused                     E-AUTH  signing in is refused, or a right is missing
    ├── NotReady                          E-READY the compute does not fit the job
    ├── TrainingFailed                    E-TRAIN
    ├── GateFailed                        E-GATE  metrics that cannot be judged
    ├── LeakFound                         E-LEAK  an artifact holds records, or cannot be opened to see whether it does
    ├── DecisionRefused                   E-DEC   no decision on record allows what is to be done
    │   └── AlreadyDecided                E-LATE  somebody else has decided before
    ├── SignatureRefused                  E-SIG   bytes that no trusted key has signed
    ├── EgressRefused                     E-OUT   something that is on no list was about to leave the site
    ├── RegistryFailed                    E-REG   the model registry refuses
    ├── ImageFailed                       E-IMG   assembling or smoke-testing the image
    │   └── OutOfMemory                   E-MEM   the image's server takes more memory than it may
    ├── PublishFailed                     E-PUB   the image registry refuses, or returns other bytes
    ├── BundleRefused                     E-BUN   a bundle is not as it was written, or lacks what it was made without
    ├── DeployFailed                      E-DEP   a target refuses an image, or the web app the relay; or it fails
    ├── StorageFull                       E-DISK
    ├── StateDamaged                      E-STATE a file of the site's state cannot be read
    ├── RunUnderWay                       E-BUSY  another run of the model is at work
    ├── RunTakenOver                      E-LEASE another process has taken this run over
    ├── RunCancelled                      E-STOP  somebody cancelled the run in Prefect
    └── BackendUnavailable                E-NET   no answer; the only error that tasks retry

A message names the thing, what was found, what was wanted and what to do next. It never holds a
value of the data: exceptions travel to places where data must not. Every class has a code of its own,
which stays as it is; insitu/explanations.py says what it means and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EACCES, EDQUOT, ENOSPC, EPERM, EROFS
from typing import Any, ClassVar


class InsituError(Exception):
    """An error with advice.

    Args:
        what: What failed, naming the object.
        found: What was there instead.
        wanted: What would have been right.
        next_action: The next action, as a sentence or a command.
    """

    code: ClassVar[str] = "E-RUN"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        found: str | None = None,
        wanted: str | None = None,
        next_action: str | None = None,
    ) -> None:
        self.what, self.found, self.wanted, self.next_action = what, found, wanted, next_action
        super().__init__(self.render())

    def render(self) -> str:
        """Return the message as people see it: one headline, then what is known."""
        lines = [f"{self.code} {self.what}"]
        for label, text in (("found", self.found), ("wanted", self.wanted), ("next", self.next_action)):
            if text:
                lines.append(f"  {label + ':':<8}{text}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, str | None]:
        """Return the error as JSON values, for a record or for another process."""
        parts = {"what": self.what, "found": self.found, "wanted": self.wanted, "next_action": self.next_action}
        return {"type": type(self).__name__, "code": self.code, **parts}

    @staticmethod
    def from_json(value: Mapping[str, str | None]) -> InsituError:
        """Return the error that `to_json` described, of its own class."""
        named = globals().get(str(value["type"]))
        kind = named if isinstance(named, type) and issubclass(named, InsituError) else InsituError
        parts = {key: value.get(key) for key in ("found", "wanted", "next_action")}
        error: InsituError = kind(str(value["what"]), **parts)
        return error

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by parts; the default would render the rendered text again."""
        return InsituError.from_json, (self.to_json(),)


class UsageError(InsituError):
    """A command line that cannot be meant."""

    code = "E-USE"
    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a settings file or variable.

    Attributes:
        file: Path relative to the project, or "environment".
        line: Line in the file, from 1; None where there is none.
        key: Dotted key, or the name of the variable; empty when it is about the whole file.
        found: What is there.
        wanted: What would have been right.
        hint: The nearest right thing, when there is one.
    """

    file: str
    line: int | None
    key: str
    found: str
    wanted: str
    hint: str | None = None

    def render(self) -> str:
        """Return where the problem is, on a line of its own, then what is known."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        lines = [f"  {place}: {self.key}" if self.key else f"  {place}"]
        for label, text in (("found", self.found), ("wanted", self.wanted), ("hint", self.hint)):
            if text:
                lines.append(f"    {label + ':':<8}{text}")
        return "\n".join(lines)


class SettingsError(UsageError):
    """One or more problems in settings; found before any work."""

    code = "E-CONF"

    def __init__(self, what: str, *, problems: tuple[Problem, ...] = (), **advice: str | None) -> None:
        self.problems = problems
        super().__init__(what, **advice)

    def render(self) -> str:
        """Return the headline, then every problem."""
        return "\n".join([super().render(), *(problem.render() for problem in self.problems)])

    def to_json(self) -> dict[str, str | None]:
        """Return the error as JSON values; the problems are what was found."""
        found = "\n".join(problem.render() for problem in self.problems)
        return super().to_json() | ({"found": found} if found else {})


class DataError(InsituError):
    """The batch is incomplete, unreadable or fails its suite; nothing was trained."""

    code = "E-DATA"
    exit_code = 4


class BlobNotFound(InsituError):
    """There is no blob of this name."""

    code = "E-GONE"


class BlobExists(InsituError):
    """A create-if-absent found a blob of this name."""

    code = "E-EXISTS"


class BlobChanged(InsituError):
    """The blob's ETag is not the one that the caller pinned."""

    code = "E-BLOB"


class StoreRefused(InsituError):
    """The blob store refuses: there is no such container, the secret is wrong, or it speaks another version."""

    code = "E-STORE"


class AccessRefused(InsituError):
    """Signing in is refused, the other side is not who it should be, or the principal lacks a right."""

    code = "E-AUTH"


class NotReady(InsituError):
    """The compute lacks something that the job needs."""

    code = "E-READY"


class TrainingFailed(InsituError):
    """The edge job ended without a usable model."""

    code = "E-TRAIN"


class GateFailed(InsituError):
    """The metrics cannot be judged: missing, not finite, out of domain."""

    code = "E-GATE"


class LeakFound(InsituError):
    """An artifact holds records of the data, or something in it cannot be opened to see whether it does."""

    code = "E-LEAK"


class DecisionRefused(InsituError):
    """No decision on record allows this, or the site does not let people decide it."""

    code = "E-DEC"


class AlreadyDecided(DecisionRefused):
    """Somebody else has decided before."""

    code = "E-LATE"


class SignatureRefused(InsituError):
    """What should be signed by a trusted key is not, or is something else than was expected."""

    code = "E-SIG"


class EgressRefused(InsituError):
    """Something was about to leave the site that nobody has said may leave; it was not sent."""

    code = "E-OUT"


class RegistryFailed(InsituError):
    """The model registry refused, or holds something unexpected."""

    code = "E-REG"


class ImageFailed(InsituError):
    """The image could not be assembled or does not answer as the model does."""

    code = "E-IMG"


class OutOfMemory(ImageFailed):
    """The image's server was ended because it took more memory than it may."""

    code = "E-MEM"


class PublishFailed(InsituError):
    """The image registry refused, or gave back other bytes than were sent."""

    code = "E-PUB"


class BundleRefused(InsituError):
    """A bundle that is not as it was written, or was made without what the receiver does not have."""

    code = "E-BUN"


class DeployFailed(InsituError):
    """A target or the web app refused what was deployed, or does not answer as it should."""

    code = "E-DEP"


class StorageFull(InsituError):
    """No space left where insitu writes."""

    code = "E-DISK"


class StateDamaged(InsituError):
    """A file of the site's state is not what insitu wrote."""

    code = "E-STATE"


class RunUnderWay(InsituError):
    """Another run of the same model is under way.

    Attributes:
        winner: Who that is: `run_key`, `host`, `pid`, `flow_run`, `since`; does not travel to other processes.
    """

    code = "E-BUSY"
    winner: Mapping[str, Any] | None = None


class RunTakenOver(InsituError):
    """Another process has taken over what this one was working on."""

    code = "E-LEASE"


class RunCancelled(InsituError):
    """Somebody cancelled the flow run in Prefect."""

    code = "E-STOP"


class BackendUnavailable(InsituError):
    """A service gave no answer. The only error that tasks retry."""

    code = "E-NET"


@contextmanager
def naming_write_errors(where: object) -> Iterator[None]:
    """Turn "no space left" under *where* into `StorageFull`, and "not yours" into an `InsituError` that says so."""
    try:
        yield
    except OSError as exc:
        if exc.errno in (EACCES, EPERM, EROFS):
            raise InsituError(
                f"{where} cannot be written",
                found=exc.strerror,
                next_action="give this user the right, or name another place",
            ) from exc
        if exc.errno not in (ENOSPC, EDQUOT):
            raise
        raise StorageFull(
            f"no space left while writing {where}",
            next_action="free some space (see `df -h`), then start the run again: it goes on where it stopped",
        ) from exc
