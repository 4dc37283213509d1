"""The log of an edge job goes by without escapes, tracebacks or floods, and the wait ends with the job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.errors import BackendUnavailable, BlobChanged, InsituError, TrainingFailed
from insitu.joblog import LogRelay
from insitu.leases import only_run
from insitu.ports import JobPhase, JobStatus, ModelVersion
from insitu.runs import Run, open_run
from insitu.training import train_challenger

TRACEBACK = b"""Traceback (most recent call last):
  File "train.py", line 3, in <module>
    fit(secret)

ValueError: could not convert string to float: 'secret'
"""
NOTE = "(a traceback follows; it is kept in the log on site)"


@dataclass
class Seen:
    """What a relay passed on."""

    lines: list[str] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)

    def relay(self, **options: Any) -> LogRelay:
        return LogRelay(self.lines.append, self.progress.append, **options)


def relayed(*chunks: bytes, **options: int) -> Seen:
    seen = Seen()
    relay = seen.relay(**options)
    for chunk in chunks:
        relay.feed(chunk)
    return seen


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def test_lines_that_arrive_in_pieces_are_put_together() -> None:
    assert relayed(b"first li", b"ne\nsec", b"ond line\n", b"rest").lines == ["first line", "second line"]


@given(st.lists(st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=40)), st.data())
def test_it_does_not_matter_where_the_log_is_cut(lines: list[str], data: st.DataObject) -> None:
    log = "".join(line + "\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=6)))
    pieces = [log[a:b] for a, b in zip([0, *cuts], [*cuts, len(log)], strict=True)]
    assert relayed(*pieces).lines == relayed(log).lines == lines


def test_progress_lines_become_progress_and_a_percentage() -> None:
    seen = relayed(b"::progress 0.05 training\n::progress 0.4\n::progress 1 done\nplain\n")
    assert seen.progress == [0.05, 0.4, 1.0]
    assert seen.lines == ["5% training", "40%", "100% done", "plain"]


@pytest.mark.parametrize(("fraction", "shown"), [("1.5", "100%"), ("9", "100%"), ("0", "0%")])
def test_progress_never_goes_beyond_the_end(fraction: str, shown: str) -> None:
    seen = relayed(f"::progress {fraction}\n".encode())
    assert (seen.progress, seen.lines) == ([min(1.0, float(fraction))], [shown])


@pytest.mark.parametrize(
    "line", ["::progress", "::progress x", "::progress -0.5", "::progress 50%", "a ::progress 0.5"]
)
def test_what_is_no_progress_line_is_text(line: str) -> None:
    seen = relayed(f"{line}\n".encode())
    assert (seen.progress, seen.lines) == ([], [line])


def test_a_line_ends_at_a_carriage_return_too() -> None:
    log = b"epoch 1\repoch 2\r\nepoch 3\n\r\n::progress 0.5 half\rrest"
    for pieces in ([log], bytewise(log)):
        seen = relayed(*pieces)
        assert seen.lines == ["epoch 1", "epoch 2", "epoch 3", "50% half"]
        assert seen.progress == [0.5]


def test_empty_lines_are_left_out() -> None:
    assert relayed(b"\n   \n\ta\n").lines == ["\ta"]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b[2K\x1b[1Gcleared", "cleared"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b]8;;http://x\x1b\\link", "link"),
        (b"bell\x07 null\x00 del\x7f", "bell null del"),
        (b"windows\r", "windows"),
        (b"\xc2\x9b31mc1", "31mc1"),
        ("größe ≥ 3 日本 🙂".encode(), "größe ≥ 3 日本 🙂"),
        (b"tab\tstays", "tab\tstays"),
    ],
)
def test_control_characters_and_escapes_are_stripped(raw: bytes, shown: str) -> None:
    assert relayed(raw + b"\n").lines == [shown]
    assert relayed(*bytewise(raw + b"\n")).lines == [shown]


@given(st.binary(max_size=200))
def test_no_bytes_whatever_put_a_control_character_into_a_line(data: bytes) -> None:
    for line in relayed(data + b"\n").lines:
        assert all(c == "\t" or " " <= c <= "~" or c >= "\xa0" for c in line)


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert relayed(b"caf\xe9\n").lines == ["caf\ufffd"]


@pytest.mark.parametrize("cut", [len, lambda _: 1, lambda _: 7])
def test_a_traceback_is_withheld_until_the_next_progress_line(cut: Callable[[bytes], int]) -> None:
    log = b"before\n" + TRACEBACK + b"more of the message\n::progress 0.7 evaluating\nafter\n"
    step = cut(log)
    assert relayed(*(log[i : i + step] for i in range(0, len(log), step))).lines == [
        "before",
        NOTE,
        "70% evaluating",
        "after",
    ]


def test_a_traceback_is_withheld_before_its_first_line_has_ended() -> None:
    assert relayed(b"Traceback (most recent call last)").lines == [NOTE]


def test_a_traceback_behind_progress_is_withheld_until_the_progress_after_it() -> None:
    log = b"::progress 0.5 half " + TRACEBACK + b"::progress 0.7 on\nafter\n"
    for pieces in ([log], bytewise(log)):
        seen = relayed(*pieces)
        assert "secret" not in "".join(seen.lines)
        assert seen.progress == [0.5, 0.7]
        assert seen.lines[-2:] == ["70% on", "after"]


def test_chained_tracebacks_are_withheld_too() -> None:
    for link in (
        b"\nDuring handling of the above exception, another exception occurred:\n\n",
        b"\nThe above exception was the direct cause of the following exception:\n\n",
    ):
        assert relayed(TRACEBACK + link + TRACEBACK).lines == [NOTE]


def test_a_traceback_behind_a_progress_bar_is_withheld() -> None:
    assert "secret" not in "".join(relayed(b"\r 50%|#####     | 1/2 " + TRACEBACK).lines)


def test_the_traceback_of_an_exception_group_is_withheld() -> None:
    log = b"""  + Exception Group Traceback (most recent call last):
  |   File "train.py", line 3, in <module>
  |     fit(secret)
  | ExceptionGroup: two (1 sub-exception)
  +-+---------------- 1 ----------------
    | ValueError: secret
    +------------------------------------
