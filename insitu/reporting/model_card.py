"""The model card: what a version was made of, how good it is, what it is not good for, and how to call it.

One card has two forms: Markdown, an artifact of the Prefect run, and a page of the site's report. It holds aggregates
only; of the data's values it names those of the slices that `[gate.slices]` asks for. What a record or a journal does
not have (a pruned run has no journal), the card leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from insitu.lineage import drift_summary, summarise
from insitu.options import DEFAULT_SITE
from insitu.pages import count, duration, moment, number, size
from insitu.reporting.cards import gate_table, markdown_table, slices_table
from insitu.reporting.pictures import kept_pictures
from insitu.reporting.records import Kept, kept_of, name_of, whole
from insitu.residency.statement import facts_of
from insitu.runs import Run
from insitu.settings import GateSettings
from insitu.training import told_of_export

_MOST_BLOBS = 20


@dataclass(frozen=True)
class Section:
    """A part of the card: lines, facts, a table and a command, as far as there are any."""

    title: str
    lines: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    code: str = ""


@dataclass(frozen=True)
class Card:
    """What is said of one run, published or not."""

    title: str
    verdict: str
    marks: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def markdown(self) -> str:
        """The card as Markdown, without pictures."""
        marks = f" ({', '.join(self.marks)})" if self.marks else ""
        parts = [f"# {self.title}: {self.verdict}{marks}"]
        for section in self.sections:
            parts += [f"## {section.title}", *_markdown(section)]
        return "\n\n".join(parts)


@dataclass(frozen=True)
class _Measured:
    metrics: Mapping[str, Mapping[str, float]]
    difference: Mapping[str, Any] | None
    slices: Sequence[Mapping[str, Any]]


def card_of(record: Mapping[str, Any], kept: Kept) -> Card:
    """Return the card of a run; its record may have `marks` (see `insitu.marks`)."""
    decision = record["decision"] or {}
    sections = (
        _decided(record),
        _metrics(record, kept.gate),
        _slices(record, kept.gate),
        _data(record, kept),
        _limits(record, kept.settings),
        _residency(record["residency"]) if record["training"] else None,
        _lineage(record),
        _calling(record, kept.sample),
    )
    verdict = decision.get("outcome") or decision.get("verdict") or record["state"]
    title = f"{record['model']} {name_of(record)}"
    return Card(title, verdict, tuple(record.get("marks", ())), tuple(one for one in sections if one))


def markdown_of(run: Run) -> str:
    """Return the card of a run that has just been judged as Markdown, with its pictures as data URIs."""
    record = whole(summarise(run, "Unfinished"))
    card = card_of(record, kept_of(run.site, record))
    return "\n\n".join([card.markdown, *(one.markdown for one in kept_pictures(run.site.state, record))])


def _decided(record: Mapping[str, Any]) -> Section | None:
    decision = record["decision"]
    if not decision:
        return None
    facts = [("verdict", decision["verdict"]), ("compared with", _champion(decision))]
    if said := decision["approval"]:
        until = f", until {said['expires']}" if said["expires"] else ""
        facts.append(
            ("decided by", f"{said['who']} ({said['kind']}) at {moment(said['when'])}{until}: {said['reason']}")
        )
    return Section("Verdict", tuple(decision["reasons"]), tuple(facts))


def _champion(decision: Mapping[str, Any]) -> str:
    return f"v{decision['champion']}, the champion then" if decision["champion"] else "nothing: it was the first"


def _metrics(record: Mapping[str, Any], gate: GateSettings | None) -> Section | None:
    training = record["training"]
    if not training:
        return None
    told = f"On {training['rows']:,} rows of the holdout, which training did not see"
    if gate is None:
        rows = tuple({"metric": name, "value": number(value)} for name, value in training["metrics"].items())
        return Section("Metrics", (f"{told}.",), rows=rows)
    both = "; challenger and champion on the same rows, the gain with its interval" if training["difference"] else ""
    return Section("Metrics", (f"{told}{both}.",), rows=tuple(gate_table(_measured(training), gate)))


def _measured(training: Mapping[str, Any]) -> _Measured:
    return _Measured(training["compared"], training["difference"], training["slices"] or ())


def _slices(record: Mapping[str, Any], gate: GateSettings | None) -> Section | None:
    training = record["training"]
    if not gate or not training or not training["slices"]:
        return None
    return Section("Slices", rows=tuple(slices_table(_measured(training), gate)))


def _data(record: Mapping[str, Any], kept: Kept) -> Section:
    batch, validation = record["batch"], record["validation"]
    target, data = ((kept.settings or {}).get(key, {}) for key in ("target", "data"))
    facts = [("batch", f"{batch['blobs']:,} blobs, {size(batch['bytes'])}")]
    if target:
        facts.append(("predicts", f"{_label(target)} ({target.get('task')})"))
    if data.get("holdout_blobs"):
        facts.append(("holdout", _latest(data["holdout_blobs"])))
    if not validation:
        return Section("Data", facts=tuple(facts))
    held = validation["expectations"] - validation["failed"]
    facts += [
        ("rows", count(validation["rows"])),
        ("checks", f"{held} of {validation['expectations']} expectations of suite {validation['suite']} hold"),
    ]
    if validation["drift"]:
        facts.append(("drift", drift_summary(validation["drift"])))
    rows = tuple(_columns(validation, kept.profile))
    return Section("Data", tuple(validation["notes"]), tuple(facts), rows)


def _label(target: Mapping[str, Any]) -> str:
    """Return what is predicted; which class `label_is` names is a value of the data, so it is not said."""
    column, above = target.get("label_column"), target.get("label_above")
    if target.get("label_is") is not None:
        return f"one class of {column}"
    if target.get("classes"):
        return f"{column}, one of {len(target['classes'])} classes"
    return f"{column}" if above is None else f"{column} above {above:g}"


def _columns(validation: Mapping[str, Any], profile: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield what is known of each column, in the suite's order; no value of it."""
    outcomes: dict[str, list[Mapping[str, Any]]] = {}
    for outcome in validation["outcomes"]:
        for column in outcome["columns"]:
            outcomes.setdefault(column, []).append(outcome)
    known, drifted = (profile or {}).get("columns", {}), (validation["drift"] or {}).get("columns", {})
    for column, found in outcomes.items():
        seen, moved = known.get(column, {}), drifted.get(column, {})
        nulls = next((one for one in found if one["expectation"] == "expect_column_values_to_not_be_null"), {})
        missing = _share(nulls.get("unexpected_count"), nulls.get("rows"))
        if not missing and profile and seen.get("filled") is not None:
            missing = _share(profile["rows"] - seen["filled"], profile["rows"])
        yield {
            "column": column,
            "kind": _kind(seen),
            "missing": missing,
            "checks": f"{sum(bool(one['success']) for one in found)} of {len(found)} hold",
            "drift (psi)": number(moved.get("psi")),
        }


