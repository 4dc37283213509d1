"""The code blocks of the documentation, with what is said about running them."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"^(?:[ \t]*<!-- (?P<mark>[^\n]*) -->\n)?"
    r"(?P<indent>[ \t]*)```(?P<language>\S*)\n(?P<text>.*?)^(?P=indent)```[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_OPERATORS = re.compile(r"[;|&<>()]+$")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        place: File and line, for people.
        language: What stands behind the fence; empty for what is only shown.
        mark: The comment on the line before it: "run", "run: exit 0 or 3", "not run: REASON", or nothing.
    """

    page: str
    place: str
    language: str
    mark: str
    text: str

    @property
    def exit_codes(self) -> set[int] | None:
        """With which codes it may end; None when it is not to be run."""
        if not (found := re.fullmatch(r"run(?:: exit (\d+)(?: or (\d+))?)?", self.mark)):
            return None
        return {int(code) for code in found.groups() if code} or {0}

    def commands(self) -> Iterator[list[str]]:
        """Yield the commands of a shell block, word by word, without variables in front, redirections and comments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in (*_words(line), ";"):
                if not _OPERATORS.match(word):
                    words.append(word)
                    continue
                while words and re.match(r"\w+=", words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:  # a quotation over several lines is no command of ours
        return []


def pages() -> list[Path]:
    """Return README and documentation, in the order in which they are read: what a page runs, later ones find done."""
    docs = sorted((REPO / "docs").glob("*.md"), key=lambda path: (path.stem != "tutorial", path.stem))
    return [*docs[:1], REPO / "README.md", *docs[1:]]


def blocks() -> list[Block]:
    """Return all blocks of all pages."""
    found = []
    for path in pages():
        text, page = path.read_text(), path.relative_to(REPO).as_posix()
        for one in _BLOCK.finditer(text):
            line = text.count("\n", 0, one.start("language")) + 1
            content = textwrap.dedent(one["text"])
            found.append(Block(page, f"{page}:{line}", one["language"], one["mark"] or "", content))
    return found
