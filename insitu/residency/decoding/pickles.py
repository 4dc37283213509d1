"""Pickles and joblib's files, by their opcodes only: strings, bytes, numbers, and arrays whose shape is known.

A stack of what the opcodes say is kept, as a reader of the file would: a name stays a name and is never looked up.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from insitu.residency.decoding.arrays import floats, open_array
from insitu.residency.decoding.described import Called, Name, bytes_of, dtype_of, is_shape, put
from insitu.residency.decoding.opcodes import NoPickle, Opcodes
from insitu.residency.decoding.pieces import Budget, Piece, Unopened

_ALONE = 1024
"""From this length on a string or bytes are a piece of their own; shorter ones are joined."""
_AT_ONCE = 4 << 20
_MARK = object()
_FEW = 10
"""So many opcodes behind the mark of a protocol are no chance."""
_SHORT = 64
_MOST_REMEMBERED = 1 << 20


def is_pickle(data: memoryview) -> bool:
    """Tell whether *data* begins with opcodes: the first ones are read, and all where old protocols look like text."""
    head = bytes(data[:2])
    if not head or (head[0] == 0x80) != (head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return False
    if head[0] != 0x80 and not re.match(rb"[(\]})cCIJKLMFGNSTUVX]", head):
        return False
    try:
        for n, (name, _) in enumerate(Opcodes(data)):
            if name == "STOP":
                return head[0] == 0x80 or n > 1
            if n > _FEW and head[0] == 0x80:
                return True
    except ValueError:
        pass
    return False


def open_pickle(piece: Piece, budget: Budget) -> Iterator[Piece | Unopened]:
    """Yield what the pickles in *piece* carry; PyTorch's old files are several, one behind the other."""
    opcodes, number = Opcodes(piece.data), 0
    while opcodes.at < len(piece.data):
        rest = piece.data[opcodes.at :]
        if number and not is_pickle(rest):
            yield piece.child("rest", rest, seen=True)
            return
        yield from _Reader(piece, budget, opcodes, f"pickle{number or ''}").read()
        number += 1


