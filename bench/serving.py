"""The scoring server of our images against `mlflow models serve`: the same forest, interpreter and machine, one worker.

Ours serves the ONNX export with ONNX Runtime, MLflow the model itself. Both are started anew in each round: cold start
is the time from there to the first answer. Then one client and eight ask for one row at a time.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.harness import ROOT, Row, report
from insitu.twin.programs import free_port

ROUNDS, LOAD_S, CLIENTS = 3, 2.0, 8
_FEATURES, _ROWS, _TREES = 12, 5_000, 60
_PATIENCE_S = 120
_REFERENCE = "mlflow models serve"


@dataclass(frozen=True)
class Measured:
    """One server in one round: seconds to the first answer, milliseconds per request, MB of its processes."""

    cold_s: float
    alone_ms: float
    busy_ms: float
    memory_mb: float


def train(folder: Path) -> bytes:
    """Leave a forest in *folder*: `model/` as MLflow saves it and `served/` as an image has it; return a request."""
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(0)
    names = [f"f{at}" for at in range(_FEATURES)]
    frame = pd.DataFrame(random.normal(size=(_ROWS, _FEATURES)).astype("float32"), columns=names)
    late = (frame.f0 + frame.f1 * frame.f2 + random.normal(size=_ROWS) > 0).astype(int)
    forest = RandomForestClassifier(_TREES, random_state=0).fit(frame, late)
    mlflow.sklearn.save_model(
        forest,
        str(folder / "model"),
        signature=infer_signature(frame, forest.predict_proba(frame)),
        pyfunc_predict_fn="predict_proba",
        pip_requirements=["mlflow", "scikit-learn", "skops", "pandas"],
        skops_trusted_types=["sklearn.tree._tree.Tree"],
    )
    (folder / "served").mkdir()
    export = to_onnx(forest, frame[:1].to_numpy(), options={"zipmap": False})
    (folder / "served/model.onnx").write_bytes(export.SerializeToString())
    columns = [{"name": name, "type": "float"} for name in names]
    (folder / "served/metadata.json").write_text(json.dumps({"runtime": "onnx", "columns": columns}))
    row = frame[:1].astype(float).to_numpy().tolist()
    return json.dumps({"dataframe_split": {"columns": names, "data": row}}).encode()


def measure(command: Sequence[str], environ: Mapping[str, str], port: int, body: bytes) -> Measured:
    """Start a server, ask it, end it."""
    head = f"POST /invocations HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: {len(body)}\n\n"
    request, started = head.replace("\n", "\r\n").encode() + body, time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        size = first_answer(port, request)
        cold_s = time.perf_counter() - started
        alone_ms, busy_ms = (load(port, request, size, clients) for clients in (1, CLIENTS))
        return Measured(cold_s, alone_ms, busy_ms, memory_mb(process.pid))
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def connect(port: int) -> socket.socket:
    door = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return door


def first_answer(port: int, request: bytes) -> int:
    """Wait for the first good answer; return how many bytes an answer has."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        with suppress(OSError), connect(port) as door:
            door.sendall(request)
            heard = b""
            while b"\r\n\r\n" not in heard:
                chunk = door.recv(1 << 16)
                if not chunk:
                    raise ConnectionResetError
                heard += chunk
            head = heard.partition(b"\r\n\r\n")[0]
            if b" 200 " in head.split(b"\r\n")[0]:
                lengths = [
                    line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
                ]
                return len(head) + 4 + int(lengths[0])
        time.sleep(0.01)
    raise TimeoutError(f"no answer at port {port}")


def load(port: int, request: bytes, size: int, clients: int) -> float:
    """Return milliseconds per request while *clients* connections ask again as soon as they have their answer."""
    poll, left, answers = selectors.DefaultSelector(), dict[socket.socket, int](), 0
    for _ in range(clients):
        door = connect(port)
        door.setblocking(False)
        poll.register(door, selectors.EVENT_READ)
        door.send(request)
        left[door] = size
    started = time.perf_counter()
    while (taken := time.perf_counter() - started) < LOAD_S:
        for key, _ in poll.select(_PATIENCE_S):
            door = key.fileobj
            assert isinstance(door, socket.socket)
            heard = door.recv(1 << 16)
            assert heard, "the server closed a connection"
            left[door] -= len(heard)
            if not left[door]:
                answers += 1
                door.send(request)
                left[door] = size
    for door in left:
        door.close()
    return 1000 * taken / answers


def memory_mb(leader: int) -> float:
    """Return the memory of the processes of a session, what they share counted once (PSS)."""
    pids = [path.name for path in Path("/proc").iterdir() if path.name.isdigit() and _session(path) == leader]
    found = [Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n") for pid in pids]
    return sum(int(line.split()[1]) for lines in found for line in lines if line.startswith("Pss:")) / 1000


def _session(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return 0


def main() -> None:
    """Measure both servers in turns."""
    with TemporaryDirectory(prefix="insitu-bench-") as scratch:
        folder = Path(scratch)
        body = train(folder)
        ports = [free_port() for _ in range(2)]
        programs = Path(sys.executable).parent
        ours = [sys.executable, "-m", "insitu.serving", "--host", "127.0.0.1", "--port", str(ports[0])]
        served = {"INSITU_MODEL": str(folder / "served"), "PYTHONPATH": str(ROOT)}
        mlflow = [f"{programs}/mlflow", "models", "serve", "--env-manager", "local", "-m", str(folder / "model")]
        theirs = [*mlflow, "-h", "127.0.0.1", "-p", str(ports[1])]
        found_there = {"PATH": f"{programs}:{os.environ['PATH']}"}  # MLflow starts programs by name
        contenders: list[Callable[[], Measured]] = [
            lambda: measure(ours, served, ports[0], body),
            lambda: measure(theirs, found_there, ports[1], body),
        ]
        found: list[list[Measured]] = [[], []]
        for _ in range(ROUNDS):
            for measured, contender in zip(found, contenders, strict=True):
                measured.append(contender())
    rows = []
    for what, field, unit, most in (
        ("cold start to the first answer", "cold_s", "s", 1 / 10),
        ("a request, 8 connections", "busy_ms", "ms", 1 / 50),
        ("a request, one connection", "alone_ms", "ms", 1 / 20),
        ("memory", "memory_mb", "MB", 1 / 2),
    ):
        own, other = (median(getattr(one, field) for one in measured) for measured in found)
        rows.append(Row.relative(what, own, other, _REFERENCE, unit, most))
    report("serving", rows, ["mlflow", "onnxruntime", "uvicorn", "httptools", "scikit-learn"])


if __name__ == "__main__":
    main()
