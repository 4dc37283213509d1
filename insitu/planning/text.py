"""What `insitu plan` tells people, in the order in which a run would do it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape

from insitu.console import console
from insitu.doctor import RESTORE
from insitu.gate import PUBLISHED
from insitu.lineage import counted

Lines = Iterator[tuple[str, str]]
"""Label and text; a line without a label goes on with the one before."""


def print_plan(plan: Mapping[str, Any]) -> None:
    """Print what a run would do."""
    console.print(f"[bold]{plan['model']}[/] at {plan['site']}: {escape(_headline(plan))}")
    parts = (_checking, _training, _judging, _publishing, _taking, _leaving, _ready)
    for lines in (_lost, *(parts[:1] if plan["done"] else parts)):
        for label, text in lines(plan):
            console.print(f"  [dim]{label:<9}[/] {escape(text)}")
    console.print(f"  [dim]{'plan':<9}[/] {plan['plan_hash'] or 'none on record'}, run {plan['run_key'][:12]}")


def _headline(plan: Mapping[str, Any]) -> str:
    if plan["done"]:
        return "nothing to do, this batch is done"
    if plan["outcome"] in ("AwaitingApproval", "Expired"):
        return "a start would ask a person: the model is trained and judged"
    if plan["outcome"] in PUBLISHED:
        return "a start would publish: the model is trained and decided"
    return "a start would do this, in this order (nothing was done now)"


def _lost(plan: Mapping[str, Any]) -> Lines:
    if plan["unregistered"]:
        versions = ", ".join(f"v{version}" for version in plan["unregistered"])
        yield "WARNING", f"the model registry lacks what was published: {versions}"
        yield "", f"next: {RESTORE}"


def _checking(plan: Mapping[str, Any]) -> Lines:
    batch, checks = plan["batch"], plan["validation"]
    about = "about " if checks["looked_at"] < checks["blobs"] else ""
    rows = "as many rows as reading tells" if checks["rows"] is None else f"{about}{counted(checks['rows'], 'row')}"
    yield "data", f"{counted(batch['blobs'], 'blob')}, {_size(batch['bytes'])}, {rows}; {batch['new_blobs']:,} new"
    yield "check", f"{counted(checks['expectations'], 'expectation')} of suite {checks['suite']}"
    unread = checks["blobs"] - checks["known_blobs"]
    if unread:
        read = f"{about}{_size(checks['bytes_to_read'])}: {counted(checks['columns'], 'column')}"
        yield "", f"reads {read} of {counted(unread, 'blob')}"
    if checks["known_blobs"]:
        yield "", f"{counted(checks['known_blobs'], 'blob')} measured by earlier runs: not read again"
    for name in checks["second_pass"]:
        yield "", f"one more pass over the rows for {name}: Great Expectations' own engine judges it"
    for note in checks["notes"]:
        yield "", f"note: {note}"


def _training(plan: Mapping[str, Any]) -> Lines:
    batch, forecast = plan["batch"], plan["forecast"]
    kept = "newest blob is" if batch["holdout_blobs"] == 1 else f"{batch['holdout_blobs']:,} newest blobs are"
    yield "train", f"on {counted(batch['training_blobs'], 'blob')}; the {kept} kept aside to judge on"
    need = f"{counted(forecast['cores'], 'core')}, {_size(forecast['memory_bytes'])} memory"
    told = _basis(forecast) if forecast["earlier_runs"] else "no earlier run: what model.toml says below [needs]"
    yield "", f"needs {need}, {_size(forecast['disk_bytes'])} disk ({told})"
    if size := forecast["vm_size"]:
        yield "", f"a VM that would do: {size['name']} ({size['cores']} cores, {size['memory_gb']:g} GB)"
    else:
        yield "", "no usual VM size of a hub would do"


def _judging(plan: Mapping[str, Any]) -> Lines:
    champion = plan["champion"]
    none = "the model registry has no champion" if plan["unregistered"] else "there is no champion yet"
    yield "judge", f"against the champion, v{champion}" if champion else f"alone: {none}"
    if lost := plan["lost"]:
        yield "", f"which cannot be met: {lost['why']}; then the gate does: {lost['then']} (gate.unusable_champion)"
    if budget := plan["budget"]:
        told = f"comparison {budget['number']} of the {budget['comparisons']} that these rows allow"
        yield "", f"{told}: spent, so wait for fresh rows" if budget["spent"] else told
    if seen := plan["detectable_gain"]:
        than = "the champion's" + (f" {seen['over']:+.3g}" if seen["over"] else "")
        found = f"a {seen['metric']} better than {than} by {seen['gain']:.3g}"
        yield "", f"4 of 5 runs would find {found}, on {counted(seen['rows'], 'row')}"
    if plan["approval"] != "never":
        yield "", f"a person is asked: {plan['approval']} (gate.approval)"


def _publishing(plan: Mapping[str, Any]) -> Lines:
    image = plan["image"]
    here = " (a folder here: nothing is pushed)" if image["destination"].startswith("oci:") else ""
    yield "publish", f"if promoted: to {image['destination']}{here}"
    if image["as_of"] is None:
        yield "", "every layer is new: no earlier run has made an image"
    for layer in image["layers"]:
        unknown = "new" if layer["title"] == "model" else "the registry gives no answer"
        there = {True: "there already", False: "to be sent", None: unknown}[layer["there"]]
        yield "", f"layer {layer['title']}, {_size(layer['bytes'])} in the last image: {there}"
    for one in plan["deployment"]:
        yield "deploy", f"if it becomes champion: to {one['name']} ({one['kind']})"


def _taking(plan: Mapping[str, Any]) -> Lines:
    forecast = plan["forecast"]
    if not forecast["seconds"]:
        yield "takes", "nobody knows yet: there is no earlier run"
        return
    steps = ", ".join(f"{step} {seconds:,.0f} s" for step, seconds in forecast["seconds"].items() if seconds >= 1)
    yield "takes", f"at most {forecast['total_seconds']:,.0f} s or so ({_basis(forecast)})"
    if steps:
        yield "", steps


def _leaving(plan: Mapping[str, Any]) -> Lines:
    label = "leaves"
    for one in plan["leaves"]:
        if not one["stays"]:
            yield label, f"{one['what']} to {one['destination']}: {one['holds']}"
            yield "", f"  {_when(one)}; {_amount(one)}"
            label = ""
    if label:
        yield label, "nothing leaves this machine"
    here = [one for one in plan["leaves"] if one["stays"]]
    for place in dict.fromkeys(one["destination"] for one in here):
        named = ", ".join(f"{one['what']} ({_when(one)})" for one in here if one["destination"] == place)
        yield "", f"stays here, in {place}: {named}"


def _when(one: Mapping[str, Any]) -> str:
    return "always" if one["when"] == "always" else f"if {one['when']}"


def _amount(one: Mapping[str, Any]) -> str:
    most = "as large as it is made" if one["most_bytes"] is None else f"at most {_size(one['most_bytes'])}"
    return most + ("" if one["last_bytes"] is None else f", {_size(one['last_bytes'])} last time")


def _ready(plan: Mapping[str, Any]) -> Lines:
    failed = [check for check in plan["readiness"] if not check["ok"]]
    if not failed:
        yield "ready", f"yes: {counted(len(plan['readiness']), 'check')} hold (insitu doctor shows them)"
    for check in failed:
        yield "NOT READY", f"{check['name']}: {check['found']}; wanted {check['wanted']}"
        if check["next_action"]:
            yield "", f"next: {check['next_action']}"


def _basis(forecast: Mapping[str, Any]) -> str:
    runs = counted(forecast["earlier_runs"], "earlier run")
    return f"from {runs}, scaled by {forecast['scaled_by']}, {forecast['margin'] - 1:.0%} added"


def _size(size_bytes: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes:,.0f} bytes"
