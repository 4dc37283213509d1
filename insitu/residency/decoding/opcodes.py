"""Reads the opcodes of a pickle and what they carry; nothing is looked up, called or built."""

from __future__ import annotations

import codecs
import pickletools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_BY_CODE = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_SIZE_BYTES = {-2: 1, -3: 4, -4: 4, -5: 8}
"""pickletools' ways to say how long an argument is: by a number before it."""
_LINE = -1
_LONGEST_LINE = 64 << 20
_NAMES_ON_TWO_LINES = ("GLOBAL", "INST")
_STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_LATIN = ("STRING", "BINSTRING", "SHORT_BINSTRING")
_FIXED = {"uint1": "<B", "uint2": "<H", "int4": "<i", "uint4": "<I", "uint8": "<Q", "float8": ">d"}

Value = int | float | str | bool | memoryview | None


class NoPickle(ValueError):
    """Bytes that are no opcodes."""


@dataclass
class Opcodes:
    """Yields the name and the argument of each opcode from *at* on; a reader may move `at` over what is none."""

    data: memoryview
    at: int = 0

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        while True:
            opcode = _BY_CODE.get(bytes(self._take(1)))
            if opcode is None:
                raise NoPickle("an unknown opcode")
            yield opcode.name, self._argument(opcode.name, opcode.arg)
            if opcode.name == "STOP":
                return

    def _take(self, size: int) -> memoryview:
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            raise NoPickle("it is cut short")
        self.at += size
        return taken

    def _argument(self, name: str, arg: pickletools.ArgumentDescriptor | None) -> Value:
        if arg is None:
            return None
        if arg.n == _LINE:
            return self._line_value(name)
        if arg.n in _SIZE_BYTES:
            return _sized(name, self._take(int.from_bytes(self._take(_SIZE_BYTES[arg.n]), "little")))
        value: int | float = struct.unpack(_FIXED[arg.name], self._take(arg.n))[0]
        return value

    def _line(self) -> bytes:
        size = 256
        while True:
            held = bytes(self.data[self.at : self.at + size])
            end = held.find(b"\n")
            if end >= 0:
                self.at += end + 1
                return held[:end]
            if len(held) < size or size > _LONGEST_LINE:
                raise NoPickle("a line without an end")
            size *= 4

    def _line_value(self, name: str) -> Value:
        line = self._line()
        match name:
            case "INT" | "LONG":
                return {b"00": False, b"01": True}.get(line, int(line.rstrip(b"L") or b"0"))
            case "FLOAT":
                return float(line)
            case "STRING":
                return codecs.escape_decode(line.strip()[1:-1])[0].decode("latin-1")
            case "UNICODE":
                return codecs.decode(line, "raw-unicode-escape")
            case "GET" | "PUT":
                return int(line)
        if name in _NAMES_ON_TWO_LINES:
            line += b" " + self._line()
        return line.decode("utf-8", "replace")


def _sized(name: str, held: memoryview) -> Value:
    if name in _STRINGS:
        return bytes(held).decode("utf-8", "surrogatepass")
    if name in _LATIN:
        return bytes(held).decode("latin-1")
    if name.startswith("LONG"):
        return int.from_bytes(held, "little", signed=True)
    return held
