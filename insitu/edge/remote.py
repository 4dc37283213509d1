"""The edge job on another machine than the flow's: `python -m insitu.edge.remote JOB [--summary FOLDER]`.

It is told its name, and in `INSITU_STATE` how the site's state is opened; of the secret only where it is on
this machine. Everything else it finds in the state, and everything that it makes goes back there
(`insitu.jobstate`). Whoever runs it may pass its output on to a cloud, so that holds names of phases and
nothing else; FOLDER receives aggregates.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, TypeVar

from insitu import parcels, telemetry
from insitu.edge.isolation import use_proxy
from insitu.enclosure import PROXY, job_command
from insitu.errors import BackendUnavailable, BlobNotFound, InsituError, TrainingFailed
from insitu.files import file_digests, file_names
from insitu.jobstate import MANIFEST, Beat, JobState
from insitu.network import use_network
from insitu.settings import NetworkSettings
from insitu.stores import open_blobs

T = TypeVar("T")
Say = Callable[[str], None]

_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 10.0
_GRACE_S = 5.0
_PATIENCE_S, _RETRY_S = 900.0, 5.0
"""How long what was trained waits for a store that gives no answer."""
_PIECE_BYTES = 4_000_000


class CalledOff(Exception):
    """Somebody ended this job, or it began before: whatever it does now does not count."""


@dataclass
class Pulse:
    """The signs of life of this job, and the pieces of its log."""

    job: JobState
    _beat: Beat = field(default_factory=lambda: Beat(owner=uuid.uuid4().hex), init=False)
    _etag: str = field(default="", init=False)

    def begin(self) -> None:
        """Take the job on; raise `CalledOff`."""
        self._take(self.job.claim(self._beat))

    def tell(self, phase: str, log: Path) -> None:
        """Give a sign of life; a store that is out of order is no reason to stop. Raise `CalledOff`."""
        with suppress(InsituError):
            self.send_log(log)
            self._send(replace(self._beat, phase=phase))

    def send_log(self, log: Path) -> None:
        """Put into the state what is new in the file *log*."""
        while data := _piece(log, self._beat.log_bytes):
            self.job.put_log(self._beat.log_bytes, data)
            self._beat = replace(self._beat, log_bytes=self._beat.log_bytes + len(data))

    def end(self) -> None:
        """Let what was left hold; raise `CalledOff`."""
        self._send(replace(self._beat, end="left"))

    def _send(self, beat: Beat) -> None:
        self._beat = replace(beat, count=self._beat.count + 1)
        self._take(self.job.beat(self._beat, self._etag))

    def _take(self, etag: str | None) -> None:
        if etag is None:
            raise CalledOff
        self._etag = etag


def main(job_id: str, summary: Path | None) -> int:
    """Do the job; return the exit code."""
    telemetry.switch_off()
    use_network(NetworkSettings())  # as this machine's variables say, whichever of them it has
    signal.signal(signal.SIGTERM, _stop)
    say = _silenced()
    try:
        use_proxy()
        left = _work(job_id, say)
    except CalledOff:
        say("called off")
        return 1
    except Exception as exc:
        say(f"broke: {exc.code if isinstance(exc, InsituError) else type(exc).__name__}")
        return 1
    if summary:
        summary.mkdir(parents=True, exist_ok=True)
        (summary / "summary.json").write_text(json.dumps(summarise(left)))
    say("done" if left["result"] else f"failed: {left['failure']['code']}")
    return 0 if left["result"] else 1


def _stop(*_: object) -> None:
    """End, and let nothing disturb that: the job's own processes are ended on the way out."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def summarise(left: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may leave the site: counts and metrics of four digits, or the kind of a failure."""
    if not left["result"]:
        return {"state": "failed", "code": left["failure"]["code"]}
    metrics: Mapping[str, Mapping[str, float]] = left["result"]["metrics"]
    told = {role: {name: f"{value:.4g}" for name, value in part.items()} for role, part in metrics.items()}
    return {"state": "completed", "rows": left["result"]["rows"], "metrics": told}


def check_code(staged: Path, digest: str) -> None:
    """Raise `TrainingFailed` unless the code in *staged* is what was sent: the manifest, and every file in it."""
    manifest = (staged / MANIFEST).read_bytes() if (staged / MANIFEST).is_file() else b""
    wanted = json.loads(manifest) if sha256(manifest).hexdigest() == digest else {}
    found = {f"{part}/{k}": v for part in ("insitu", "model") for k, v in file_digests(staged / part).items()}
    if found != wanted:
        strange = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        raise TrainingFailed(
            "the code that came to this machine is not the code that was sent",
            found=f"changed, added or missing: {', '.join(strange[:5])}" if wanted else "another manifest, or none",
            next_action="start the run again; if it stays so, see who else may write where the code passes through",
        )


def _work(job_id: str, say: Say) -> dict[str, Any]:
    """Do the job from its first sign of life to its last; return what was left."""
    say("begins")
    pulse = Pulse(JobState(open_blobs(json.loads(os.environ["INSITU_STATE"])), job_id))
    patiently(pulse.begin)
    with TemporaryDirectory(prefix="insitu-") as temporary:
        folder, failure = Path(temporary).resolve(), None
        try:
            _run(folder, pulse, say)
        except InsituError as error:
            failure = error
        say("leaves")
        return _leave(folder, pulse, failure)


