"""What the server does with requests that are many, slow or in the way of its end: a process of its own, no image."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from image_helpers import Trained
from loopback import wait_until

from insitu.adapters.local.scoring import UnixConnection

ROOT = Path(__file__).resolve().parents[2]
METADATA = {"model": "late", "version": "3", "run_key": "abc"}
SLOW = """
import time
from pathlib import Path

class Model:
    def predict(self, frame):
        folder = Path(frame["folder"][0])
        if folder.name:
            (folder / "asked").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)
        return [1.0] * len(frame)

def _load_pyfunc(path):
    return Model()
"""


@dataclass(frozen=True)
class Server:
    """A server and what it has printed."""

    process: subprocess.Popen[str]
    socket: Path

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Return status, content and headers of an answer."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with closing(UnixConnection(self.socket, 60)) as connection:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            found, read = dict(answer.getheaders()), answer.read()
        return answer.status, json.loads(read) if read and "json" in found["content-type"] else read.decode(), found

    def is_ready(self) -> bool:
        """Tell whether it says so."""
        with suppress(OSError):
            return self.ask("GET", "/ready")[0] == 200
        return False

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """End it; return its exit status and its log."""
        self.process.send_signal(signal.SIGTERM)
        printed, _ = self.process.communicate(timeout=60)
        return self.process.returncode, [json.loads(line) for line in printed.splitlines()]


@contextmanager
def served(model: Path, *options: str, **environ: str) -> Iterator[Server]:
    """Run a server of the folder *model*, as an image has it."""
    with tempfile.TemporaryDirectory(prefix="insitu-", dir="/tmp") as scratch:
        path = Path(scratch, "s")
        process = subprocess.Popen(
            [sys.executable, *options, "-m", "insitu.serving", "--uds", str(path)],
            cwd=ROOT,
            env=os.environ | {"INSITU_MODEL": str(model), "INSITU_METADATA": json.dumps(METADATA)} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        server = Server(process, path)
        try:
            wait_until(lambda: process.poll() is not None or server.is_ready())
            yield server
        finally:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def portable(model: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portable")
    kinds = dict(zip(model.columns, ("string", "double", "long"), strict=True))
    columns = [{"name": name, "type": kind, "required": True} for name, kind in kinds.items()]
    (folder / "metadata.json").write_text(json.dumps({"runtime": "onnx", "columns": columns}))
    (folder / "model.onnx").symlink_to(model.onnx)
    return folder


@pytest.fixture(scope="module")
def onnx(portable: Path) -> Iterator[Server]:
    with served(portable, INSITU_MAX_BODY_BYTES="2000") as server:
        yield server


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers when its request lets it: the one column is a folder where it waits for a file."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "model/code").mkdir(parents=True)
    (folder / "model/code/slow.py").write_text(SLOW)
    (folder / "model/MLmodel").write_text('{"flavors": {"python_function": {"loader_module": "slow", "code": "code"}}}')
    columns = [{"name": "folder", "type": "string", "required": True}]
    (folder / "metadata.json").write_text(json.dumps({"runtime": "pyfunc", "columns": columns}))
    return folder


def test_a_request_keeps_its_id_or_gets_one(onnx: Server) -> None:
    assert onnx.ask("GET", "/metadata", **{"X-Request-ID": "run-7:a.b_c"})[2]["x-request-id"] == "run-7:a.b_c"
    for strange in ("", "a b", "x" * 129, 'a"b', "é"):
        made = onnx.ask("GET", "/metadata", **{"X-Request-ID": strange})[2]["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)


def test_it_counts_what_it_answers(onnx: Server, model: Trained) -> None:
    def counted(line: str) -> float:
        text = onnx.ask("GET", "/metrics")[1]
        return sum(float(found) for found in re.findall(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE))

    right, wrong = 'insitu_requests_total{path="/score",status="200"}', 'insitu_requests_total{path="?",status="404"}'
    slower = 'insitu_request_seconds_bucket{path="/score",le="+Inf"}'
    names = (right, wrong, slower, "insitu_rows_total")
    before = [counted(name) for name in names]
    onnx.ask("POST", "/score", {"data": model.rows[:5]})
    onnx.ask("GET", "/4711")
    assert [counted(name) - was for name, was in zip(names, before, strict=True)] == [1, 1, 1, 5]
    text = onnx.ask("GET", "/metrics")[1]
    assert 'insitu_model_info{model="late",version="3",runtime="onnx",run_key="abc"} 1\n' in text
    assert counted("insitu_ready") == 1
    assert counted("process_resident_memory_bytes") > 1e7
    assert "4711" not in text


def test_the_v2_protocol_gives_the_same_answers(onnx: Server, model: Trained) -> None:
    rows = model.rows[:3]
    kinds = dict(zip(model.columns, ("BYTES", "FP64", "INT64"), strict=True))
    inputs = [
        {"name": name, "datatype": kind, "shape": [3, 1], "data": [row[at] for row in rows]}
        for at, (name, kind) in enumerate(kinds.items())
    ]
    status, answer, _ = onnx.ask("POST", "/v2/models/late/infer", {"id": "7", "inputs": inputs})
    assert status == 200
    (output,) = answer["outputs"]
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("late", "3", "7")
    assert (output["name"], output["datatype"], output["shape"]) == ("predictions", "FP64", [3, 2])
    assert output["data"] == pytest.approx([value for row in model.expected[:3] for value in row], abs=1e-5)
    assert onnx.ask("POST", "/v2/models/late/versions/3/infer", {"inputs": inputs})[0] == 200


def test_the_v2_protocol_tells_what_there_is(onnx: Server) -> None:
    assert onnx.ask("GET", "/v2/health/live")[0] == onnx.ask("GET", "/v2/health/ready")[0] == 200
    assert onnx.ask("GET", "/v2/models/late/ready")[0] == onnx.ask("HEAD", "/v2/models/late/ready")[0] == 200
    told = onnx.ask("GET", "/v2/models/late")[1]
    assert (told["name"], told["versions"], told["platform"]) == ("late", ["3"], "onnxruntime_onnx")
    assert [(one["name"], one["datatype"], one["shape"]) for one in told["inputs"]] == [
        ("carrier", "BYTES", [-1]), ("distance", "FP64", [-1]), ("hour", "INT64", [-1])
    ]  # fmt: skip
    assert told["outputs"] == [{"name": "predictions", "datatype": "FP64", "shape": [-1, 2]}]
    for path, wanted, words in (("late/infer", 400, "list of tensors"), ("later/infer", 404, "known paths")):
        status, answer, _ = onnx.ask("POST", f"/v2/models/{path}", {"inputs": []})
        assert status == wanted
        assert words in answer["error"], "the protocol's errors are a text"


def test_a_client_that_does_not_send_what_it_should_is_let_go(portable: Path) -> None:
    with (
        served(portable, INSITU_BODY_TIMEOUT_S="0.2") as server,
        closing(socket.socket(socket.AF_UNIX)) as connection,
    ):
        connection.connect(str(server.socket))
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        with closing(socket.socket(socket.AF_UNIX)) as silent:
            silent.settimeout(60)
            silent.connect(str(server.socket))
            assert silent.recv(100) == b""


def test_a_client_whose_head_does_not_end_is_let_go(onnx: Server) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(60)
        connection.connect(str(onnx.socket))
        connection.sendall(b"GET /health HTTP/1.1\r\nX: ")
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                connection.sendall(b"a" * 10_000)
            assert connection.recv(100) == b""
    assert onnx.is_ready()


def test_beyond_its_limit_requests_are_refused_and_probes_are_not(slow_model: Path, tmp_path: Path) -> None:
    body = {"data": [[str(tmp_path)]]}
    with served(slow_model, INSITU_MAX_REQUESTS="2", INSITU_WORKERS="1") as server, ThreadPoolExecutor(2) as pool:
        taken = [pool.submit(server.ask, "POST", "/score", body) for _ in range(2)]
        wait_until(lambda: "insitu_requests_in_flight 2\n" in server.ask("GET", "/metrics")[1])
        status, answer, headers = server.ask("POST", "/score", body)
        assert (status, answer["error"]["code"], headers["retry-after"]) == (503, "busy", "1")
        assert server.is_ready()
        (tmp_path / "go").touch()
        assert [one.result()[0] for one in taken] == [200, 200]
        assert server.ask("POST", "/score", body)[0] == 200


def test_asked_to_end_it_is_not_ready_at_once_and_answers_what_it_has(slow_model: Path, tmp_path: Path) -> None:
    with served(slow_model, INSITU_DRAIN_S="3600") as server, ThreadPoolExecutor(1) as pool:
        taken = pool.submit(server.ask, "POST", "/score", {"data": [[str(tmp_path)]]}, **{"X-Request-ID": "last"})
        wait_until((tmp_path / "asked").exists)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not server.is_ready())
        status, answer, _ = server.ask("GET", "/ready")
        assert (status, answer["error"]["code"]) == (503, "stopping")
        assert server.ask("GET", "/health")[0] == 200
        ended = threading.Thread(target=server.end)  # the second signal ends the wait for others
        ended.start()
        wait_until(lambda: not server.socket.exists() or _refuses(server.socket))
        (tmp_path / "go").touch()
        assert taken.result()[:2] == (200, {"predictions": [1.0]})
        ended.join(60)
        assert server.process.returncode == 0


def _refuses(path: Path) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        return connection.connect_ex(str(path)) != 0


def test_the_log_has_a_line_per_request_and_no_value(portable: Path, model: Trained) -> None:
    with served(portable) as server:
        server.ask("POST", "/score", {"data": [["4711", 1.5, 2]]}, **{"X-Request-ID": "mine"})
        server.ask("POST", "/score", {"data": [["4711", "4712", 2]]})
        server.ask("GET", "/4711")
        status, lines = server.end()
    assert status == 0
    assert [(one["path"], one["status"], one["rows"]) for one in lines] == [
        ("/score", 200, 1),
        ("/score", 400, 0),
        ("?", 404, 0),
    ]
    assert lines[0]["request_id"] == "mine"
    assert "471" not in json.dumps([{**one, "request_id": "", "ms": 0} for one in lines])


def test_of_an_onnx_model_no_training_library_is_loaded(portable: Path) -> None:
    with served(portable, "-X", "importtime") as server:
        server.ask("POST", "/score", {"data": [["AA", 1.5, 2]]})
        server.process.send_signal(signal.SIGTERM)
        _, told = server.process.communicate(timeout=60)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in told.splitlines() if "|" in line}
    assert {"onnxruntime", "numpy", "uvicorn", "httptools"} <= loaded
    assert not loaded & {"mlflow", "pandas", "sklearn", "scipy", "pyarrow", "torch", "skl2onnx", "onnx", "insitu_edge"}
