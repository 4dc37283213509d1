"""Why a blob did what it did, or nothing: from the rule that it waits for to the verdict of its run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from insitu.errors import BlobNotFound, UsageError
from insitu.ports import BlobStore
from insitu.settings import ModelSettings
from insitu.triggers.book import Book
from insitu.triggers.claims import StateClaims
from insitu.triggers.queue import Queue
from insitu.triggers.rules import control_name, is_data, strangeness


def story(book: Book, store: BlobStore, name: str, records: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return what is known of a blob for one model, without changing anything.

    Args:
        book: What the site knows of the model's triggers.
        store: Where the blob lies, or lay.
        name: The blob's.
        records: Run records of the model, oldest first: a run by hand is in none of the watcher's books.

    Returns:
        `model`, `blob`, `prefix`, `now` (what lies there: `etag`, `size_bytes`, `last_modified`, or None), `says` (the
        answer in one sentence), `waits` (what its prefix waits for), `batches` (each: see `batch_story`),
        `runs` (those on this version of the blob, oldest first: `run_key`, `state`, `version`, `finished`, `error`,
        `next`: what to do then, `reasons`: those of the gate, `unmet`: the failed expectations with unexpected rows in
        this blob, and how many),
        `looked` (when by the state's clock, and who).
    """
    now, queue = _now(store, name), book.queues.read()[0]
    prefix = book.prefix(name)
    versions = book.ledger.under(prefix).get(name, [])
    batches = [{**batch_story(book, queue, key), "etag": etag} for etag, key in versions]
    waits = book.waiting().get(prefix)
    looked = book.last_look()
    told: dict[str, Any] = {
        "model": book.model.name,
        "blob": name,
        "prefix": prefix,
        "now": now,
        "rule": book.model.trigger.model_dump(
            mode="json", include={"rule", "depth", *_RULE_KEYS[book.model.trigger.rule]}
        ),
        "waits": {"for": waits["waits"], "since": waits["since"]} if waits else None,
        "batches": batches,
        "runs": [_run(record, name) for record in records if _holds(record, name, now)],
        "looked": {"owner": looked[0], "at": looked[1].isoformat()} if looked else None,
    }
    return {**told, "says": _answer(book, queue, told) + _own_rows(told["runs"])}


def _holds(record: Mapping[str, Any], name: str, now: Mapping[str, Any] | None) -> bool:
    blobs = record["batch"]["manifest"]["blobs"]
    return any(blob["name"] == name and (now is None or blob["etag"] == now["etag"]) for blob in blobs)


