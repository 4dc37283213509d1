"""A run: one model, one pinned batch, one key that names everything that comes of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from insitu import __version__
from insitu.batch import Batch, Blob
from insitu.egress import Door
from insitu.errors import DataError, SettingsError, UsageError
from insitu.files import file_digests
from insitu.journal import Journal
from insitu.leases import Lease
from insitu.revision import revision_of
from insitu.settings import DataSettings, ModelSettings, load_settings, with_params
from insitu.wiring import Site, open_site

_THAT_MATTER: dict[str, Any] = {
    "target": True,
    "data": True,
    "train": {"command", "params", "requirements"},
    "drift": True,
    "gate": True,
    "limits": True,
    "residency": True,
    "smoke": True,
}
"""Settings that change what comes out; limits of time, memory and output do not."""

_OF_PEOPLE: dict[str, Any] = {
    "gate": {"approval", "approval_timeout_s"},
    "residency": {"max_capacity_share", "budget_share"},
}
"""Settings of who decides over a model: the model is the same, whoever does."""


@dataclass(frozen=True)
class Run:
    """What every step of the flow needs.

    Attributes:
        lease: Says that this process is the one that works on it; without one, somebody only looks.
    """

    site: Site
    model: ModelSettings
    batch: Batch
    lease: Lease | None = field(default=None, repr=False, compare=False)

    @cached_property
    def key(self) -> str:
        """Hex sha256 over batch, code, the settings that matter, site and version of insitu.

        It names the job, tags the model version and labels the image, so a second start with the
        same key finds what the first one did.
        """
        return sha256(json.dumps(self._parts, sort_keys=True).encode()).hexdigest()

    @property
    def _parts(self) -> dict[str, Any]:
        return {
            "batch": self.batch.fingerprint,
            "code": self.code_hash,
            "settings": self.model.model_dump(mode="json", include=_THAT_MATTER, exclude=_OF_PEOPLE),
            "site": self.site.name,
            "insitu": __version__,
        }

    @property
    def inputs(self) -> dict[str, Any]:
        """What the key is a hash over, and the files behind the hash of the code."""
        return self._parts | {"files": self.code, "suite": sha256(self.suite_file.read_bytes()).hexdigest()}

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
    def revision(self) -> str | None:
        """The git commit of the model's files and suite; None where they are not as committed, or nobody knows."""
        model, suite = (path.relative_to(self.site.project).as_posix() for path in (self.model_folder, self.suite_file))
        return revision_of(self.site.project, (model, suite), (*(f"{model}/{name}" for name in self.code), suite))

    def held_by(self, lease: Lease) -> Run:
        """Return the run as the one that the holder of *lease* works on."""
        if lease.held.work != self.key:
            lease.confirm(self.key)
        return replace(self, lease=lease)

    @property
    def journal(self) -> Journal:
        """What this run has finished so far."""
        if self.lease is None:
            return Journal(self.site.state, self.model.name, self.key)
        return Journal(self.site.state, self.model.name, self.key, self.lease.confirm)

    @property
    def door(self) -> Door:
        """The way out for what this run makes."""
        return Door(self.journal, self.site.waivers(self.model.name))

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


def open_run(
    project: Path,
    model: str,
    site: str,
    batch_file: Path | None = None,
    params: Mapping[str, Any] = MappingProxyType({}),
) -> Run:
    """Read the settings and pin the batch: the current blobs, or those of a manifest file.

    Args:
        params: Values of `[train.params]` for this run alone; others than model.toml's are another run key.

    Raises:
        SettingsError: The settings of site or model have problems, or name a suite that is not there; *params*
            names no parameter, or a value that it must not have.
        DataError: There are no blobs, too few for a holdout, or one is missing between two others.
    """
    site_settings, settings = load_settings(project, site, model, os.environ)
    settings = with_params(settings, params)
    place = open_site(project, site_settings)
    if batch_file is not None:
        batch = read_manifest(batch_file, settings.data.container)
    else:
        store = place.data(settings.data.container)
        beginning = re.split(r"[*?\[]", settings.data.blobs)[0]  # names that begin otherwise may be many, or broken
        names = (b for b in store.list(beginning) if fnmatchcase(b.name, settings.data.blobs))
        batch = Batch.of(settings.data.container, names)
    _require_complete(batch, settings.data, place.data_place(batch.container), chosen=batch_file is not None)
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


def read_manifest(path: Path, container: str | None = None) -> Batch:
    """Return the batch of a manifest file; raise `UsageError` for one that is none, or of another *container*."""
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
    if container is not None and batch.container != container:
        raise UsageError(
            f"{path} is a batch of another container",
            found=batch.container,
            wanted=f"{container} (data.container in model.toml)",
        )
    return batch


def _require_complete(batch: Batch, data: DataSettings, place: str, *, chosen: bool) -> None:
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
        _require_no_gap(batch, data.contiguous, chosen=chosen)


def _require_no_gap(batch: Batch, key: str, *, chosen: bool) -> None:
    """Raise `DataError` where a blob is missing; of a batch that was *chosen*, a watcher may have left it out."""
    found = sorted(_partition(blob, key) for blob in batch.blobs)
    if missing := sorted(set(range(found[0], found[-1] + 1)) - set(found)):
        raise DataError(
            f"the batch in container {batch.container} has a gap: no blob for {key} {', '.join(map(str, missing))}",
            found=f"{key} {found[0]} to {found[-1]}, {len(found)} blobs",
            wanted=f"one blob for each {key} in between (data.contiguous in model.toml)",
            next_action=("see whether it is in quarantine (insitu quarantine list), or " if chosen else "")
            + "put the missing blob in place, then start the run again",
        )


def _partition(blob: Blob, key: str) -> int:
    values = [part.removeprefix(f"{key}=") for part in blob.name.split("/") if part.startswith(f"{key}=")]
    if len(values) != 1 or not values[0].isdecimal():
        raise DataError(
            f"blob {blob.name} does not say which {key} it holds",
            wanted=f"one part {key}=NUMBER in its name (data.contiguous in model.toml)",
        )
    return int(values[0])
