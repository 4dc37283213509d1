"""A real Spark cluster of this machine: a master and workers of one core each, or a Spark Connect server.

    with standalone(folder) as cluster:
        cluster.address                     spark://127.0.0.1:PORT
        cluster.kill_worker()

They come with pyspark, and listen on loopback alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from loopback import free_port, listens, wait_until

_BRIEF_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def missing() -> str:
    """Say what keeps Spark from running here; empty when nothing does."""
    if find_spec("pyspark") is None:
        return "pyspark is not installed: `make spark` does that"
    return "" if shutil.which("java") else "Java is not installed: tests/system-parts.sh does that"


@dataclass
class Standalone:
    """A master and its workers, which work in folders below *folder*."""

    folder: Path
    port: int = field(default_factory=free_port)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def address(self) -> str:
        """What drivers connect to."""
        return f"spark://127.0.0.1:{self.port}"

    def start_worker(self) -> None:
        """Add a worker with one core."""
        name = f"worker-{next(self._numbers)}"
        options = ["--cores", "1", "--memory", "1g", "--host", "127.0.0.1", "--webui-port", "0"]
        work = self.folder / name
        self.workers.append(
            _started(work, "org.apache.spark.deploy.worker.Worker", *options, "--work-dir", str(work), self.address)
        )

    def kill_worker(self) -> None:
        """End a worker as a machine that loses its power does."""
        worker = self.workers.pop()
        worker.kill()
        worker.wait()


@contextmanager
def standalone(folder: Path, workers: int = 2) -> Iterator[Standalone]:
    """Run a cluster on free ports."""
    cluster = Standalone(folder)
    options = ["--host", "127.0.0.1", "--port", str(cluster.port), "--webui-port", "0"]
    master = _started(folder / "master", "org.apache.spark.deploy.master.Master", *options)
    try:
        wait_until(lambda: listens(cluster.port), 60, "the start of Spark's master")
        for _ in range(workers):
            cluster.start_worker()
        yield cluster
    finally:
        for process in (*cluster.workers, master):
            process.terminate()
            process.wait(30)


@contextmanager
def connect_server(folder: Path) -> Iterator[str]:
    """Run a Spark Connect server with a Spark of its own; yield its address."""
    port = free_port()
    settings = {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.driver.defaultJavaOptions": _BRIEF_JAVA,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    options = [f"--conf={key}={value}" for key, value in settings.items()]
    server = "org.apache.spark.sql.connect.service.SparkConnectServer"
    process = _started(folder, "org.apache.spark.deploy.SparkSubmit", *options, "--class", server, "spark-internal")
    try:
        wait_until(lambda: listens(port), 60, "the start of Spark Connect")
        yield f"sc://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _started(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    import sys

    import pyspark

    home = Path(pyspark.__file__).parent
    folder.mkdir(parents=True)
    environ = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_JAVA_OPTS": _BRIEF_JAVA,
        "PYSPARK_PYTHON": sys.executable,
    }
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([home / "bin" / "spark-class", *command], env=environ, stdout=log, stderr=log)
