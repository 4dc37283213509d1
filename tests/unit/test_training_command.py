"""The user's command: its failures are told apart without its words, and its output stays in bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from insitu.edge.command import train
from insitu.edge.data import DATA_ERROR
from insitu.errors import BlobChanged, DataError, InsituError, StorageFull, TrainingFailed
from insitu.files import file_digests

SECRET = "Ada-Lovelace-1815"
Start = Callable[..., InsituError | None]

CHILD = """
import json, sys
from pathlib import Path
from insitu.edge.command import train
from insitu.errors import TrainingFailed

folder = Path(sys.argv[1])
with open(folder / "log.txt", "wb", buffering=0) as log:
    try:
        train(folder, json.loads(sys.argv[2]), log)
    except TrainingFailed as error:
        print(error.what)
# Not getrusage: its peak begins with that of the process that forked this one.
status = Path("/proc/self/status").read_text()
print(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
"""


def spec(folder: Path, command: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "model_folder": str(folder),
        "code": {},
        "command": command,
        "params": {"C": 1.0},
        "max_log_bytes": 100_000,
        "train": {"container": "c", "blobs": []},
    } | changes


def python(script: str) -> list[str]:
    return ["python", "-c", script]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that runs a command under the contract and returns the error that it met."""

    def run(command: list[str], **changes: Any) -> InsituError | None:
        with open(tmp_path / "log.txt", "wb", buffering=0) as log:
            try:
                train(tmp_path, spec(tmp_path, command, **changes), log)
            except InsituError as error:
                return error
        return None

    return run


def failed(error: InsituError | None) -> TrainingFailed:
    assert isinstance(error, TrainingFailed), error
    return error


LEAVE_MODEL = "import os, pathlib; f = pathlib.Path(os.environ['INSITU_OUTPUT'], 'model'); f.mkdir(); "
LEAVE_MODEL += "(f / 'MLmodel').touch()"


def test_a_command_that_leaves_a_model_is_done(start: Start) -> None:
    assert start(python(LEAVE_MODEL)) is None


def test_the_command_sees_the_contract_and_nothing_of_site_and_prefect(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSITU_SITE__REGISTRY", "localhost:5000")
    monkeypatch.setenv("PREFECT_API_KEY", SECRET)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert (
        start(
            python(
                f"import json, sys; {LEAVE_MODEL}; print(json.dumps([dict(os.environ), os.getcwd(), sys.executable]))"
            )
        )
        is None
    )
    environ, folder, executable = json.loads((tmp_path / "log.txt").read_text())
    assert json.loads(Path(environ["INSITU_BATCH"]).read_text()) == {"container": "c", "blobs": []}
    assert json.loads(environ["INSITU_PARAMS"]) == {"C": 1.0}
    assert Path(environ["INSITU_OUTPUT"]).is_dir()
    assert environ["OMP_NUM_THREADS"] == "1"
    assert (folder, executable) == (str(tmp_path / "code"), sys.executable)
    assert [name for name in environ if name.startswith(("INSITU_SITE", "PREFECT_"))] == []


def test_the_command_runs_in_a_copy_of_exactly_the_listed_files(start: Start, tmp_path: Path) -> None:
    source = tmp_path / "model"
    for name, text in (("train.sh", "#!/bin/sh\n"), ("lib/empty.py", ""), ("model.toml", "x")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (source / "train.sh").chmod(0o755)
    code = {name: digest for name, digest in file_digests(source).items() if name != "model.toml"}
    write = "pathlib.Path('train.sh').write_text('overwritten')"
    assert start(python(f"{LEAVE_MODEL}; {write}"), model_folder=str(source), code=code) is None
    copy = tmp_path / "code"
    assert sorted(path.name for path in copy.rglob("*") if path.is_file()) == ["empty.py", "train.sh"]
    assert (copy / "train.sh").stat().st_mode & 0o777 == 0o755
    assert (source / "train.sh").read_text() == "#!/bin/sh\n"


@pytest.mark.parametrize("content", ["print(1)", ""])
@pytest.mark.parametrize("change", ["overwrite", "remove"])
def test_a_file_that_is_not_what_was_hashed_is_named_and_nothing_runs(
    start: Start, tmp_path: Path, content: str, change: str
) -> None:
    file = tmp_path / "model" / "features.py"
    file.parent.mkdir()
    file.write_text(content)
    code = file_digests(file.parent)
    file.write_text("print(2)")
    if change == "remove":
        file.unlink()
    error = failed(start(python(LEAVE_MODEL), model_folder=str(file.parent), code=code))
    assert "features.py" in error.what
    assert "was changed" in error.what
    assert not (tmp_path / "output" / "model").exists()


@pytest.mark.parametrize("error", [DataError("the batch has no column x"), BlobChanged("blob a was overwritten")])
def test_what_the_command_met_while_it_read_its_batch_is_raised(
    start: Start, tmp_path: Path, error: InsituError
) -> None:
    (tmp_path / DATA_ERROR).write_text(json.dumps(error.to_json()))
    met = start(python("raise SystemExit(1)"))
    assert met is not None
    assert met.to_json() == error.to_json()


def test_a_command_waits_for_no_input(start: Start) -> None:
    assert start(python(f"import sys; assert sys.stdin.read() == ''; {LEAVE_MODEL}")) is None


def test_a_command_that_leaves_no_model_is_told_how_to_leave_one(start: Start) -> None:
    error = failed(start(python("pass")))
    assert "no model" in error.what
    assert "save_model" in str(error.next_action)


def test_an_exit_code_is_told_with_the_place_of_the_output(start: Start, tmp_path: Path) -> None:
    error = failed(start(python(f"print('{SECRET}'); raise SystemExit(3)")))
    assert "exited with code 3" in error.what
    assert str(tmp_path / "log.txt") in str(error.next_action)
    assert error.found is None
    assert SECRET not in str(error)
    assert SECRET in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    "raised",
    [
        f"raise ValueError('{SECRET}')",
        f"raise ValueError('bad row\\n{SECRET}')",
        f"raise ValueError('bad row\\nAda: {SECRET}')",
        "raise ValueError('bad row\\nAda')",
        f"print('{SECRET}: 1'); raise ValueError",
        f"raise ValueError('x') from KeyError('{SECRET}')",
        f"e = ValueError('x'); e.add_note('Ada: {SECRET}'); raise e",
    ],
)
def test_an_exception_tells_its_class_and_no_value(start: Start, raised: str) -> None:
    error = failed(start(python(raised)))
    assert "Ada" not in json.dumps(error.to_json())
    assert error.found in ("ValueError", None)


@pytest.mark.parametrize(
    "raised", [f"raise ValueError('{SECRET}')", "raise ValueError", "import json; json.loads('x')"]
)
def test_the_class_of_a_plain_exception_is_told(start: Start, raised: str) -> None:
    assert failed(start(python(raised))).found in ("ValueError", "json.decoder.JSONDecodeError")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_command_that_a_signal_ended_tells_which(start: Start, name: str) -> None:
    error = failed(start(python(f"import os, signal; os.kill(os.getpid(), signal.{name})")))
    assert name in error.what
    assert ("memory" in error.what) == (name == "SIGKILL")


def test_a_signal_without_a_name_is_told_too(start: Start) -> None:
    error = failed(start(python("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)")))
    assert "ended by" in error.what


@pytest.mark.parametrize("command", ["no-such-command-at-all", "/", "/dev/null"])
def test_a_command_that_cannot_be_started_is_named(start: Start, command: str) -> None:
    error = failed(start([command, "train.py"]))
    assert repr(command) in error.what
    assert "cannot be started" in error.what


def test_a_full_disk_under_the_command_is_told_as_that(start: Start) -> None:
    assert isinstance(start(python("open('/dev/full', 'wb', buffering=0).write(b'x')")), StorageFull)


def test_output_below_the_limit_is_kept_whole(start: Start, tmp_path: Path) -> None:
    assert start(python(f"{LEAVE_MODEL}; print('x' * 99_999)")) is None
    assert (tmp_path / "log.txt").read_bytes() == b"x" * 99_999 + b"\n"


def test_of_output_above_the_limit_begin_and_end_are_kept(start: Start, tmp_path: Path) -> None:
    failed(start(python("print('begin'); print('x' * 500_000); print('end'); raise SystemExit(1)")))
    log = (tmp_path / "log.txt").read_bytes()
    assert log.startswith(b"begin\n")
    assert log.endswith(b"end\n")
    assert b"bytes dropped" in log
    assert len(log) < 100_000 + 40_000


def test_a_flood_of_300_megabytes_stays_in_bounds(tmp_path: Path) -> None:
    flood = spec(tmp_path, ["sh", "-c", "yes 'a line that says nothing' | head -c 300000000"])
    child = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path, json.dumps(flood)], capture_output=True, text=True, timeout=120
    )
    what, peak_kb = child.stdout.splitlines()
    assert "no model" in what
    assert int(peak_kb) < 150_000
    assert (tmp_path / "log.txt").stat().st_size < 100_000 + 40_000
