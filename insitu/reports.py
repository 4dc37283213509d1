"""The kept report of a validation: found by run or version, and written as a page that stays on site."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from insitu.errors import BlobNotFound, InsituError, UsageError, naming_write_errors
from insitu.files import staged, write_through
from insitu.journal import Journal, read_json
from insitu.lineage import Records
from insitu.ports import BlobStore

_REPORT = "report"
_MOST_FAILURES = 12


@dataclass(frozen=True)
class KeptReport:
    """What a run's validation left in the site's state.

    Attributes:
        record: The run's record, as it is now.
        validation: The redacted report; None when the run was killed before it was written down.
        full: The complete Great Expectations result as JSON values, with values of the data.
        checked: When it was written.
        newer: The record of the newest run, when that one has no report.
    """

    record: Mapping[str, Any]
    validation: Mapping[str, Any] | None
    full: Mapping[str, Any]
    checked: datetime
    newer: Mapping[str, Any] | None = None

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.record["model"])

    @property
    def run_key(self) -> str:
        """The key of the run that validated."""
        return str(self.record["run_key"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader should know about how it was checked."""
        return tuple(self.validation["notes"]) if self.validation else ()

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Labels and values that say what was checked and when; no value of the data."""
        batch, validation = self.record["batch"], self.validation
        facts = [
            ("model", self.model),
            ("site", str(self.record["site"])),
            ("checked", f"{self.checked:%Y-%m-%d %H:%M:%S} UTC"),
            ("run state", self.record["state"]),
            ("blobs", f"{batch['blobs']}, {batch['bytes'] / 1e6:.1f} MB"),
        ]
        if validation:
            facts += [("rows", f"{validation['rows']:,}"), ("read", f"{validation['bytes_read'] / 1e6:.1f} MB")]
        return [*facts, ("run", self.run_key), ("batch", batch["fingerprint"])]

    def to_json(self) -> dict[str, Any]:
        """Return what may be shown anywhere, as JSON values."""
        return {
            "model": self.model,
            "run_key": self.run_key,
            "state": self.record["state"],
            "checked": self.checked.isoformat(timespec="seconds"),
            "validation": self.validation,
        }

    def summary(self) -> Iterator[str]:
        """Yield the lines of one screen, the verdict first unless it is not the newest run's; no value of the data."""
        if self.newer:
            yield f"the newest run, {self.newer['run_key'][:12]}, has no report: {_ending(self.newer)}"
            yield f"this is run {self.run_key[:12]}, the newest that has one:"
        failed, total = self._counts()
        verdict = f"{failed} of {total} expectations FAILED" if failed else f"all {total} expectations hold"
        yield f"{self.model}: {verdict}, suite {self.full['suite_name']}"
        failures = self.validation["failures"] if self.validation else []
        for failure in failures[:_MOST_FAILURES]:
            yield f"  - {failure_told(failure)}"
        if len(failures) > _MOST_FAILURES:
            yield f"  - and {len(failures) - _MOST_FAILURES} more"
        for label, value in self.facts[1:]:
            yield f"  {label:<11}{value}"

    def _counts(self) -> tuple[int, int]:
        results = self.full["results"]
        return sum(not result["success"] for result in results), len(results)


def find_report(state: BlobStore, model: str, version: str | None = None) -> KeptReport:
    """Return the report of the newest run that has one, or that of a version or run.

    Args:
        state: The site's state.
        model: The model's name.
        version: What `Records.of_version` takes; None for the newest run with a report, however it ended.

    Raises:
        UsageError: There is no such run, or it has no report.
        StateDamaged: A file of the run is not what insitu wrote.
    """
    records = Records(state)
    if version is not None:
        return _of_run(state, model, records.of_version(model, version))
    runs = records.of_model(model)
    names = set(state.names(f"runs/{model}/"))
    kept = [record for record in runs if _name(state, model, record) in names]
    if not kept:
        raise _nothing(model, runs)
    return _of_run(state, model, kept[-1], None if kept[-1] is runs[-1] else runs[-1])


