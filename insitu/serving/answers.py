"""What the server says: a status with JSON or text, and errors that name no value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_ENCODER = json.JSONEncoder(separators=(",", ":"))
JSON, TEXT = b"application/json", b"text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """What goes back: *body* becomes JSON unless it is bytes; *rows* were scored."""

    status: int
    body: Mapping[str, Any] | bytes
    rows: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> bytes:
        """The type of its content."""
        return TEXT if isinstance(self.body, bytes) else JSON

    def content(self) -> bytes:
        """Return its content."""
        return self.body if isinstance(self.body, bytes) else _ENCODER.encode(self.body).encode()


def refusal(status: int, code: str, message: str, **headers: str) -> Answer:
    """Return an error as every path answers it."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"error": {"code": code, "message": message}}, headers=told)


def in_words(answer: Answer) -> Answer:
    """Return *answer* with its error, if it is one, as the V2 protocol has it: one text."""
    error = answer.body.get("error") if isinstance(answer.body, Mapping) else None
    if not isinstance(error, Mapping):
        return answer
    column = f"{error['column']}: " if "column" in error else ""
    return replace(answer, body={"error": f"{column}{error['message']}"})
