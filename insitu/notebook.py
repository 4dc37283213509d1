"""A run as a person looks at it in a notebook: the record, and data frames made of it."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu.lineage import Records
from insitu.project import find_project
from insitu.settings import load_site
from insitu.wiring import open_site

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RecordedRun:
    """A run that has been, as the site's state has it: aggregates and names, no rows.

    Attributes:
        record: The run record; what it holds: docs/contracts.md.
    """

    record: Mapping[str, Any] = field(repr=False)
    model: str
    site: str
    run_key: str
    version: str | None
    state: str
    _runs: tuple[Mapping[str, Any], ...] = field(repr=False, compare=False)

    @property
    def metrics(self) -> pd.DataFrame:
        """What the holdout says of the challenger, and of the champion where there was one: a row per metric."""
        compared = (self.record["training"] or {}).get("compared") or {}
        return _frame(dict(compared)).rename_axis("metric")

    @property
    def report(self) -> pd.DataFrame:
        """What validation found: a row per expectation, with counts and no values."""
        return _frame((self.record["validation"] or {}).get("outcomes") or ())

    @property
    def egress(self) -> pd.DataFrame:
        """What left the site with the run: a row per object, in order."""
        return _frame(self.record["egress"] or ())

    @property
    def history(self) -> pd.DataFrame:
        """All runs of the model, oldest first, with their metrics: a row per run."""
        return _frame(_line(record) for record in self._runs)

    def _repr_html_(self) -> str:
        decision = self.record["decision"] or {}
        facts = {
            "state": self.state,
            "version": self.version or "none",
            "batch": f"{self.record['batch']['blobs']} blobs",
            "verdict": decision.get("verdict") or "none",
            "reasons": "; ".join(decision.get("reasons") or ()),
            "published": (self.record["publication"] or {}).get("reference") or "nothing",
            "error": (self.record["error"] or {}).get("what"),
        }
        rows = "".join(
            f"<tr><th scope='row'>{name}</th><td>{html.escape(str(said))}</td></tr>"
            for name, said in facts.items()
            if said
        )
        title = html.escape(f"{self.model} at {self.site}, run {self.run_key[:12]}")
        return f"<table><caption>{title}</caption>{rows}</table>{self.metrics.to_html(border=0)}"


def open_run(
    model: str, version_or_key: str | int = "latest", site: str = "local", project: str | Path | None = None
) -> RecordedRun:
    """Return a run of *model*: the newest champion's, a published version's, or any by 8 or more digits of its key.

    Args:
        project: The project's folder; without it `INSITU_PROJECT`, or the nearest one from here upwards.

    Raises:
        UsageError: There is no project, or no such version or run.
        SettingsError: The settings of the site have problems.
    """
    named = project or os.environ.get("INSITU_PROJECT")
    folder = find_project(Path(named or Path.cwd()), named=named is not None)
    records = Records(open_site(folder, load_site(folder, site, os.environ)).state)
    record = records.of_version(model, str(version_or_key))
    return RecordedRun(
        record=record,
        model=record["model"],
        site=record["site"],
        run_key=record["run_key"],
        version=(record["model_version"] or {}).get("version"),
        state=record["state"],
        _runs=tuple(records.of_model(model)),
    )


def _line(record: Mapping[str, Any]) -> dict[str, Any]:
    import pandas as pd

    return {
        "version": (record["model_version"] or {}).get("version"),
        "run_key": record["run_key"],
        "finished": pd.Timestamp(record["finished"]) if record["finished"] else pd.NaT,
        "state": record["state"],
        "verdict": (record["decision"] or {}).get("verdict"),
        "blobs": record["batch"]["blobs"],
        "rows": (record["validation"] or {}).get("rows"),
        "seconds": sum(record["seconds"].values()),
        **((record["training"] or {}).get("metrics") or {}),
    }


def _frame(rows: Iterable[Any] | Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows if isinstance(rows, Mapping) else list(rows))