def _kind(seen: Mapping[str, Any]) -> str:
    """Return whether a column holds numbers or how many different words; nothing where nobody looked."""
    many = len(seen.get("categories") or ())
    return f"{many:,} categories" if many > 1 else "1 category" if many else "numbers" if seen else ""


def _latest(blobs: int) -> str:
    return "the latest blob" if blobs == 1 else f"the latest {blobs} blobs"


def _share(part: int | None, whole: int | None) -> str:
    return "" if part is None or not whole else f"{part / whole:.2%}"


def _limits(record: Mapping[str, Any], settings: Mapping[str, Any] | None) -> Section:
    return Section("Limits", tuple(_not_for(record, settings or {})))


def _not_for(record: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    training, image = record["training"] or {}, record["image"]
    if holdout := settings.get("data", {}).get("holdout_blobs"):
        yield f"It was judged on {_latest(holdout)} alone: how it does at other times and places is not known."
    if training and not training["slices"]:
        yield "No slice of the data was judged by itself: on a part of the rows it may do worse."
    elif training:
        yield "Slices that are not told of were too small to be judged."
    if training.get("lost"):
        yield f"It was not compared with the champion: {training['lost']}."
    if (overlap := training.get("overlap")) and overlap["found"]:
        yield f"{overlap['found']:,} of {overlap['rows']:,} rows of the holdout are in the training part, too."
    if training.get("score_psi") is not None:
        yield f"How far its answers are from the champion's (psi): {training['score_psi']:g}."
    if training:
        yield f"ONNX: {told_of_export(training['onnx'])}."
    if image:
        memory = f", {size(image['peak_memory_bytes'])} of memory" if image["peak_memory_bytes"] else ""
        yield f"Tried with one row at a time: {image['latency_ms']:g} ms{memory}; not under load."


def _residency(found: Mapping[str, Any] | None) -> Section:
    facts = list(facts_of(found).items())
    if found:
        looked = f"for {found['rows_looked_for']:,} of {found['rows']:,} rows" if "rows_looked_for" in found else ""
        facts.append(("searched", f"{size(found['bytes_scanned'])} {looked}".rstrip()))
    lines = tuple(f"Not searched: {part['path']}." for part in (found or {}).get("unopened") or ())
    return Section("No record in the model", lines, tuple(facts))


def _lineage(record: Mapping[str, Any]) -> Section:
    image, publication, version = record["image"] or {}, record["publication"], record["model_version"]
    facts = [
        ("site", record["site"]),
        ("finished", moment(record["finished"])),
        ("run", record["run_key"]),
        ("batch", record["batch"]["fingerprint"]),
        ("code", record["code"]),
        ("revision", image.get("revision") or ""),
        ("image", f"{image['digest']}, {size(image['size_bytes'])}, answers by {image['runtime']}" if image else ""),
        ("published as", publication["reference"] if publication else ""),
        ("model", version["uri"] if version else ""),
        ("took", ", ".join(f"{step} {duration(seconds)}" for step, seconds in record["seconds"].items())),
    ]
    blobs = sorted(record["batch"]["manifest"]["blobs"], key=lambda blob: str(blob["last_modified"]))
    rows = (
        {"blob": one["name"], "etag": one["etag"].strip('"')[:16], "size": size(one["size_bytes"])} for one in blobs
    )
    older = len(blobs) - _MOST_BLOBS
    lines = (f"{older:,} older blobs are in the run record.",) if older > 0 else ()
    return Section("Lineage", lines, tuple(fact for fact in facts if fact[1]), tuple(rows)[-_MOST_BLOBS:])


def _calling(record: Mapping[str, Any], sample: Mapping[str, Any] | None) -> Section | None:
    """Return what to type; the request has the right columns where they are known, and no value of the data."""
    publication = record["publication"]
    if not publication or record.get("pruned"):
        return None
    site = "" if record["site"] == DEFAULT_SITE else f" --site {record['site']}"
    body = json.dumps(sample or {"dataframe_split": {"columns": ["..."], "data": [["..."]]}}, ensure_ascii=False)
    quoted = body.replace("'", "'\\''")
    asked = f"insitu score {record['model']} --version {record['model_version']['version']}{site} --file request.json"
    code = [f"echo '{quoted}' > request.json", asked]
    if not (reference := publication["reference"]).startswith("oci:"):
        code += [
            "",
            f"docker run --rm --read-only -p 5001:5001 {reference.partition('@')[0]}@{publication['digest']}",
            "curl -s http://127.0.0.1:5001/score -H 'Content-Type: application/json' -d @request.json",
        ]
    lines = ("The values of the request stand for yours. The server answers one prediction a row.",)
    return Section("How to call it", lines, code="\n".join(code))


def _markdown(section: Section) -> Iterator[str]:
    if section.lines:
        yield "\n".join(f"- {line}" for line in section.lines)
    if section.facts:
        yield "\n".join(f"- **{label}**: {value}" for label, value in section.facts)
    if section.rows:
        yield markdown_table(section.rows)
    if section.code:
        yield f"```\n{section.code}\n```"
