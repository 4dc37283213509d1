"""What a suite asks of data with certain columns. Great Expectations alone knows, and takes seconds to import.

So a validation keeps it in the site's state, and a plan, which judges nothing, reads it there. It is named by all that
it follows from: expectations, columns and their types, the version of Great Expectations, and the code that asks it.
"""

from __future__ import annotations

import json
import operator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pyarrow as pa

from data_checks.measures import Measure
from data_checks.statistics import measured_by, sealed, unsealed
from data_checks.suite import Suite
from insitu.errors import BlobNotFound, InsituError
from insitu.ports import BlobStore

_ASKING = ("asked", "judge", "plan")


@dataclass(frozen=True)
class Asked:
    """What has to be measured, and what cannot be.

    Attributes:
        columns: Those that the expectations are about.
        measures: What is read of the data; those of `load` tell their keys and columns, and measure nothing.
        second_pass: Expectations that Great Expectations' own engine judges.
        lacking: What is bound to fail, and why.
    """

    columns: frozenset[str]
    measures: tuple[Measure, ...]
    second_pass: tuple[str, ...]
    lacking: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {
            "columns": sorted(self.columns),
            "measures": [[measure.key, list(measure.columns)] for measure in self.measures],
            "second_pass": list(self.second_pass),
            "lacking": list(self.lacking),
        }


def load(state: BlobStore, suite: Suite, schema: pa.Schema) -> Asked | None:
    """Return what the suite asks; None where no validation has kept it, or it is damaged."""
    name = _name(suite, schema)
    try:
        content = unsealed(name, state.read(name))
    except BlobNotFound:
        return None
    if content is None:
        return None
    found = json.loads(bytes(content))
    return Asked(
        frozenset(found["columns"]),
        tuple(Measure(key, tuple(columns), pl.len(), operator.add) for key, columns in found["measures"]),
        tuple(found["second_pass"]),
        tuple(found["lacking"]),
    )


def keep(state: BlobStore, suite: Suite, schema: pa.Schema, asked: Asked) -> None:
    """Keep what the suite asks. That it could not be written costs time later, and nothing else."""
    name = _name(suite, schema)
    content = sealed(name, json.dumps(asked.to_json()).encode())
    with suppress(InsituError):
        try:
            if state.read(name) != content:
                state.replace(name, content, etag=state.stat(name).etag)
        except BlobNotFound:
            state.create(name, content)


def _name(suite: Suite, schema: pa.Schema) -> str:
    columns = [[field.name, str(field.type)] for field in schema]
    about = [suite.expectations, columns, version("great_expectations"), measured_by()]
    digest = sha256(json.dumps(about, sort_keys=True).encode())
    for module in _ASKING:
        digest.update((Path(__file__).parent / f"{module}.py").read_bytes())
    return f"statistics/asked/{digest.hexdigest()}.json"