def page_of(work: Path, record: Mapping[str, Any]) -> Path:
    """Return where the page of a run lies, once it is written; *work* is the site's folder for that."""
    return work / "reports" / str(record["model"]) / f"{record['run_key']}.html"


def write_private(folder: Path, path: Path, page: str) -> None:
    """Write *page* to *path*, in *folder* or in a folder of it, whole or not at all, for this user's eyes only.

    Raises:
        StorageFull: No space left.
        InsituError: The folder is not this user's.
    """
    with naming_write_errors(folder):
        for place in (folder, path.parent):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.chmod(0o700)
    with staged(path) as temporary:
        temporary.touch(mode=0o600)
        write_through(temporary, page.encode())
        os.replace(temporary, path)


def show_in_browser(path: Path) -> bool:
    """Open *path* in the browser of the desktop; return whether one took it. Never raises."""
    try:
        return webbrowser.open(path.absolute().as_uri())
    except (webbrowser.Error, OSError):
        return False


def has_desktop(environ: Mapping[str, str]) -> bool:
    """Tell whether a person looks at this terminal and has a desktop beside it."""
    shown = sys.platform == "darwin" or any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return shown and sys.stdout.isatty()


def _of_run(
    state: BlobStore, model: str, record: Mapping[str, Any], newer: Mapping[str, Any] | None = None
) -> KeptReport:
    name, judged = _name(state, model, record), Journal(state, model, record["run_key"]).entry("validate")
    try:
        full, checked = read_json(state, name), state.stat(name).last_modified
    except BlobNotFound:
        raise UsageError(
            f"run {record['run_key'][:12]} of {model} has no report",
            found=f"{name} is gone from the site's state" if judged else _ending(record),
            wanted="a run whose data was judged",
            next_action=f"`insitu history {model}` lists the others",
        ) from None
    return KeptReport(record, judged["value"] if judged else None, full, checked, newer)


def _name(state: BlobStore, model: str, record: Mapping[str, Any]) -> str:
    return Journal(state, model, record["run_key"]).name(_REPORT)


def _nothing(model: str, runs: Sequence[Mapping[str, Any]]) -> InsituError:
    if not runs:
        return UsageError(
            f"{model} has no report yet",
            found="no run in the site's state",
            next_action=f"`insitu retrain {model}` validates the data, then trains",
        )
    return UsageError(
        f"no run of {model} has a report",
        found=f"{len(runs)} in the site's state; the newest: {_ending(runs[-1])}",
        next_action=f"mend that, then `insitu retrain {model}`; `insitu history {model}` lists them all",
    )


def _ending(record: Mapping[str, Any]) -> str:
    error = record["error"]
    return f"state {record['state']}" + (f", {error['code']} {error['what']}" if error else "")


def failure_told(failure: Mapping[str, Any]) -> str:
    """Return what a failed expectation is, how many rows break it, and in which blobs they are."""
    counted = "" if failure["unexpected_count"] is None else f", {failure['unexpected_count']:,}"
    rows = f" of {failure['rows']:,} rows" if counted and failure["rows"] is not None else ""  # distinct values: none
    where = f", in {blobs}" if (blobs := blobs_of(failure)) else ""
    return f"{failure['expectation']}({', '.join(failure['columns'])}): {failure['reason']}{counted}{rows}{where}"


def blobs_of(outcome: Mapping[str, Any]) -> str:
    """Return in which blobs the unexpected rows are, such as "a.csv (3), b.csv (1) and 2 more"; empty: nobody knows."""
    named = ", ".join(f"{blob['name']} ({blob['rows']:,})" for blob in outcome.get("blobs", ()))
    return f"{named} and {outcome['more_blobs']:,} more" if named and outcome["more_blobs"] else named
