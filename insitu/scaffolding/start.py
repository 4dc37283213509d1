"""Begins a model: looks, decides, and then writes everything or nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unicodedata import normalize

from pydantic import TypeAdapter, ValidationError

from insitu.errors import UsageError
from insitu.files import replace_file
from insitu.scaffolding.bringing import bring
from insitu.scaffolding.columns import columns_of
from insitu.scaffolding.entry import FILE, entry_of, has_entry, with_entry
from insitu.scaffolding.features import Features, features_of
from insitu.scaffolding.holdout import holdout_of
from insitu.scaffolding.sample import Sample, look
from insitu.scaffolding.source import Source, find
from insitu.scaffolding.suites import suite_of
from insitu.scaffolding.target import Ask, Target, Wishes, settled
from insitu.scaffolding.writing import RECIPES, Draft, Kind, model_toml, scripts
from insitu.settings import FolderStore, load_model
from insitu.settings.forms import Name
from insitu.wiring import Site

_MODULES = {"lightgbm": "lightgbm", "torch": "torch"}


@dataclass(frozen=True)
class Begun:
    """What was made.

    Attributes:
        files: What was written, relative to the project.
        copied: The blobs that were brought to the site; none where the data lay there.
        entry: The entry that prefect.yaml should get, where it could not be added.
        missing: Packages that the template needs and this environment lacks.
    """

    draft: Draft
    source: Source
    sample: Sample
    expectations: int
    files: tuple[str, ...]
    copied: tuple[str, ...]
    entry: str | None
    missing: tuple[str, ...]

    def to_json(self, site: Site) -> dict[str, Any]:
        """Return it without a value of the data."""
        draft, rows = self.draft, self.sample.rows.height
        return {
            "model": draft.name,
            "files": list(self.files),
            "data": {
                "container": draft.container,
                "place": site.data_place(draft.container),
                "blobs": draft.pattern,
                "copied": list(self.copied),
                "ignored": self.source.ignored,
                "looked_at": {"blobs": len(self.sample.frames), "rows": rows, "all": self.sample.whole},
                "reading": draft.reading.model_dump(mode="json", exclude_defaults=True),
            },
            "target": {"column": draft.target.column.name, "task": draft.target.task},
            "features": {"numbers": list(draft.features.numbers), "texts": list(draft.features.texts)},
            "left_out": draft.features.left_out,
            "holdout_blobs": draft.holdout.blobs,
            "suite": {"name": draft.name, "expectations": self.expectations},
            "template": draft.template,
            "missing": list(self.missing),
            "entry": self.entry,
        }  # fmt: skip


def require_free_name(project: Path, name: str) -> None:
    """Raise `UsageError` when no new model can have *name*."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        plain = normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
        proposal = re.sub("[^a-z0-9_-]+", "_", plain).strip("_-")
        raise UsageError(
            f"{name!r} cannot be the name of a model",
            wanted="a-z, 0-9, - and _, beginning with a letter or digit",
            next_action=f"call it {proposal}" if proposal else None,
        ) from None
    for path in (project / "models" / name, project / "data_checks" / f"{name}.json"):
        if path.exists():
            raise UsageError(
                f"there is {path.relative_to(project)} already, and nothing is overwritten",
                next_action=f"choose another name, such as {name}-2, or move it away",
            )


def begin(
    site: Site,
    name: str,
    data: str,
    wishes: Wishes,
    template: Kind,
    keys: Sequence[str],
    ask: Ask,
    tell: Callable[[str], None],
) -> Begun:
    """Look at *data* and write a model, a suite and a deployment for it.

    Args:
        keys: Columns that together name a row.
        ask: Answers a question, or raises.
        tell: Is told what is being done.

    Raises:
        UsageError: What was asked for cannot be meant, or is there already.
        DataError: The data cannot be read, or is too small or too poor to learn from.
        StorageFull: The disk is full.
    """
    require_free_name(site.project, name)
    source = find(site, data, name)
    tell(f"looking at the data; blobs: {len(source.blobs):,}")
    sample = look(source.store, source.blobs, wishes.may_be_target)
    columns = columns_of(sample)
    _require_columns(keys, sample)
    target = settled(columns, wishes, ask)
    features = features_of(columns, target, keys, sample.rows, sample.parted)
    _require_features(features)
    draft = Draft(
        name, source.container, source.pattern, sample.reading, target, features, holdout_of(sample, target),
        template, _spread(sample, target),
    )  # fmt: skip
    suite = suite_of(name, columns, keys, target, sample.rows.height)
    if source.brought_from:
        tell(f"copying them to {site.data_place(source.container)}")
    files, copied, entry = _write(site, source, draft, suite)
    wanted = [one for one in RECIPES[template].requirements if one in _MODULES]
    missing = tuple(one for one in wanted if find_spec(_MODULES[one]) is None)
    return Begun(draft, source, sample, len(suite["expectations"]), files, copied, entry, missing)


