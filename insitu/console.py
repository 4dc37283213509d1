"""What people see in a terminal: outcomes, records, histories, answers."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from insitu.lineage import counted, drift_summary
from insitu.options import DEFAULT_SITE
from insitu.ports import Check

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 200  # a file or a pipe has no width: nothing is cut there

_MOST_COLUMNS = 8
_MOST_BLOBS = 20
_MOST_FAILURES = 5
_OF_ERRORS = {"found": "found", "wanted": "wanted", "next": "next_action"}
_COLOURS = {"promote": "green", "reject": "yellow", "inconclusive": "yellow"}


def print_outcome(record: Mapping[str, Any], news: bool) -> None:
    """Print what a run decided and why, where its results are, and what to type next."""
    if not news:
        console.print(
            f"[bold]nothing new[/]: batch {record['batch']['fingerprint'][:12]} of {record['model']} "
            f"({counted(record['batch']['blobs'], 'blob')}) was done at {record['finished']}"
        )
    if winner := record.get("winner"):
        where = f"process {winner['pid']} of {winner['host']}, since {winner['since']}"
        console.print(f"[bold]skipped[/]: this run is under way already ({where})")
    print_record(record)
    console.print("next:")
    commands = _next_commands(record)
    width = max(len(command) for command, _ in commands)
    for command, why in commands:
        console.print(f"  [bold]{command:<{width}}[/]  {why}")


def print_record(record: Mapping[str, Any]) -> None:
    """Print one run record."""
    console.print()
    decision = record["decision"]
    if decision:
        colour = _COLOURS[decision["verdict"]]
        outcome = decision.get("outcome")
        so = f", {outcome}" if outcome not in (None, "Promoted", "Rejected", "Inconclusive") else ""
        console.print(f"[bold]{record['model']}[/]: [bold {colour}]{decision['verdict'].upper()}[/]{so}")
        for reason in decision["reasons"]:
            console.print(f"  - {escape(reason)}")
    for label, value in _facts(record):
        console.print(f"  [dim]{label:<10}[/]{escape(value)}")


def print_blobs(record: Mapping[str, Any]) -> None:
    """Print the blobs that a run was pinned to: version, size and name of each, the newest last."""
    blobs = sorted(record["batch"]["manifest"]["blobs"], key=lambda blob: str(blob["last_modified"]))
    if len(blobs) > _MOST_BLOBS:
        console.print(f"  [dim]{counted(len(blobs) - _MOST_BLOBS, 'older blob')}: --json[/]")
    for blob in blobs[-_MOST_BLOBS:]:
        etag = blob["etag"].strip('"')[:12]
        version = escape(f"{etag:<14}{blob['size_bytes']:>14,} bytes  {blob['name']}")
        console.print(f"  [dim]{'blob':<10}[/]{version}")


def print_checks(site: str, checks: Sequence[Check]) -> None:
    """Print what was looked at; of what failed, what was wanted and what to do, too."""
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        mark = "[green]ok  [/]" if check.ok else "[bold red]FAIL[/]"
        console.print(f"{mark} {escape(check.name):<{width}}  {escape(check.found)}")
        for label, text in (("wanted", check.wanted), ("next", check.next_action)):
            if text and not check.ok:
                console.print(f"     {'':<{width}}  [dim]{label:<6}[/] {escape(text)}")
    failed = sum(not check.ok for check in checks)
    console.print(
        f"{site}: {failed} of {len(checks)} checks failed" if failed else f"{site}: all {len(checks)} checks hold"
    )


def print_history(model: str, site: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Print one line per run, newest last."""
    if not records:
        console.print(f"{model} has no runs yet; next: {program()} retrain {model}{_site_words(site)}")
        return
    table = Table(box=None, header_style="dim")
    for heading in ("finished", "run", "state", "decision", "version", "is now", "metrics", "batch", "image"):
        table.add_column(heading, no_wrap=heading not in ("metrics", "is now"))
    for record in records:
        table.add_row(*(escape(cell) for cell in _history_row(record)))
    console.print(table)
    failed = [record for record in records if record["error"]]
    for record in failed[-_MOST_FAILURES:]:
        why = f"{record['run_key'][:12]}  {record['error']['code']} {record['error']['what']}"
        console.print(f"  [dim]{escape(why)}[/]")
    if failed:
        console.print(f"  [dim]more of it: {program()} show {model} {failed[-1]['run_key'][:12]}{_site_words(site)}[/]")


