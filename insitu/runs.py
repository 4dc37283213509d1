"""A run: one model, one pinned batch, one key that names everything that comes of it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from insitu import __version__
from insitu.batch import Batch, Blob
from insitu.errors import DataError, SettingsError, UsageError
from insitu.files import file_digests
from insitu.journal import Journal
from insitu.settings import DataSettings, ModelSettings, load_settings
from insitu.wiring import Site, open_site

_THAT_MATTER: dict[str, Any] = {
    "target": True,
    "data": True,
    "train": {"command", "params", "requirements"},
    "drift": True,
    "gate": True,
    "smoke": True,
}
"""Settings that change what comes out; limits of time, memory and output do not."""


@dataclass(frozen=True)
class Run:
    """What every step of the flow needs."""

    site: Site
    model: ModelSettings
    batch: Batch

    @cached_property
    def key(self) -> str:
        """Hex sha256 over batch, code, the settings that matter, site and version of insitu.

        It names the job, tags the model version and labels the image, so a second start with the
        same key finds what the first one did.
        """
        parts = {
            "batch": self.batch.fingerprint,
            "code": self.code_hash,
            "settings": self.model.model_dump(mode="json", include=_THAT_MATTER),
            "site": self.site.name,
            "insitu": __version__,
        }
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def code(self) -> dict[str, str]:
        """The model's files by name, each with its hex sha256; model.toml counts by its settings."""
        return {name: digest for name, digest in file_digests(self.model_folder).items() if name != "model.toml"}

    @cached_property
    def code_hash(self) -> str:
        """Hex sha256 over the model's files and its suite."""
        suite = sha256(self.suite_file.read_bytes()).hexdigest()
        return sha256(json.dumps([self.code, suite]).encode()).hexdigest()

    @property
    def journal(self) -> Journal:
        """What this run has finished so far."""
        return Journal(self.site.state, self.model.name, self.key)

    def step_name(self, step: str) -> str:
        """Return the journal's name of *step*; publishing is a step of its own per destination."""
        if step != "publish":
            return step
        destination = self.site.settings.registry or "layout"
        return f"publish-{sha256(destination.encode()).hexdigest()[:8]}"

    @property
    def model_folder(self) -> Path:
        """The model's folder in the project."""
        return self.site.project / "models" / self.model.name

    @property
    def suite_file(self) -> Path:
        """The model's expectation suite."""
        return self.site.project / "data_checks" / f"{self.model.data.suite}.json"

    @property
    def holdout(self) -> Batch:
        """The latest blobs: both models are judged on them, neither script sees them."""
        return Batch.of(self.batch.container, self._oldest_first[-self.model.data.holdout_blobs :])

    @property
    def training_part(self) -> Batch:
        """The blobs that the training script sees."""
        return Batch.of(self.batch.container, self._oldest_first[: -self.model.data.holdout_blobs])

    @property
    def _oldest_first(self) -> Sequence[Blob]:
        """The blobs by the number of their partition where there is one, else by name."""
        key = self.model.data.contiguous
        return sorted(self.batch.blobs, key=lambda blob: _partition(blob, key)) if key else self.batch.blobs


def open_run(project: Path, model: str, site: str, batch_file: Path | None = None) -> Run:
    """Read the settings and pin the batch: the current blobs, or those of a manifest file.

    Raises:
        SettingsError: The settings of site or model have problems, or name a suite that is not there.
        DataError: There are no blobs, too few for a holdout, or one is missing between two others.
    """
    site_settings, settings = load_settings(project, site, model, os.environ)
    place = open_site(project, site_settings)
    if batch_file is not None:
        batch = _read_manifest(batch_file, settings.data.container)
    else:
        store = place.data(settings.data.container)
        names = (b for b in store.list() if fnmatchcase(b.name, settings.data.blobs))
        batch = Batch.of(settings.data.container, names)
    _require_complete(batch, settings.data, place.data_place(batch.container))
    run = Run(place, settings, batch)
    _require_suite(run)
    return run


def _require_suite(run: Run) -> None:
    if not run.suite_file.is_file():
        known = sorted(path.stem for path in run.suite_file.parent.glob("*.json"))
        raise SettingsError(
            f"model {run.model.name} names a suite that is not there: {run.model.data.suite}",
            found=f"suites {', '.join(known)}" if known else "no suite",
            wanted=f"{run.suite_file.relative_to(run.site.project)} (data.suite in model.toml)",
        )


def _read_manifest(path: Path, container: str) -> Batch:
    try:
        content = json.loads(path.read_text())
        batch = Batch.from_json(content)
    except OSError as exc:
        raise UsageError(f"the batch file {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(
            f"{path} is not a batch manifest",
            wanted='{"container": ..., "blobs": [{"name", "etag", "size_bytes", "last_modified"}, ...]}',
            next_action="take batch.manifest from `insitu show MODEL VERSION --json`",
        ) from exc
    if content.get("fingerprint", batch.fingerprint) != batch.fingerprint:
        raise UsageError(f"{path} was changed: its blobs are not those of its fingerprint")
    if batch.container != container:
        raise UsageError(
            f"{path} is a batch of another container",
            found=batch.container,
            wanted=f"{container} (data.container in model.toml)",
        )
    return batch


def _require_complete(batch: Batch, data: DataSettings, place: str) -> None:
    if not batch.blobs:
        raise DataError(
            f"there are no blobs {data.blobs} in container {data.container}",
            found=f"nothing that fits in {place}",
            next_action="put data in place (the example's: `insitu demo prepare`), or mend data.blobs in model.toml",
        )
    if len(batch.blobs) <= data.holdout_blobs:
        raise DataError(
            f"container {data.container} has too few blobs for training and holdout",
            found=f"{len(batch.blobs)}",
            wanted=f"at least {data.holdout_blobs + 1}: data.holdout_blobs and one to train on",
        )
    if data.contiguous:
        _require_no_gap(batch, data.contiguous)


def _require_no_gap(batch: Batch, key: str) -> None:
    found = sorted(_partition(blob, key) for blob in batch.blobs)
    if missing := sorted(set(range(found[0], found[-1] + 1)) - set(found)):
        raise DataError(
            f"the batch in container {batch.container} has a gap: no blob for {key} {', '.join(map(str, missing))}",
            found=f"{key} {found[0]} to {found[-1]}, {len(found)} blobs",
            wanted=f"one blob for each {key} in between (data.contiguous in model.toml)",
            next_action="put the missing blob in place, then start the run again",
        )


def _partition(blob: Blob, key: str) -> int:
    values = [part.removeprefix(f"{key}=") for part in blob.name.split("/") if part.startswith(f"{key}=")]
    if len(values) != 1 or not values[0].isdecimal():
        raise DataError(
            f"blob {blob.name} does not say which {key} it holds",
            wanted=f"one part {key}=NUMBER in its name (data.contiguous in model.toml)",
        )
    return int(values[0])
