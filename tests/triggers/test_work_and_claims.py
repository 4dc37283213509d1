"""One work at a time, by one watcher at a time; what goes wrong with one batch keeps no other from its run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from trigger_helpers import Place, Script, go

from insitu.errors import StateDamaged, UsageError
from insitu.triggers.claims import Claim, ClaimLost, StateClaims
from insitu.triggers.orders import backfill, release, replay
from insitu.triggers.queue import Entry
from insitu.triggers.service import PROBLEM, Hints, Round, look_once
from insitu.triggers.watcher import Watcher
from insitu.triggers.work import Job, Outcome, Running


def complete(place: Place, *days: int) -> None:
    for day in days:
        place.put(f"day={day}/a.parquet", content=b"rows of day %d" % day)
        place.put(f"day={day}/_SUCCESS")


@dataclass
class Slow:
    """A runner whose runs go on until they are told to end."""

    jobs: list[Job] = field(default_factory=list)
    ended: Outcome | None = None
    stopped: int = 0

    def start(self, job: Job) -> Running:
        self.jobs.append(job)
        return self

    def outcome(self) -> Outcome | None:
        return self.ended

    def stop(self) -> None:
        self.stopped += 1


# --- runs and batches ---


def test_batches_that_arrive_while_a_run_is_busy_become_one_run(tmp_path: Path) -> None:
    place, slow = Place.in_folder(tmp_path), Slow()
    watcher = place.watcher(slow)
    complete(place, 1)
    watcher.look()
    watcher.advance()
    for day in (2, 3, 4):
        complete(place, day)
        watcher.look()
        watcher.advance()
    assert len(slow.jobs) == 1
    slow.ended = Outcome("done", {"state": "Completed"})
    go(watcher)
    assert [len(job.batches) for job in slow.jobs] == [1, 3]
    assert [len(job.batch.blobs) for job in slow.jobs] == [1, 4]


def test_without_coalescing_each_batch_has_a_run_that_sees_no_later_one(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path, coalesce=False), Script()
    complete(place, 1, 2, 3)
    go(place.watcher(script))
    assert [len(job.batches) for job in script.jobs] == [1, 1, 1]
    assert [len(names) for names in script.names] == [1, 2, 3]


def test_a_second_look_at_the_same_data_does_nothing(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path), Script()
    complete(place, 1, 2)
    go(place.watcher(script), looks=3)
    go(place.watcher(script, owner="two"))
    assert len(script.jobs) == 1


def test_a_run_uses_what_is_sealed_and_nothing_that_is_half_there(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path), Script()
    complete(place, 1)
    place.put("day=2/a.parquet")
    go(place.watcher(script))
    assert script.names == [["day=1/a.parquet"]]


def test_while_a_sealed_blob_is_being_overwritten_no_run_begins(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path), Script()
    complete(place, 1)
    go(place.watcher(script))
    complete(place, 2)
    place.overwrite("day=1/a.parquet", b"other rows")
    go(place.watcher(script))
    assert len(script.jobs) == 1
    place.overwrite("day=1/_SUCCESS", b"again")
    go(place.watcher(script))
    assert script.names[1] == ["day=1/a.parquet", "day=2/a.parquet"]
    assert len(script.jobs[1].batches) == 2


def test_one_bad_batch_is_quarantined_and_takes_no_other_along(tmp_path: Path) -> None:
    def verdict(job: Job) -> str:
        return "data" if any(blob.name == "day=2/a.parquet" for blob in job.batch.blobs) else "done"

    place, script = Place.in_folder(tmp_path), Script(verdict)
    complete(place, 1, 2, 3)
    go(place.watcher(script))
    assert [one.prefix for one in place.book.queues.read()[0].quarantine] == ["day=2/"]
    assert script.names[-1] == ["day=1/a.parquet", "day=3/a.parquet"]
    assert ("insitu.batch.quarantined", "day=2/") in [(event, said.get("prefix")) for event, said in place.events]


def test_a_run_that_fails_is_tried_again_and_quarantined_in_the_end(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path, attempts=3), Script(lambda _: "failed")
    complete(place, 1)
    go(place.watcher(script), looks=6)
    assert [job.attempt for job in script.jobs] == [1, 2, 3]
    assert len({job.key for job in script.jobs}) == 1
    assert [one.trouble for one in place.book.queues.read()[0].quarantine] == ["failed"]


def test_a_run_that_found_another_one_under_way_is_started_anew_and_no_attempt_is_counted(tmp_path: Path) -> None:
    verdicts = ["busy", "busy", "done"]
    place, script = Place.in_folder(tmp_path, attempts=2), Script(lambda _: verdicts.pop(0))
    complete(place, 1)
    go(place.watcher(script), looks=4)
    assert [(job.attempt, job.waits) for job in script.jobs] == [(1, 0), (1, 1), (1, 2)]
    assert place.book.queues.read()[0].quarantine == ()


def test_a_failed_run_is_not_tried_again_at_once(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path, retry_s=3600.0), Script(lambda _: "failed")
    complete(place, 1)
    go(place.watcher(script), looks=3)
    assert len(script.jobs) == 1


def test_a_run_that_was_cancelled_is_not_tried_again(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path), Script(lambda _: "cancelled")
    complete(place, 1)
    go(place.watcher(script), looks=3)
    assert len(script.jobs) == 1
    assert len(place.book.queues.read()[0].quarantine) == 1


def test_a_blob_that_is_overwritten_during_its_run_gets_another_run(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path, rule="files")
    verdicts = iter(["changed", "done"])

    def verdict(job: Job) -> str:
        if not script.jobs[1:]:
            place.overwrite("day=1/a.parquet", b"other rows")
        return next(verdicts)

    script = Script(verdict)
    place.put("day=1/a.parquet")
    go(place.watcher(script), looks=3)
    assert [job.batch.blobs[0].etag for job in script.jobs][1] == place.data.stat("day=1/a.parquet").etag
    assert len(script.jobs) == 2
    assert place.book.queues.read()[0].entries == ()


def test_a_run_that_cannot_even_be_started_is_a_problem_and_no_attempt(tmp_path: Path) -> None:
    class Refusing(Script):
        def start(self, job: Job) -> Running:
            self.jobs.append(job)
            if len(self.jobs) < 5:
                raise UsageError("there is no such deployment")
            return super().start(job)

    place, script = Place.in_folder(tmp_path, attempts=2), Refusing()
    complete(place, 1)
    watcher = place.watcher(script)
    for _ in range(4):
        watcher.look()
        with pytest.raises(UsageError):
            watcher.advance()
    go(watcher)
    assert {job.attempt for job in script.jobs} == {1}
    queue = place.book.queues.read()[0]
    assert (queue.entries, queue.work, queue.quarantine) == ((), None, ())


def test_one_model_in_trouble_keeps_no_other_from_its_runs(tmp_path: Path) -> None:
    gone, well = Place.in_folder(tmp_path / "gone"), Place.in_folder(tmp_path / "well")
    complete(well, 1)
    (tmp_path / "gone/state/triggers/rides").mkdir(parents=True)
    (tmp_path / "gone/state/triggers/rides/queue.json").write_text("{")
    script = Script()
    said: list[str] = []
    rounds = [
        Round(place.watcher(script), lambda _, event, __: said.append(event), Hints(place.state, "rides"))
        for place in (gone, well)
    ]
    with pytest.raises(StateDamaged, match=r"queue\.json"):
        look_once(rounds)
    assert len(script.jobs) == 1
    assert PROBLEM in said


def test_a_queue_that_is_as_it_was_is_another_version(tmp_path: Path) -> None:
    """In a folder equal bytes are one version: a writer that slept through a whole batch must notice."""
    queues = Place.in_folder(tmp_path).book.queues
    entry = Entry("k", "day=1/", "2026-01-01T00:00:00+00:00")
    queues.change(lambda queue: queue.with_entries((entry,)))
    queues.change(lambda queue: replace(queue, entries=()))
    before, etag = queues.read()
    queues.change(lambda queue: queue.with_entries((entry,)))
    queues.change(lambda queue: replace(queue, entries=()))
    assert queues.read()[0].entries == before.entries
    assert not queues.write(before.with_entries((entry,)), etag)


# --- claims ---


def claims(place: Place, owner: str, lease_s: float = 60) -> StateClaims:
    return StateClaims(place.state, "claims/", owner, lease_s, retry_s=0)


def in_(seconds: float) -> Any:
    return lambda: datetime.now(UTC) + timedelta(seconds=seconds)


def test_one_of_two_gets_the_work(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    assert claims(place, "one").take("w", in_(0))
    assert claims(place, "two").take("w", in_(0)) is None


def test_work_of_a_silent_holder_is_taken_over_in_the_next_epoch(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    first = claims(place, "one").take("w", in_(0))
    assert claims(place, "two").take("w", in_(59)) is None
    second = claims(place, "two").take("w", in_(61))
    assert first
    assert second
    assert (second.owner, second.epoch) == ("two", first.epoch + 1)


def test_a_holder_that_says_that_it_is_alive_keeps_the_work(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    ours = claims(place, "one")
    claim = ours.take("w", in_(0))
    assert claim
    written = place.state.stat("claims/w.json").last_modified
    later = ours.write(claim)
    assert place.state.stat("claims/w.json").last_modified > written
    assert later.epoch == claim.epoch
    assert claims(place, "two").take("w", in_(59)) is None


@pytest.mark.parametrize("state", ["working", "failed", "free", "done"])
def test_a_holder_that_comes_back_can_write_nothing(tmp_path: Path, state: Any) -> None:
    place = Place.in_folder(tmp_path)
    revenant = claims(place, "one").take("w", in_(0))
    heir = claims(place, "two").take("w", in_(61))
    assert revenant
    assert heir
    with pytest.raises(ClaimLost):
        claims(place, "one").write(replace(revenant, state=state, outcome={"verdict": "done"}))
    assert claims(place, "three").look("w") == heir


def test_work_that_is_done_is_taken_by_nobody(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    ours = claims(place, "one")
    claim = ours.take("w", in_(0))
    assert claim
    ours.write(replace(claim, state="done"))
    assert claims(place, "two").take("w", in_(1e6)) is None


def test_work_that_was_given_back_is_taken_at_once(tmp_path: Path) -> None:
    place, slow = Place.in_folder(tmp_path), Slow()
    complete(place, 1)
    watcher = place.watcher(slow)
    watcher.look()
    watcher.advance()
    watcher.stop()
    heir = place.watcher(slow, owner="two")
    assert heir.advance()
    assert slow.stopped == 1
    assert [job.epoch for job in slow.jobs] == [1, 2]
    assert [job.attempt for job in slow.jobs] == [1, 1]


def taken_over(place: Place, slow: Slow) -> tuple[Watcher, Script]:
    """Return a watcher whose work another one has taken over, and done."""
    complete(place, 1)
    revenant = place.watcher(slow)
    revenant.look()
    revenant.advance()
    script = Script()
    heir = place.watcher(script, owner="two")
    while not script.jobs:
        go(heir)
    return revenant, script


def test_a_revenant_stops_its_run_and_its_outcome_counts_for_nothing(tmp_path: Path) -> None:
    place, slow = Place.in_folder(tmp_path, lease_s=0.2), Slow()
    revenant, script = taken_over(place, slow)
    kept = place.book.batch(script.jobs[0].batches[0])
    with pytest.raises(ClaimLost):
        revenant.advance()
    assert slow.stopped == 1
    assert place.book.batch(script.jobs[0].batches[0]) == kept
    assert not revenant.advance()


def test_the_outcome_of_a_revenant_is_refused(tmp_path: Path) -> None:
    place, slow = Place.in_folder(tmp_path, lease_s=0.2), Slow()
    revenant, script = taken_over(place, slow)
    slow.ended = Outcome("data", {"state": "Failed"})
    with pytest.raises(ClaimLost):
        revenant.advance()
    assert place.book.queues.read()[0].quarantine == ()
    claim = place.claims("x").look(script.jobs[0].key)
    assert isinstance(claim, Claim)
    assert (claim.owner, claim.epoch, claim.outcome) == ("two", 2, {"verdict": "done", "state": "Completed"})


# --- what people ask for ---


def test_a_released_batch_has_a_run_of_its_own(tmp_path: Path) -> None:
    bad = ["data", "done"]
    place, script = Place.in_folder(tmp_path), Script(lambda _: bad.pop(0))
    complete(place, 1)
    go(place.watcher(script))
    (one,) = place.book.queues.read()[0].quarantine
    assert release(place.book, one.key[:8]) == one
    go(place.watcher(script))
    assert len({job.key for job in script.jobs}) == 2
    queue = place.book.queues.read()[0]
    assert (queue.quarantine, queue.entries, queue.work) == ((), (), None)


def test_what_is_incomplete_is_taken_as_it_is_when_it_is_released(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path, incomplete_after_s=1e-6), Script()
    place.put("day=1/a.parquet")
    go(place.watcher(script), looks=3)
    release(place.book, "day=1/")
    go(place.watcher(script))
    assert script.names == [["day=1/a.parquet"]]
    assert place.book.queues.read()[0].quarantine == ()


def test_a_replay_uses_the_same_blobs_once_more(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path), Script()
    complete(place, 1)
    go(place.watcher(script))
    complete(place, 2)
    go(place.watcher(script))
    replay(place.book, script.jobs[0].batches[0])
    go(place.watcher(script))
    assert len({job.key for job in script.jobs}) == 3
    assert script.jobs[2].batch == script.jobs[0].batch


def test_a_backfill_has_one_run_for_each_prefix_up_to_it_oldest_first(tmp_path: Path) -> None:
    place, script = Place.in_folder(tmp_path), Script()
    complete(place, 1, 2, 3, 4)
    go(place.watcher(script))
    backfill(place.book, "day=2", "day=3")
    go(place.watcher(script))
    up_to = [["day=1/a.parquet", "day=2/a.parquet"], ["day=1/a.parquet", "day=2/a.parquet", "day=3/a.parquet"]]
    assert script.names[1:] == up_to


def test_a_rerun_that_fails_takes_no_blob_away_from_others(tmp_path: Path) -> None:
    verdicts = ["done", "data", "done"]
    place, script = Place.in_folder(tmp_path), Script(lambda _: verdicts.pop(0))
    complete(place, 1)
    go(place.watcher(script))
    replay(place.book, script.jobs[0].batches[0])
    go(place.watcher(script))
    complete(place, 2)
    go(place.watcher(script))
    assert script.names[2] == ["day=1/a.parquet", "day=2/a.parquet"]