def print_answer(request: Mapping[str, Any], answer: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Print a request of the `dataframe_split` form beside its predictions, named by *classes*; other forms as JSON."""
    split = request.get("dataframe_split") if isinstance(request, Mapping) else None
    if split is None:
        console.print_json(data=answer)
        return
    shown = len(split["columns"]) if len(split["columns"]) <= _MOST_COLUMNS else 0  # wider, nobody can read it
    table = Table(box=None, header_style="dim")
    for heading in ["row", *split["columns"][:shown], *(classes or ["prediction"])]:
        table.add_column(escape(str(heading)), justify="right")
    for number, (row, prediction) in enumerate(zip(split["data"], answer["predictions"], strict=True), start=1):
        told = map(_prediction, prediction) if classes else [_prediction(prediction)]
        table.add_row(str(number), *(escape(str(cell)) for cell in row[:shown]), *told)
    console.print(table)


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    batch, validation, training = record["batch"], record["validation"], record["training"]
    said = (record["decision"] or {}).get("approval")
    facts = [
        ("state", f"{record['state']} at {record['finished']}"),
        ("run", record["run_key"]),
        ("batch", f"{batch['fingerprint'][:12]}, {counted(batch['blobs'], 'blob')}, {batch['bytes'] / 1e6:.1f} MB"),
    ]
    if validation:
        held = validation["expectations"] - validation["failed"]
        facts.append(
            ("data", f"{held} of {validation['expectations']} expectations hold, {counted(validation['rows'], 'row')}")
        )
        if validation["drift"]:
            facts.append(("drift", drift_summary(validation["drift"])))
    if training:
        facts.append(("metrics", _metrics(training["metrics"]) + f" on {counted(training['rows'], 'holdout row')}"))
    if said:
        until = f", until {said['expires']}" if said["expires"] else ""
        facts.append(("decided", f"{said['kind']} by {said['who']} at {said['when']}{until}: {said['reason']}"))
        facts.append(("on record", f"{said['record']}, {said['digest']}"))
    if version := record["model_version"]:
        facts.append(("version", f"{version['name']} version {version['version']}"))
    if image := record["image"]:
        facts.append(("image", f"{image['digest']}, {image['size_bytes'] / 1e6:.1f} MB, answers by {image['runtime']}"))
        facts += _served(image)
        if saved := image.get("mlflow"):
            facts.append(("mlflow", f"model {saved.get('model_uuid')}, saved {saved.get('utc_time_created')} UTC"))
    if publication := record["publication"]:
        facts.append(("published", publication["reference"]))
    if pruned := record.get("pruned"):
        facts.append(("pruned", f"at {pruned}: image, files and journal are gone"))
    for one in record.get("deployment") or ():
        facts.append(("deployed", f"{one['name']} at {one['address']}"))
    if order := record.get("rollback"):
        gave_way = f"gave way to version {order['to']} at {order['when']}"
        facts.append(("rollback", f"{gave_way}, by {order['who']}: {order['reason']}"))
    if error := record["error"]:
        facts.append(("error", f"{error['code']} {error['what']}"))
        facts += [(label, error[key]) for label, key in _OF_ERRORS.items() if error[key]]
    facts.append(("took", ", ".join(f"{step} {seconds:.1f} s" for step, seconds in record["seconds"].items())))
    return facts


def _served(image: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return why the image answers as it does, and how it was tried; nothing of images from before that was kept."""
    facts = [("because", image["because"])] if image.get("because") else []
    if (smoke := image.get("smoke")) and not smoke["ended"]:
        network = "without a network" if smoke["network"] == "none" else "with this machine's network"
        most = f"at most {smoke['memory_limit_bytes'] / 1e6:,.0f} MB by {smoke['memory_limit_by']}"
        memory = f", {peak / 1e6:.0f} MB" if (peak := image["peak_memory_bytes"]) else ""
        facts.append(("tried", f"as {smoke['host']}, {network}, {most}: {image['latency_ms']:g} ms a row{memory}"))
    return facts


def _next_commands(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, insitu = record["model"], program()
    site = _site_words(record["site"])
    if record["publication"]:
        return [
            (f"{insitu} score {model}{site}", "asks the published image"),
            (f"{insitu} show {model} latest{site}", "what it was made of"),
            (f"{insitu} demo add-month{site}", "lets the next month arrive; then retrain again"),
        ][: 3 if model == "flights" else 2]
    if record["state"] == "Skipped":
        return [(f"{insitu} history {model}{site}", "how it ended, when it has")]
    if (record["decision"] or {}).get("outcome") == "AwaitingApproval":
        asked = f"{insitu} approve {model} {record['run_key'][:12]}{site} --name NAME --reason REASON"
        return [(asked, "lets it be published (--reject: not); then retrain again")]
    return [
        (f"{insitu} report {model}{site}", "both models in pictures, and the checks of the data; stays on site"),
        (f"{insitu} history {model}{site}", "earlier runs"),
        (f"models/{model}/model.toml", "holds the limits of the gate"),
    ]


def _site_words(site: str) -> str:
    return "" if site == DEFAULT_SITE else f" --site {site}"


def _history_row(record: Mapping[str, Any]) -> list[str]:
    decision, version, image = record["decision"], record["model_version"], record["image"]
    return [
        record["finished"].removesuffix("+00:00"),
        record["run_key"][:12],
        record["state"] + (f" {record['error']['code']}" if record["error"] else ""),
        (decision.get("outcome") or decision["verdict"]) if decision else "",
        version["version"] if version else "",
        ", ".join(record["marks"]),
        _metrics(record["training"]["metrics"]) if record["training"] else "",
        record["batch"]["fingerprint"][:12],
        image["digest"].removeprefix("sha256:")[:12] if image else "",
    ]


def program() -> str:
    """Return what to type for insitu here: its name where the shell finds it, else the path it was started by."""
    return "insitu" if shutil.which("insitu") else os.path.relpath(sys.argv[0])


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in metrics.items())


def _prediction(prediction: Any) -> str:
    if isinstance(prediction, list):
        return ", ".join(f"{p:.3f}" for p in prediction)
    if isinstance(prediction, float):
        return f"{prediction:.6g}" if abs(prediction) < 1e6 else f"{prediction:.0f}"
    return f"{prediction}"
