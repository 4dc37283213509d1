"""Runs the user's training command under the training contract."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from errno import ENOSPC
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from insitu.edge.data import DATA_ERROR
from insitu.edge.isolation import has_route
from insitu.errors import InsituError, StorageFull, TrainingFailed, naming_write_errors
from insitu.residency import fit_hook

_TAIL_BYTES = 32_768
_CHUNK_BYTES = 65_536
_EXCEPTION = re.compile(rb"Traceback \(most recent call last\):\n(?:[ \t].*\n)+([A-Za-z_][\w.]*)\s*(?::|\n|$)")
_OF_NETWORKS = re.compile(rb"Connect|Proxy|URLError|HTTPError|gaierror|NameResolution|Timeout")
"""Of the name of an exception: somebody was to be reached."""

FITS = "fits"
"""In the job's folder: what reached `fit`, for the leak scan. It holds rows and stays there."""


def train(folder: Path, spec: Mapping[str, Any], log: IO[bytes]) -> None:
    """Run the user's command under the training contract; raise `TrainingFailed`."""
    output = folder / "output"
    output.mkdir()
    manifest = folder / "batch.json"
    manifest.write_text(json.dumps(spec["train"]))
    command = [sys.executable if word == "python" else word for word in spec["command"]]
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("INSITU_SITE_", "PREFECT_"))} | {
        "INSITU_BATCH": str(manifest),
        "INSITU_OUTPUT": str(output),
        "INSITU_PARAMS": json.dumps(spec["params"]),
        "PYTHONUNBUFFERED": "1",
        # Some exporters write sets in their order: with one seed, the same model has the same bytes.
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if spec.get("residency", {}).get("fit_hook"):
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_hook(folder)), environ.get("PYTHONPATH")]))
    with naming_write_errors(folder):
        code_folder = stage_code(Path(spec["model_folder"]), spec["code"], folder / "code")
    try:
        child = subprocess.Popen(
            command,
            cwd=code_folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as exc:
        raise TrainingFailed(f"the training command {command[0]!r} cannot be started: {exc.strerror}") from exc
    assert child.stdout is not None
    tail = pump(child.stdout, log, int(spec["max_log_bytes"]))
    if not tail.endswith(b"\n"):
        log.write(b"\n")  # what follows is a line of its own
    code = child.wait()
    if code != 0:
        raise data_error(folder) or _command_failed(code, tail, folder / "log.txt")
    if not (output / "model" / "MLmodel").is_file():
        raise TrainingFailed(
            "the training command left no model",
            wanted="a folder model/ in MLflow format inside INSITU_OUTPUT",
            next_action='end the script with mlflow.<flavour>.save_model(model, batch.output / "model", ...)',
        )


def _hook(folder: Path) -> Path:
    """Return the new folder of a `sitecustomize` that keeps what reaches `fit` in *folder*."""
    place = folder / "hook"
    for made in (place, folder / FITS):
        made.mkdir(mode=0o700)
    shutil.copyfile(fit_hook.__file__, place / "sitecustomize.py")
    return place


def stage_code(source: Path, files: Mapping[str, str], target: Path) -> Path:
    """Copy the listed files (name to sha256) and nothing else; raise `TrainingFailed` for other bytes."""
    target.mkdir()
    for name, digest in files.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = (source / name).read_bytes() if (source / name).is_file() else None
        if content is None or sha256(content).hexdigest() != digest:
            raise TrainingFailed(
                f"{name} in {source} was changed after the run had started",
                next_action="start again: that is a new run",
            )
        path.write_bytes(content)
        path.chmod((source / name).stat().st_mode)
    return target


def pump(source: IO[bytes], log: IO[bytes], max_bytes: int) -> bytes:
    """Copy *source* to *log* up to *max_bytes*, then count; return the last bytes that were read."""
    written, dropped, tail = 0, 0, b""
    while chunk := os.read(source.fileno(), _CHUNK_BYTES):
        kept = chunk[: max_bytes - written]
        log.write(kept)
        written, dropped = written + len(kept), dropped + len(chunk) - len(kept)
        tail = (tail + chunk)[-_TAIL_BYTES:]
    if dropped:
        log.write(b"\n... %d bytes dropped; the last of them were:\n%b" % (dropped, tail[-dropped:]))
    return tail


def data_error(folder: Path) -> InsituError | None:
    """Return what `insitu.edge.data` met while the command read its batch, if anything."""
    try:
        return InsituError.from_json(json.loads((folder / DATA_ERROR).read_text()))
    except FileNotFoundError:
        return None


def _command_failed(code: int, tail: bytes, log: Path) -> InsituError:
    """Return the error without the command's own words: they may quote a row."""
    next_action = f"its output is in {log}"
    if os.strerror(ENOSPC).encode() in tail:
        return StorageFull(
            "no space left while the training command was writing", next_action=f"free some space; {next_action}"
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        hint = "; the machine may have run out of memory" if name == "SIGKILL" else ""
        return TrainingFailed(f"the training command was ended by {name}{hint}", next_action=next_action)
    classes = _EXCEPTION.findall(tail)
    asked_in_vain = bool(classes) and _OF_NETWORKS.search(classes[-1]) is not None and not has_route()
    hint = "; it reaches nothing but its data: see network of [training] in the site's file" if asked_in_vain else ""
    return TrainingFailed(
        f"the training command exited with code {code}",
        found=classes[-1].decode() if classes else None,
        wanted="exit code 0",
        next_action=next_action + hint,
    )
