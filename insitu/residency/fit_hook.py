"""Keeps what reaches `fit`, on site, so that the scan knows rows as the model saw them: scaled, encoded, reordered.

A copy of this file is put on the training command's path as `sitecustomize.py`, which Python runs as it starts; it
imports nothing of insitu and, until a script imports scikit-learn, nothing but the standard library. Every class of
an installed package that is a `BaseEstimator` is hooked as it is made. Classes of the script itself are not: they may
be pickled by value, with the hook in them. Whatever goes wrong in here, `fit` goes on.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

METHODS = ("fit", "partial_fit", "fit_transform", "fit_predict", "fit_resample")
MATRIX_BYTES = 32 << 20
"""Of one matrix: of a larger one every n-th row is kept."""
PLENTY_BYTES, LATER_BYTES = 256 << 20, 1 << 20
"""After so much, less is kept of each further matrix; a search over parameters fits thousands."""
MOST_FILES = 2_000


class Recorder:
    """Writes matrices into *folder*, each content once, with the names of the estimators that were given it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.RLock()
        self._known: dict[bytes, tuple[str, dict[str, Any]]] = {}
        self._bytes = 0
        self._busy = False

    def see(self, label: str, *given: Any) -> None:
        """Keep what *label* was given; never raise."""
        with self._lock:
            if self._busy:
                return
            self._busy = True
            try:
                for data in given:
                    for columns, matrix in _matrices(data, self._most_bytes()):
                        self._keep(f"{label}.fit", columns, matrix)
            except Exception:  # noqa: BLE001 - of whatever foreign objects do, nothing may reach the script
                self.miss(label)
            finally:
                self._busy = False

    def miss(self, label: str) -> None:
        """Say that something of *label* was not kept."""
        self._write(f"missed-{label}", {"labels": [label]})

    def _most_bytes(self) -> int:
        return MATRIX_BYTES if self._bytes < PLENTY_BYTES else LATER_BYTES

    def _keep(self, label: str, columns: list[str], matrix: Any) -> None:
        import numpy as np

        mark = hashlib.blake2b(repr(matrix.shape).encode() + matrix.tobytes(), digest_size=16).digest()
        name, told = self._known.get(mark, (f"{os.getpid()}-{len(self._known):05}", {"labels": [], "columns": columns}))
        if mark not in self._known:
            if len(self._known) >= MOST_FILES:
                self.miss(label)
                return
            np.save(self._folder / f"{name}.npy", matrix)
            self._known[mark] = name, told
            self._bytes += matrix.nbytes
        if label not in told["labels"]:
            told["labels"].append(label)
            self._write(name, told)

    def _write(self, name: str, told: dict[str, Any]) -> None:
        try:
            (self._folder / f"{name}.json").write_text(json.dumps(told))
        except OSError:  # a disk that is full: the script will say so
            return


def _matrices(data: Any, most_bytes: int) -> Any:
    """Yield names and numbers of *data*, float64 (n, c): rows of a table, of an array, of a sparse matrix."""
    import numpy as np

    if data is None or isinstance(data, str | bytes):
        return
    if hasattr(data, "tocsr"):
        rows = data.tocsr()
        rows = rows[:: _step(rows.nnz, 1, most_bytes)]
        yield [], _numbers(rows.data.reshape(-1, 1))
        yield [], _numbers(rows.indices.reshape(-1, 1))
        return
    columns: list[str] = []
    if hasattr(data, "select_dtypes"):
        data = data.select_dtypes(["number", "bool"])
        columns = [str(name) for name in data.columns]
    array = np.asarray(data)
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], axis=-1)
    if array.dtype.kind not in "biuf":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            return  # words: the batch itself is scanned for
    if array.ndim == 0 or not array.size:
        return
    array = array.reshape(len(array), -1)
    yield columns, _numbers(array[:: _step(len(array), array.shape[1], most_bytes)])


def _step(rows: int, columns: int, most_bytes: int) -> int:
    return max(1, -(-rows * columns * 8 // most_bytes))


def _numbers(array: Any) -> Any:
    import numpy as np

    return np.ascontiguousarray(array, dtype=np.float64)


def hook(base: Any, recorder: Recorder) -> None:
    """Let every estimator that is made from now on tell *recorder* what it is fitted to."""
    estimator = base.BaseEstimator
    own = vars(estimator).get("__init_subclass__")

    def made(cls: Any, **options: Any) -> None:
        if own is not None:
            own.__func__(cls, **options)
        else:
            super(estimator, cls).__init_subclass__(**options)
        for name in METHODS:
            method = vars(cls).get(name)
            if callable(method) and _is_installed(cls):
                setattr(cls, name, _telling(method, recorder))

    estimator.__init_subclass__ = classmethod(made)  # type: ignore[arg-type]


def _is_installed(cls: Any) -> bool:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


def _telling(method: Any, recorder: Recorder) -> Any:
    @functools.wraps(method)
    def told(self: Any, *args: Any, **options: Any) -> Any:
        given = [*args[:2], *(options[name] for name in ("X", "y") if name in options)]
        recorder.see(type(self).__name__, *given)
        return method(self, *args, **options)

    return told


class Finder:
    """Finds `sklearn.base` as Python would, and hooks it once it is there."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of `sklearn.base`, which hooks; None for everything else."""
        if name != "sklearn.base":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_hook(module: Any) -> None:
            execute(module)
            try:
                hook(module, self._recorder)
            except Exception:  # noqa: BLE001 - another scikit-learn: the script runs as it did
                self._recorder.miss("sklearn")

        spec.loader.exec_module = execute_and_hook  # type: ignore[method-assign]
        return spec


def install(folder: Path) -> None:
    """Keep in *folder* whatever reaches `fit` in this process."""
    sys.meta_path.insert(0, Finder(Recorder(folder)))


def run_shadowed(here: Path) -> None:
    """Run the `sitecustomize` that this file hides, as distributions have one."""
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec and spec.loader:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "sitecustomize":
    _HERE = Path(__file__).resolve().parent
    install(_HERE.parent / "fits")
    run_shadowed(_HERE)