def _require_columns(keys: Sequence[str], sample: Sample) -> None:
    if strange := [key for key in keys if key not in sample.held]:
        raise UsageError(f"the data has no column {', '.join(strange)}", wanted="columns of the data for --key")


def _require_features(features: Features) -> None:
    if not features.numbers and not features.texts:
        raise UsageError(
            "no column is left to learn from",
            found="; ".join(f"{name} {why}" for name, why in features.left_out.items()),
            wanted="a column of numbers, flags or categories that is known before the outcome",
        )


def _spread(sample: Sample, target: Target) -> float | None:
    """Return how far apart labels are that are numbers: their standard deviation."""
    if target.task == "classification":
        return None
    labels = sample.rows[target.column.name]
    spread = (labels.fill_nan(None) if labels.dtype.is_float() else labels).std()
    return float(spread) if isinstance(spread, float) else None


def _write(
    site: Site, source: Source, draft: Draft, suite: dict[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """Write data, suite, model and deployment, in this order; where one fails, those before it are removed.

    Returns:
        The files' names, those of the blobs that were brought, and the entry that found no place.
    """
    project = site.project
    copied: tuple[str, ...] = ()
    checks, place = project / "data_checks" / f"{draft.name}.json", project / "models" / draft.name
    suite_text = _suite_text(suite).encode()
    with _staged(project, draft) as staged, ExitStack() as undo:
        if source.brought_from:
            assert isinstance(site.settings.data, FolderStore)
            root = site.settings.data.root
            copied = tuple(bring(source, root, draft.reading.delimiter, draft.holdout.share))
            undo.callback(shutil.rmtree, root / source.container, ignore_errors=True)
        replace_file(checks, suite_text)
        undo.callback(checks.unlink, missing_ok=True)
        names = sorted(path.name for path in staged.iterdir())
        os.rename(staged, place)
        undo.callback(shutil.rmtree, place, ignore_errors=True)
        files, entry = _listed(site, draft.name)
        undo.pop_all()  # all is there: nothing is undone
    return (*(f"models/{draft.name}/{name}" for name in names), f"data_checks/{draft.name}.json", *files), copied, entry


@contextmanager
def _staged(project: Path, draft: Draft) -> Iterator[Path]:
    """Yield the model's folder, to be renamed: what does not load is of no use to anybody, and comes no further."""
    staging = project / "models" / f".init-{uuid.uuid4().hex}"
    folder = staging / "models" / draft.name
    try:
        for name, text in {"model.toml": model_toml(draft), **scripts(draft)}.items():
            replace_file(folder / name, text.encode())
        load_model(staging, draft.name, {})
        yield folder
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _listed(site: Site, model: str) -> tuple[tuple[str, ...], str | None]:
    """Add the deployment; return the file's name, or the entry that found no place in it."""
    path = site.project / FILE
    listed = with_entry(site.project, model, site.name)
    if listed is None:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return (), None if has_entry(text, model) else entry_of(model, site.name, text)
    replace_file(path, listed.encode())
    return (FILE,), None


def _suite_text(suite: dict[str, Any]) -> str:
    """Return the suite with an expectation per line, as people read it."""
    lines = ",\n".join(f"    {json.dumps(one, ensure_ascii=False, allow_nan=False)}" for one in suite["expectations"])
    head = f'{{\n  "name": {json.dumps(suite["name"])},\n  "expectations": [\n'
    return f'{head}{lines}\n  ],\n  "meta": {json.dumps(suite["meta"])}\n}}\n'
