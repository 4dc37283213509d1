"""Data Docs: Great Expectations' words for a kept result, on one HTML page that asks nobody for anything.

Beside `judge` the only module that knows Great Expectations. Its renderer says what an expectation
wants and what was observed; the page around that is ours (`pages/`), since the one of Great
Expectations loads styles and scripts from ten other sites and writes values into HTML as they are.
"""

from __future__ import annotations

import html
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # before the import below, which reads it

from great_expectations import __version__ as gx_version
from great_expectations.core.expectation_validation_result import ExpectationValidationResultSchema
from great_expectations.render.renderer.content_block.validation_results_table_content_block import (
    ValidationResultsTableContentBlockRenderer,
)
from great_expectations.render.util import parse_row_condition_string
from great_expectations.render.view.view import DefaultJinjaPageView
from jinja2 import FileSystemLoader

from insitu.errors import StateDamaged
from insitu.pages import TEMPLATES

_PAGES = Path(__file__).parent / "pages"
_OF_TABLE = "Whole table"
_OF_CONDITION = ("row_condition", "condition_parser")
_MARKUP = "<>&\"'$"
_FIRST_STAND_IN = 0xFDD0  # the first of the code points that Unicode keeps free for use inside a program
_STAND_INS = {ord(sign): chr(_FIRST_STAND_IN + number) for number, sign in enumerate(_MARKUP)}
_STAND_IN = re.compile(r"[\ufdd0-\ufdd5]|\\ufdd[0-5]")  # the second form is how repr() and JSON write the first


def page(
    full: Mapping[str, Any],
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
    pictures: Sequence[tuple[str, str]] = (),
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """Return the page: what failed first, then every expectation with what was observed.

    It holds values of the data. No part of it is loaded from elsewhere, and it runs no script.

    Args:
        full: The result of a suite as JSON values, as `Report.full` holds it.
        title: What was checked.
        facts: Labels and values for the head of the page.
        notes: What the reader should know about how it was checked.
        pictures: What the gate saw of the model, each with its title, as data URIs.
        links: Names and addresses of pages beside this one.

    Raises:
        StateDamaged: *full* is no result of a suite.
    """
    try:
        with _quiet():
            rows = [_row(number, result) for number, result in enumerate(full["results"], start=1)]
            about = {"title": title, "facts": facts, "notes": notes, "pictures": pictures, "links": links}
            drawn = _draw(rows, suite=full["suite_name"], **about)
    except Exception as exc:  # noqa: BLE001  # whatever it is, its text may quote a value
        raise StateDamaged(
            f"the kept report of {title} cannot be drawn",
            found=type(exc).__name__,
            wanted="the JSON values of a Great Expectations suite result",
            next_action="choose another run: this file was changed, or another version of insitu wrote it",
        ) from None
    return _STAND_IN.sub(_entity, drawn)


def _draw(rows: Sequence[Mapping[str, Any]], **about: Any) -> str:
    environment: Any = DefaultJinjaPageView(custom_views_directory=str(_PAGES)).env
    loaders = environment.loader.loaders
    loaders[:] = [loaders.pop(), FileSystemLoader(TEMPLATES), *loaders]  # ours before those of the same name
    failed = [row for row in rows if not row["met"]]
    drawn = {"failed": failed, "total": len(rows), "sections": _sections(rows), "gx_version": gx_version, **about}
    return str(environment.get_template("page.html").render(drawn))


def _sections(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows by column, in the suite's order; columns with failures first, and failures first in each."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["met"]):
        groups.setdefault(row["column"], []).append(row)
    return [
        {"name": name, "rows": group, "failed": sum(not row["met"] for row in group)} for name, group in groups.items()
    ]


def _row(number: int, result: Mapping[str, Any]) -> dict[str, Any]:
    config = result["expectation_config"]
    kwargs = config["kwargs"]
    expectation, observed = _sayings(_without_markup(result))
    return {
        "id": f"expectation-{number}",
        "met": bool(result["success"]),
        "kind": config["type"],
        "column": str(kwargs.get("column", _OF_TABLE)),
        "columns": _columns(kwargs),
        "condition": parse_row_condition_string(kwargs["row_condition"]) if kwargs.get("row_condition") else "",
        "error": _error(result.get("exception_info") or {}),
        "expectation": expectation,
        "observed": observed,
        "notes": _notes(config),
    }


def _sayings(result: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return GX's content for what was expected and for what was observed."""
    config = result["expectation_config"]
    kwargs = {name: value for name, value in config["kwargs"].items() if name not in _OF_CONDITION}
    calm = {  # what was raised is told by our page: GX would want a traceback
        **result,
        "expectation_config": {**config, "kwargs": kwargs},
        "result": result.get("result") or {},
        "exception_info": {"raised_exception": False, "exception_message": None, "exception_traceback": None},
    }
    try:
        loaded = ExpectationValidationResultSchema().load(calm)
        block: Any = ValidationResultsTableContentBlockRenderer.render([loaded], include_column_name=False)
        _, expectation, observed, *_ = block.to_json_dict()["table"][0]
    except Exception:  # noqa: BLE001  # GX has no words for it, such as for a type that it does not know: drift
        return _plain_sayings(config["type"], kwargs, calm["result"])
    return expectation, observed


def _plain_sayings(kind: str, kwargs: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, str]:
    arguments = ", ".join(f"{name} = {value}" for name, value in kwargs.items() if name != "column")
    observed = found.get("observed_value", "--")
    words = kind.removeprefix("expect_").replace("_", " ")
    return f"{words}: {arguments}", f"{observed:.4g}" if isinstance(observed, float) else str(observed)


def _columns(kwargs: Mapping[str, Any]) -> str:
    single = [kwargs[key] for key in ("column", "column_A", "column_B") if kwargs.get(key)]
    return ", ".join(map(str, single or kwargs.get("column_list") or kwargs.get("column_set") or ()))


def _error(info: Mapping[str, Any]) -> str:
    """Return what was raised; GX keeps it flat, or one for each metric."""
    raised = [info] if "raised_exception" in info else [one for one in info.values() if isinstance(one, Mapping)]
    return next((str(one.get("exception_message")) for one in raised if one.get("raised_exception")), "")


def _notes(config: Mapping[str, Any]) -> str:
    notes = config.get("notes") or (config.get("meta") or {}).get("notes") or ""
    if isinstance(notes, Mapping):
        notes = notes.get("content") or ""
    return notes if isinstance(notes, str) else "\n".join(map(str, notes))


def _without_markup(value: Any) -> Any:
    """Return JSON values in which stand-ins are in the place of what means something to HTML or to GX's templates."""
    if isinstance(value, str):
        return value.translate(_STAND_INS)
    if isinstance(value, Mapping):
        return {_without_markup(key): _without_markup(item) for key, item in value.items()}
    return [_without_markup(item) for item in value] if isinstance(value, list | tuple) else value


def _entity(stand_in: re.Match[str]) -> str:
    number = int(stand_in[0][-1]) if stand_in[0][0] == "\\" else ord(stand_in[0]) - _FIRST_STAND_IN
    return html.escape(_MARKUP[number])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep GX from logging what its renderers raise: that quotes values."""
    log = logging.getLogger("great_expectations.render")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