@dataclass
class _Reader:
    """Reads one pickle; `found` is what was met since it was last looked at."""

    piece: Piece
    budget: Budget
    opcodes: Opcodes
    name: str
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    memoized: int = 0
    numbers: array[float] = field(default_factory=lambda: array("d"))
    texts: bytearray = field(default_factory=bytearray)
    short: bytearray = field(default_factory=bytearray)
    found: list[Iterator[Piece | Unopened]] = field(default_factory=list)
    pieces: int = 0

    def read(self) -> Iterator[Piece | Unopened]:
        """Yield all that the pickle carries, in its order but for numbers and short strings, which are joined."""
        try:
            for n, (name, value) in enumerate(self.opcodes):
                self._step(name, value)
                if self.found:
                    found, self.found = self.found, []
                    for one in found:
                        yield from one
                if not n % 65_536:
                    self.budget.check_time()
                if len(self.numbers) >= _AT_ONCE or len(self.texts) + len(self.short) >= _AT_ONCE:
                    yield from self._joined()
        except NoPickle as exc:
            self.opcodes.at = len(self.piece.data)
            yield Unopened(self.piece.inside(self.name), f"a pickle that is damaged: {exc}")
        yield from self._joined()

    def _joined(self) -> Iterator[Piece]:
        self.pieces += 1
        if self.numbers:
            name = f"{self.name}:numbers{self.pieces}"
            yield from floats(self.piece, self.budget, name, [np.frombuffer(self.numbers, dtype=np.float64)])
        if self.texts:
            yield self.piece.child(f"{self.name}:strings{self.pieces}", bytes(self.texts), "text")
        if self.short:
            yield self.piece.child(f"{self.name}:bytes{self.pieces}", bytes(self.short), plain=True)
        self.numbers, self.texts, self.short = array("d"), bytearray(), bytearray()

    def _new(self, what: str) -> str:
        self.pieces += 1
        return f"{self.name}:{what}{self.pieces}"

    def _step(self, name: str, value: Any) -> None:
        match name:
            case "MARK":
                self.stack.append(_MARK)
            case "TUPLE" | "LIST" | "DICT" | "POP_MARK" | "APPENDS" | "ADDITEMS" | "SETITEMS" | "FROZENSET" | "OBJ":
                self._marked(name)
            case "INST":
                self._pop_to_mark()
                self.stack.append(Called(Name(value), ()))
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [self._pop() for _ in range(int(name[-1]) if name[-1].isdigit() else 0)]
                self.stack.append(tuple(reversed(items)))
            case "EMPTY_DICT":
                self.stack.append({})
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._remember(self.memoized if name == "MEMOIZE" else value)
            case "GET" | "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo.get(value))
            case "POP" | "APPEND":
                self._pop()
            case "SETITEM":
                item = self._pop()
                put(self._pop(), item, self._top())
            case "BINPERSID":
                self._pop()
                self.stack.append(None)
            case "PROTO" | "FRAME" | "STOP" | "READONLY_BUFFER":
                pass
            case _:
                self._called(name, value)

    def _called(self, name: str, value: Any) -> None:
        match name:
            case "GLOBAL":
                self.stack.append(Name(value))
            case "STACK_GLOBAL":
                attribute, module = self._pop(), self._pop()
                self.stack.append(Name(f"{module} {attribute}"))
            case "REDUCE" | "NEWOBJ":
                arguments, of = self._pop(), self._pop()
                self.stack.append(Called(of, arguments))
                self._see_call(str(of.text) if isinstance(of, Name) else "", arguments)
            case "NEWOBJ_EX":
                _, arguments, of = self._pop(), self._pop(), self._pop()
                self.stack.append(Called(of, arguments))
            case "BUILD":
                state, built = self._pop(), self._top()
                if isinstance(built, Called):
                    built.state = state
                    self._see_state(built, state)
            case "DUP":
                self.stack.append(self._top())
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append({"NEWTRUE": True, "NEWFALSE": False}.get(name))
            case _:
                self.stack.append(value)
                self._see_value(value)

    def _remember(self, key: int) -> None:
        """Keep what the description of an array may refer to; the rows of a table may be millions."""
        self.memoized += 1
        top = self._top()
        small = isinstance(top, str | tuple) and len(top) <= _SHORT
        if (small or isinstance(top, Name | Called | dict | memoryview)) and len(self.memo) < _MOST_REMEMBERED:
            self.memo[key] = top
        else:
            self.memo.pop(key, None)

    def _pop(self) -> Any:
        return self.stack.pop() if self.stack else None

    def _top(self) -> Any:
        return self.stack[-1] if self.stack else None

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while self.stack and (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _marked(self, name: str) -> None:
        items = self._pop_to_mark()
        match name:
            case "TUPLE":
                self.stack.append(tuple(items))
            case "LIST" | "FROZENSET":
                self.stack.append(None)
            case "DICT" | "SETITEMS":
                if name == "DICT":
                    self.stack.append({})
                for key, item in zip(items[::2], items[1::2], strict=False):
                    put(key, item, self._top())
            case "OBJ":
                self.stack.append(Called(items[0] if items else None, tuple(items[1:])))

    def _see_value(self, value: Any) -> None:
        """Keep a number, a string or bytes."""
        if isinstance(value, memoryview):
            self._see_bytes("bytes", value, seen=True)
        elif isinstance(value, str):
            self._see_text(value)
        elif isinstance(value, int | float):
            try:
                self.numbers.append(value)
            except OverflowError:  # of more than 1,024 bits: its bytes lie in the pickle as they are
                return

    def _see_text(self, value: str) -> None:
        text = value.encode("utf-8", "surrogatepass")
        if len(value) < _ALONE:
            self.texts += text + b"\n"
        else:
            self._find(self.piece.child(self._new("string"), text, "text"))
        if not value.isascii():  # bytes in the text of old protocols
            try:
                held = value.encode("latin-1")
            except UnicodeEncodeError:
                return
            self._see_bytes("latin1", memoryview(held))

    def _see_bytes(self, name: str, value: memoryview, seen: bool = False) -> None:
        if len(value) < _ALONE:
            self.short += value
        else:
            self._find(self.piece.child(self._new(name), value, seen=seen))

    def _find(self, piece: Piece) -> None:
        self.found.append(iter([piece]))

    def _see_call(self, of: str, arguments: Any) -> None:
        """Meet numpy's numbers and the arrays of protocol 5."""
        if not isinstance(arguments, tuple) or not of.startswith(("numpy", "joblib")):
            return
        if of.endswith(" scalar") and len(arguments) == 2:
            dtype, held = dtype_of(arguments[0]), bytes_of(arguments[1])
            if dtype is not None and dtype.kind in "fiub" and len(held) == dtype.itemsize:
                self.numbers.append(float(np.frombuffer(held, dtype)[0]))
        elif of.endswith(" _frombuffer") and len(arguments) >= 4:
            self._array(arguments[0], arguments[1], arguments[2], arguments[3] == "F")

    def _see_state(self, built: Called, state: Any) -> None:
        """Meet the state of an array, and joblib's note that the bytes of one follow in the file."""
        if isinstance(state, tuple) and len(state) == 5 and isinstance(state[1], tuple):
            self._array(state[4], state[2], state[1], state[3] is True)
        elif isinstance(built.of, Name) and built.of.text.endswith(" NumpyArrayWrapper") and isinstance(state, dict):
            self._wrapped(state)

    def _array(self, data: Any, of: Any, shape: Any, fortran: bool) -> None:
        dtype, held = dtype_of(of), bytes_of(data)
        if dtype is None or not len(held) or not is_shape(shape):
            return
        inside = self.piece.child(self._new("array"), held, seen=True)
        self.found.append(_checked(inside, open_array(inside, self.budget, inside.data, dtype, shape, fortran)))

    def _wrapped(self, state: dict[str, Any]) -> None:
        """Take the bytes of an array out of joblib's file; one of objects is a pickle of its own."""
        dtype, shape = dtype_of(state.get("dtype")), state.get("shape", ())
        if not is_shape(shape):
            raise NoPickle("an array without a shape")
        if dtype is None or dtype.hasobject:
            inner = _Reader(self.piece, self.budget, self.opcodes, self._new("objects"))
            self.found.append(inner.read())
            return
        data, at = self.opcodes.data, self.opcodes.at
        if state.get("numpy_array_alignment_bytes") is not None:
            at += 1 + (data[at] if at < len(data) else 0)
        self.opcodes.at = at + math.prod(shape) * dtype.itemsize
        if self.opcodes.at > len(data):
            raise NoPickle("an array that is cut short")
        self._array(data[at : self.opcodes.at], state["dtype"], shape, state.get("order") == "F")


def _checked(inside: Piece, forms: Iterator[Piece]) -> Iterator[Piece | Unopened]:
    """Yield the forms of an array; one that cannot be is named, and the pickle read on."""
    try:
        yield from forms
    except (ValueError, TypeError) as exc:
        yield Unopened(inside.path, f"an array that cannot be: {type(exc).__name__}")