def _run(folder: Path, pulse: Pulse, say: Say) -> None:
    """Run the edge job in *folder*, with signs of life; its files tell how that went."""
    spec, staged = patiently(pulse.job.spec), Path(__file__).parents[2]
    check_code(staged, spec["manifest"])
    say("fetches")
    _prepare(folder, spec, pulse.job, staged / "model")
    say("trains")
    with open(folder / "edge.txt", "wb") as output, _group(_start(folder, spec, staged, output)) as child:
        ends, pause_s = time.monotonic() + spec.get("timeout_s", float("inf")), _FIRST_PAUSE_S
        while not _ended_within(child, pause_s):
            if time.monotonic() > ends:
                raise TrainingFailed(
                    "the edge job did not end in time and was stopped",
                    wanted="an end within train.timeout_s of model.toml",
                    next_action="raise train.timeout_s, or give the job less to do",
                )
            pulse.tell("trains", folder / "log.txt")
            pause_s = min(1.5 * pause_s, _LAST_PAUSE_S)


def _prepare(folder: Path, spec: Mapping[str, Any], job: JobState, model_folder: Path) -> None:
    local = dict(spec) | {"model_folder": str(model_folder)}
    for role in ("champion", "challenger"):
        if (model := spec.get(role)) and "parcel" in model:
            local[role] = {"version": model["version"], "folder": str(_received(job, role, model, folder))}
    (folder / "spec.json").write_text(json.dumps(local))


def _received(job: JobState, role: str, model: Mapping[str, Any], folder: Path) -> Path:
    """Fetch the files of a registered version; return their folder."""
    kept = folder / role
    try:
        patiently(lambda: parcels.receive(job.state, model["parcel"], kept))
    except BlobNotFound:
        raise TrainingFailed(f"files of {role} version {model['version']} are gone from the site's state") from None
    return kept


def _start(folder: Path, spec: Mapping[str, Any], staged: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, [str(staged), os.environ.get("PYTHONPATH")]))
    isolated = spec.get("network") == "none" and PROXY not in os.environ  # whose container has a proxy is isolated
    return subprocess.Popen(
        job_command(folder, spec, isolated=isolated),
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


@contextmanager
def _group(leader: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Yield *leader*; whatever of its process group is left afterwards is ended."""
    try:
        yield leader
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(leader.pid, sign)
            if _ended_within(leader, _GRACE_S) and sign == signal.SIGTERM:
                time.sleep(0.1)  # for those that end when they are asked
        deadline = time.monotonic() + _GRACE_S
        while _lives(leader.pid) and time.monotonic() < deadline:
            time.sleep(0.02)  # a killed process takes a moment to go


def _lives(group: int) -> bool:
    """Tell whether a process of the group is there; one that has ended and waits for its parent counts, too."""
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def _ended_within(child: subprocess.Popen[bytes], seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        child.wait(seconds)
    return child.returncode is not None


def _leave(folder: Path, pulse: Pulse, failure: InsituError | None) -> dict[str, Any]:
    """Put into the state what was made; with the last sign of life it holds."""
    result = None if failure else _json(folder / "result.json")
    told = None if result else (failure.to_json() if failure else _json(folder / "failure.json") or _unexplained())
    if not result and (folder / "edge.txt").is_file():
        with open(folder / "log.txt", "ab") as log:
            log.write((folder / "edge.txt").read_bytes())
    names = [n for n in file_names(folder) if n == "golden.json" or n.startswith("output/")] if result else []
    patiently(lambda: pulse.send_log(folder / "log.txt"))
    files = patiently(lambda: parcels.send(pulse.job.state, folder, names))
    left = {"result": result, "failure": told and _without_paths(told, folder, pulse.job), "files": files}
    patiently(lambda: pulse.job.leave(left))
    patiently(pulse.end)
    return left


def patiently(call: Callable[[], T]) -> T:
    """Return what *call* returns; while the store gives no answer, ask again for a quarter of an hour."""
    ends = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return call()
        except BackendUnavailable:
            if time.monotonic() > ends:
                raise
        time.sleep(_RETRY_S)


def _unexplained() -> dict[str, Any]:
    return TrainingFailed(
        "the edge job ended without a result or a reason", next_action="see its log; the machine may be out of memory"
    ).to_json()


def _without_paths(told: Mapping[str, Any], folder: Path, job: JobState) -> dict[str, Any]:
    """Return a failure that names places which outlive *folder*."""
    text = json.dumps(told).replace(f"{folder}/log.txt", f"{job.name('log/')} of the site's state")
    relocated: dict[str, Any] = json.loads(text.replace(str(folder), "the job's folder"))
    return relocated


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found


def _piece(log: Path, offset: int) -> bytes:
    with suppress(FileNotFoundError), open(log, "rb") as file:
        file.seek(offset)
        return file.read(_PIECE_BYTES)
    return b""


def _silenced() -> Say:
    """Close standard output and error to everything but the returned function: libraries print what they like."""
    output = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "wb") as nowhere:
        for descriptor in (1, 2):
            os.dup2(nowhere.fileno(), descriptor)

    def say(phase: str) -> None:
        with suppress(OSError):
            print(f"insitu edge job {phase}", file=output, flush=True)

    return say


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("--summary", type=Path)
    arguments = parser.parse_args()
    sys.exit(main(arguments.job, arguments.summary))
