"""What people read in Prefect about a run as a whole, as Markdown: what it is about to do, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from insitu.lineage import counted
from insitu.options import DEFAULT_SITE
from insitu.planning.exits import Exit
from insitu.reporting.cards import markdown_table


def plan_card(model: str, plan: Mapping[str, Any], exits: Sequence[Exit]) -> str:
    """Return what the run is about to do, and every way out of the site that it has."""
    told = plan["intention"]
    champion = f"v{told['champion']}" if told["champion"] else "none yet"
    deployed = ", ".join(f"{name} ({kind})" for name, kind in told["deployed_to"]) or "nowhere"
    facts = {
        "run": told["run_key"],
        "plan": plan["hash"],
        "champion that the challenger meets": champion,
        "data is checked by": told["checked_by"],
        "trained by": told["trained_by"],
        "a person is asked": told["approval"],
        "if promoted, published to": told["published_to"],
        "and deployed to": deployed,
    }
    return "\n".join(
        [
            f"# {model}: what this run is about to do",
            *(f"- **{name}**: {value}" for name, value in facts.items()),
            "",
            "What may leave the site:",
            "",
            markdown_table([_exit_row(one) for one in exits]),
        ]
    )


def headline(record: Mapping[str, Any]) -> str:
    """Return what came of a run in one line: what went wrong and what to do, or the outcome and the image."""
    if error := record["error"]:
        told = f"{error['code']} {error['what']}"
        return f"{told}; next: {error['next_action']}" if error["next_action"] else told
    publication = record["publication"]
    return _outcome(record) + (f", published as {publication['reference']}" if publication else "")


def end_card(record: Mapping[str, Any], mlflow: str | None) -> str:
    """Return what came of a run: error or reasons, image and how to run it, what left, and where to look further.

    Args:
        record: The run record.
        mlflow: Address of the MLflow UI; None where the site has none.
    """
    model, decision, error = record["model"], record["decision"] or {}, record["error"]
    return "\n".join(
        [
            f"# {model}: {error['code'] if error else _outcome(record)}",
            *(_error_lines(error) if error else [f"- {reason}" for reason in decision.get("reasons", ())]),
            *_image_lines(record),
            "",
            *_left_lines(record),
            "",
            *_look_lines(record, mlflow),
        ]
    )


def _outcome(record: Mapping[str, Any]) -> str:
    return str((record["decision"] or {}).get("outcome") or record["state"])


def _error_lines(error: Mapping[str, Any]) -> list[str]:
    told = {"what": error["what"], "found": error["found"], "wanted": error["wanted"], "next": error["next_action"]}
    return [
        *(f"- **{name}**: {' '.join(text.split())}" for name, text in told.items() if text),
        f"- **more**: `insitu explain {error['code']}`",
    ]


def _image_lines(record: Mapping[str, Any]) -> list[str]:
    image, publication = record["image"], record["publication"]
    if not (image and publication):
        return []
    model, site = record["model"], _site_words(record)
    name = f"{model}:{record['model_version']['version']}"
    reference = publication["reference"]
    is_layout = reference.startswith("oci:")
    run = f"docker run --rm --read-only -p 5001:5001 {name if is_layout else reference}"
    fetch = [f"skopeo copy {reference} docker-daemon:{name}   # from files to Docker"]
    return [
        "",
        f"## Image of version {record['model_version']['version']}",
        f"`{image['digest']}`, {image['size_bytes'] / 1e6:.1f} MB, answers by {image['runtime']}.",
        "",
        markdown_table([_layer_row(layer) for layer in image["layers"]]),
        "",
        "Ask it, or run it:",
        "",
        "```",
        f"insitu score {model}{site}",
        *(fetch if is_layout else [f"insitu verify {reference}"]),
        run,
        "```",
    ]


def _left_lines(record: Mapping[str, Any]) -> list[str]:
    left = record["egress"]
    if not left:
        return ["## What was handed over", "Nothing."]
    rows = [
        {"what": one["what"], "to": one["destination"], "bytes": f"{one['bytes']:,}", "why it might": one["clearance"]}
        for one in left
    ]
    total = sum(one["bytes"] for one in left)
    return ["## What was handed over", f"{counted(len(left), 'object')}, {total:,} bytes.", "", markdown_table(rows)]


def _look_lines(record: Mapping[str, Any], mlflow: str | None) -> list[str]:
    model, site, run = record["model"], _site_words(record), record["run_key"][:12]
    lines = [
        "## Where to look",
        f"- `insitu report {model} {run}{site}`: the Data Docs, on site: they hold values of the data",
        f"- `insitu show {model} {run}{site}`: lineage down to blobs and image",
    ]
    return [*lines, *([f"- [MLflow]({mlflow}): runs and versions"] if mlflow else [])]


def _exit_row(one: Exit) -> dict[str, str]:
    most = "as it is made" if one.most_bytes is None else f"at most {one.most_bytes:,} bytes"
    return {
        "what": one.what,
        "when": one.when,
        "size": most,
        "to": one.destination + (" (stays here)" if one.stays else ""),
        "holds": one.holds,
    }


def _layer_row(layer: Mapping[str, Any]) -> dict[str, str]:
    return {"layer": layer["title"], "MB": f"{layer['size_bytes'] / 1e6:.3f}", "digest": layer["digest"][:19]}


def _site_words(record: Mapping[str, Any]) -> str:
    return "" if record["site"] == DEFAULT_SITE else f" --site {record['site']}"