def _run(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    version, error = record["model_version"], record["error"]
    failures = (record.get("validation") or {}).get("failures", ())
    return {
        **{key: record[key] for key in ("run_key", "state", "finished")},
        "version": version["version"] if version else None,
        "error": f"{error['code']} {error['what']}" if error else None,
        "next": error["next_action"] if error else None,
        "reasons": (record["decision"] or {}).get("reasons", []),
        "unmet": [
            {"expectation": failure["expectation"], "columns": failure["columns"], "rows": blob["rows"]}
            for failure in failures
            for blob in failure.get("blobs", ())
            if blob["name"] == name
        ],
    }


def _own_rows(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return which rows of the blob were unexpected to the last run with it, as the end of a sentence."""
    unmet = runs[-1]["unmet"] if runs else ()
    told = [f"{one['expectation']}({', '.join(one['columns'])}) {one['rows']:,}" for one in unmet]
    return f"; unexpected rows in this blob: {', '.join(told)}" if told else ""


def seconds(when: str | None) -> str:
    """Return a time in ISO form without the part of a second, which nobody reads."""
    return datetime.fromisoformat(when).isoformat(timespec="seconds") if when else "nobody knows when"


_NAMED = 5
_RULE_KEYS = {"quiet": {"quiet_s"}, "files": {"files"}, "marker": {"marker", "quiet_s"}, "manifest": {"manifest"}}


def batch_story(book: Book, queue: Queue, key: str) -> dict[str, Any]:
    """Return what is known of a batch: `batch`, `prefix`, `found`, `why`, `blobs`, `state`, `reason`, `works`.

    The state is `waiting`, `working`, `quarantined` or `done`; a work has its claim: `owner`, `epoch`, `state`,
    `failures`, `outcome`.
    """
    kept = book.batch(key) or {}
    state, reason = _state(queue, key)
    works = list(kept.get("works", []))
    if queue.work and key in queue.work.batches:
        works.append(queue.work.key)
    return {
        "batch": key,
        "prefix": kept.get("prefix"),
        "found": kept.get("found"),
        "why": kept.get("why"),
        "blobs": len(kept.get("batch", {}).get("blobs", [])),
        "state": state,
        "reason": reason,
        "works": [_work(book, work) for work in dict.fromkeys(works)],
    }


def find_batch(book: Book, start: str) -> str:
    """Return the key of the batch that begins with *start*; raise `UsageError` when there is not exactly one."""
    keys = [key for key in book.batch_keys() if key.startswith(start)] if len(start) >= 6 else []
    if len(keys) == 1:
        return keys[0]
    raise UsageError(
        f"{book.model.name} has {len(keys) or 'no'} batches whose key begins with {start}",
        wanted="6 or more digits of one batch's key",
        next_action="ask for a blob of the batch: insitu why BLOB",
    )


def takers(models: list[ModelSettings], name: str) -> list[ModelSettings]:
    """Return the models that the blob is for, as data, marker or manifest."""
    return [model for model in models if _takes(model, name)]


def _takes(model: ModelSettings, name: str) -> bool:
    return fnmatchcase(name, model.data.blobs) or name.rpartition("/")[2] == control_name(model.trigger)


def _now(store: BlobStore, name: str) -> dict[str, Any] | None:
    try:
        blob = store.stat(name)
    except (BlobNotFound, UsageError):
        return None
    return {key: value for key, value in blob.to_json().items() if key in ("etag", "size_bytes", "last_modified")}


def _state(queue: Queue, key: str) -> tuple[str, str | None]:
    if found := queue.find(key):
        return "quarantined", found.reason
    if queue.work and key in queue.work.batches:
        return "working", None
    if any(entry.key == key for entry in queue.entries):
        return "waiting", None
    return "done", None


def _work(book: Book, key: str) -> dict[str, Any]:
    claims = StateClaims(book.state, f"{book.folder}claims/", "", 0, 0)
    claim = claims.look(key)
    told = asdict(claim) if claim else {"work": key, "state": "unclaimed"}
    return {part: value for part, value in told.items() if part not in ("etag", "beats")}


def _answer(book: Book, queue: Queue, told: dict[str, Any]) -> str:
    """Return the first thing that is true, from what keeps the blob out to what it became."""
    return next(_answers(book, queue, told))


def _answers(book: Book, queue: Queue, told: dict[str, Any]) -> Iterator[str]:
    name, now = told["blob"], told["now"]
    current = next((one for one in told["batches"] if now and one["etag"] == now["etag"]), None)
    if current:
        yield _became(current) + _held_back(queue, current)
    if control_name(book.model.trigger) == name.rpartition("/")[2]:
        where = told["prefix"] or "the container"
        yield f"it is the {book.model.trigger.rule} of {where}: it completes batches and is in none"
    if now is None:
        yield "there is no such blob" + (" any more" if told["batches"] else "")
    if problem := strangeness(name):
        yield f"it is set aside, because its name {problem}: rename it"
    if not is_data(name, book.model.data.blobs, book.model.trigger):
        yield f"it does not fit {book.model.data.blobs} (data.blobs in model.toml)"
    if told["runs"] and (told["looked"] is None or _is_news(told)):
        last = told["runs"][-1]
        error = f": {last['error']}" if last["error"] else ""
        yield f"no watcher has taken it up; the last run with it, {last['run_key'][:12]}, ended {last['state']}{error}"
    if told["looked"] is None:
        yield "nobody has looked yet: start `insitu watch`"
    if _is_news(told):
        when, who = seconds(told["looked"]["at"]), told["looked"]["owner"]
        yield f"nobody has looked since it came: the last look was {when} by {who}"
    stuck = [q for q in queue.quarantine if q.trouble == "incomplete" and q.prefix == told["prefix"]]
    if stuck:
        yield f"its prefix is in quarantine, because it is incomplete: it {stuck[0].reason}"
    if told["waits"]:
        yield f"its prefix is incomplete: it waits for {told['waits']['for']}, since {seconds(told['waits']['since'])}"
    rule, whole = book.model.trigger, book.last_whole_look()
    if rule.open_partitions and whole and datetime.fromisoformat(now["last_modified"]) > whole:
        when = f"{whole.isoformat(timespec='seconds')}, every {rule.whole_every_s:g} s and after events"
        yield f"it came into a prefix that is not open, and is found by the next look at all of them (the last: {when})"
    yield "it is new, and the next look takes it up"


def _is_news(told: dict[str, Any]) -> bool:
    came = datetime.fromisoformat(told["now"]["last_modified"])
    return not told["waits"] and came > datetime.fromisoformat(told["looked"]["at"])


def _became(batch: dict[str, Any]) -> str:
    name = f"batch {batch['batch'][:12]}"
    outcome = (batch["works"][-1].get("outcome") or {}) if batch["works"] else {}
    match batch["state"]:
        case "quarantined":
            return f"it is in {name}, which is in quarantine: {batch['reason']}"
        case "working":
            work = batch["works"][-1]
            return f"it is in {name}, whose run {_under_way(work)}"
        case "waiting":
            return f"it is in {name}, which waits for its run"
    run = f" (run {outcome['run_key'][:12]})" if outcome.get("run_key") else ""
    return f"it is in {name}, whose run ended {outcome.get('state', 'done')}{run}"


def _held_back(queue: Queue, batch: Mapping[str, Any]) -> str:
    """Return what else is in quarantine: no run has those blobs, so that a batch behind them may have a gap."""
    others = sorted({one.prefix for one in queue.quarantine if one.prefix} - {batch["prefix"]})
    if batch["state"] != "quarantined" or not others:
        return ""
    more = f" and {len(others) - _NAMED:,} more" if len(others) > _NAMED else ""
    return f"; in quarantine, too, and so in no run: {', '.join(others[:_NAMED])}{more}"


def _under_way(work: dict[str, Any]) -> str:
    if work["state"] == "working":
        return f"is under way at {work['owner']} (epoch {work['epoch']})"
    if work["state"] == "failed":
        return f"has failed {work['failures']} time(s) and is tried again"
    return "is about to begin"