"""
    assert "secret" not in "".join(relayed(log).lines)


def test_a_traceback_with_a_very_long_line_is_withheld_wherever_it_is_cut() -> None:
    log = TRACEBACK.replace(b"    fit(secret)\n", b"    fit(" + b"1, " * 400 + b")\n")
    for size in (len(log), 600, 64):
        seen = relayed(*(log[i : i + size] for i in range(0, len(log), size)))
        assert "secret" not in "".join(seen.lines), size


def test_an_exception_whose_message_has_several_lines_is_withheld_to_its_end() -> None:
    log = TRACEBACK.replace(b"ValueError: ", b"ValueError: bad row\n")
    assert "secret" not in "".join(relayed(log).lines)


def test_a_flood_is_capped_once_and_progress_still_passes() -> None:
    seen = relayed(*[b"line\n" * 100] * 10, b"::progress 0.70 evaluating\n", max_lines=20)
    assert len(seen.lines) == 21
    assert "more than 20 lines" in seen.lines[-1]
    assert seen.progress == [0.7]


def test_a_very_long_line_is_cut_and_little_of_it_is_held() -> None:
    seen = Seen()
    relay = seen.relay()
    for _ in range(2000):
        relay.feed(b"x" * 10_000)
    relay.feed(b"\nnext\n")
    assert [len(line) <= 500 for line in seen.lines] == [True, True]
    assert seen.lines[1] == "next"


# --- the wait for the job ---


@dataclass
class FakeJobs:
    """`TrainingJobs` that stand where they are told to, or answer with an error."""

    state: JobStatus | InsituError
    text: bytes = b""
    canceled: list[str] = field(default_factory=list)
    submitted: list[Mapping[str, Any]] = field(default_factory=list)
    backend: str = "fake"
    poll_s: tuple[float, float] = (0.01, 0.02)
    limits_s: Mapping[JobPhase, float] = field(default_factory=dict)
    cancel_fails: bool = False

    def submit(self, key: str, spec: Mapping[str, Any]) -> str:
        self.submitted.append(spec)
        return f"job-{key[:4]}"

    def status(self, job_id: str) -> JobStatus:
        if isinstance(self.state, InsituError):
            raise self.state
        return self.state

    def log(self, job_id: str, offset: int) -> bytes:
        return self.text[offset:]

    def cancel(self, job_id: str) -> None:
        self.canceled.append(job_id)
        if self.cancel_fails:
            raise BackendUnavailable("the service does not answer")

    def output(self, job_id: str) -> Path:
        raise AssertionError("no result to look for")


@dataclass
class NoModels:
    """`ModelRegistry` without any model."""

    place: str = "nowhere"
    archives_rejected: bool = False

    def record(self, model: str, run_key: str, job_id: str, tags: Mapping[str, str]) -> None:
        raise AssertionError

    def archive(self, model: str, version: str) -> None:
        raise AssertionError

    def find(self, model: str, run_key: str) -> ModelVersion | None:
        return None

    def register(self, model: str, run_key: str, folder: Path, tags: Mapping[str, str]) -> ModelVersion:
        raise AssertionError

    def versions(self, model: str) -> Sequence[ModelVersion]:
        return []

    def alias(self, model: str, alias: str) -> ModelVersion | None:
        return None

    def set_alias(self, model: str, alias: str, version: str) -> None:
        raise AssertionError

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        raise AssertionError

    def folder(self, version: ModelVersion) -> Path:
        raise AssertionError


@pytest.fixture
def run_with(make_project: Callable[..., Path]) -> Callable[..., Run]:
    def make(jobs: FakeJobs, timeout_s: int = 60) -> Run:
        run = open_run(make_project(1, 2, 3), "flights", "local")
        train = run.model.train.model_copy(update={"timeout_s": timeout_s})
        model = run.model.model_copy(update={"train": train})
        return replace(run, site=replace(run.site, jobs=jobs, models=NoModels()), model=model)

    return make


def test_a_job_past_its_deadline_is_ended_and_the_error_says_which_setting(run_with: Callable[..., Run]) -> None:
    jobs = FakeJobs(JobStatus("running"), b"hello\n")
    seen = Seen()
    with pytest.raises(TrainingFailed, match=r"train\.timeout_s"):
        train_challenger(run_with(jobs, timeout_s=0), seen.relay())
    assert len(jobs.canceled) == 1
    assert seen.lines == ["hello"]


@pytest.mark.parametrize("error", [BlobChanged("blob a was overwritten"), None])
def test_the_error_of_a_failed_job_is_raised_as_it_is(run_with: Callable[..., Run], error: InsituError | None) -> None:
    jobs = FakeJobs(JobStatus("failed", error))
    with pytest.raises(type(error) if error else TrainingFailed) as caught:
        train_challenger(run_with(jobs), Seen().relay())
    assert error is None or caught.value is error


def test_an_interrupted_wait_ends_the_job(run_with: Callable[..., Run]) -> None:
    jobs, stop = FakeJobs(JobStatus("running"), b"one\n"), threading.Event()

    def interrupt(_: str) -> None:
        stop.set()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_challenger(run_with(jobs), LogRelay(interrupt, lambda _: None))
    assert stop.is_set()
    assert len(jobs.canceled) == 1


def test_who_has_lost_the_run_leaves_the_job_to_its_heir(run_with: Callable[..., Run]) -> None:
    jobs = FakeJobs(JobStatus("running"), b"one\n")
    run = run_with(jobs)

    def interrupt(_: str) -> None:
        """What happens when the thread that beats finds out."""
        lease.lost = True
        raise SystemExit

    with only_run(run.site.state, "flights", run.key) as lease, pytest.raises(SystemExit):
        train_challenger(run.held_by(lease), LogRelay(interrupt, lambda _: None))
    assert jobs.canceled == []


def test_a_service_that_does_not_answer_leaves_the_job_alone(run_with: Callable[..., Run]) -> None:
    jobs = FakeJobs(BackendUnavailable("the workspace does not answer"))
    with pytest.raises(BackendUnavailable, match="workspace"):
        train_challenger(run_with(jobs), Seen().relay())
    assert jobs.canceled == []


def test_a_job_that_met_a_service_without_an_answer_has_ended(run_with: Callable[..., Run]) -> None:
    jobs = FakeJobs(JobStatus("failed", BackendUnavailable("the blob service does not answer")))
    with pytest.raises(BackendUnavailable, match="blob service"):
        train_challenger(run_with(jobs), Seen().relay())
    assert len(jobs.canceled) == 1


@pytest.mark.parametrize("phase", ["queued", "preparing"])
def test_a_job_that_waits_too_long_is_canceled_by_the_limit_of_its_phase(
    run_with: Callable[..., Run], phase: JobPhase
) -> None:
    jobs = FakeJobs(JobStatus("running", phase=phase), limits_s={phase: 0.05})
    with pytest.raises(TrainingFailed, match=phase) as caught:
        train_challenger(run_with(jobs), Seen().relay())
    assert f"training.{phase[:5]}" in str(caught.value.wanted)
    assert len(jobs.canceled) == 1


def test_a_job_that_cannot_be_ended_is_told_as_one_that_may_still_run(run_with: Callable[..., Run]) -> None:
    jobs = FakeJobs(JobStatus("running", phase="queued"), limits_s={"queued": 0}, cancel_fails=True)
    with pytest.raises(TrainingFailed, match="may still run") as caught:
        train_challenger(run_with(jobs), Seen().relay())
    assert caught.value.found == "the service does not answer"


def test_each_phase_is_told_once(run_with: Callable[..., Run]) -> None:
    told: list[str] = []
    jobs = FakeJobs(JobStatus("running", phase="queued"), limits_s={"queued": 0.1})
    with pytest.raises(TrainingFailed):
        train_challenger(run_with(jobs), LogRelay(lambda _: None, lambda _: None, on_phase=told.append))
    assert told == ["queued"]


def test_the_script_is_told_of_every_blob_but_the_holdout(run_with: Callable[..., Run]) -> None:
    jobs = FakeJobs(JobStatus("canceled"))
    with pytest.raises(TrainingFailed, match="canceled"):
        train_challenger(run_with(jobs), Seen().relay())
    (spec,) = jobs.submitted
    names = {part: [blob["name"] for blob in spec[part]["blobs"]] for part in ("train", "holdout")}
    assert names["train"] == ["month=01/flights.parquet", "month=02/flights.parquet"]
    assert names["holdout"] == ["month=03/flights.parquet"]
    assert spec["champion"] is None
