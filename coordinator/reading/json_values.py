"""Split a JSON array, or objects that follow one another, into the bytes of each value: by blocks, in bounded memory.

Only brackets, strings and commas are scanned. Each value is parsed by itself, so that an error in one does not affect the
others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import orjson

from ...protocol.source.json_head import BOM, STRING
from .line_reader import OversizedLine, PartialLine
from .records import Raw
from .running_digest import RunningDigest

BLOCK_BYTES = 256 << 10
_BETWEEN = re.compile(rb'(?:[^"{}\[\],]++|' + STRING + rb")*+", re.DOTALL)
"""Up to the end of a value of the array, or the beginning of a nested one."""
_INSIDE = re.compile(rb'(?:[^"{}\[\]]++|' + STRING + rb")*+", re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SCALAR = re.compile(STRING + rb"|-?[0-9][0-9.eE+-]*+|true|false|null|NaN|-?Infinity", re.DOTALL)
_LIKELY_END = re.compile(rb"\}[ \t\r\n]*+,(?=[ \t\r\n]*+\{)")
_MOST_MISSES = 16
_CLOSES = {ord("}"): ord("{"), ord("]"): ord("[")}


Value = tuple[int, bytes | OversizedLine | Raw]


class JsonValues:
    """Iterates over blocks of (number from 1, value). A value is its bytes, or the object if it was parsed to find its end.
    Values up to `skip` are only counted.

    With `array`, the values of an array; otherwise whole objects, one after the other. Afterwards `fault` is the reason why
    the file could not be read to its end (empty: it could), and `number` counts the values before that. `read` is as for
    LineReader.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        *,
        array: bool,
        digest: RunningDigest | None = None,
        skip: int = 0,
        block_bytes: int = BLOCK_BYTES,
        max_value_bytes: int,
    ) -> None:
        self.number = 0
        self.fault = ""
        self._read, self._array, self._digest, self._skip = read, array, digest, skip
        self._block_bytes = block_bytes
        self._partial = PartialLine(max_value_bytes)
        self._stack = bytearray()
        """The open brackets of the value."""
        self._begun = not array
        """Whether the array has been opened, and not closed."""
        self._after_comma = False
        self._in_string = self._escaped = False
        self._misses = 0
        """How many more guessed ends were wrong than right."""
        self._given: list[Value] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[list[Value]]:
        first = True
        while not self.fault and (block := self._read(self._block_bytes)):
            while first and len(block) < len(BOM) and (more := self._read(len(BOM))):
                block += more
            before = self.number
            self._given, self._ends = [], []
            start = len(BOM) if first and block.startswith(BOM) else 0
            first = False
            self._scan(block, start)
            if self._digest is not None:
                self._digest.add(block, before + 1, len(self._ends), self._ends)
            yield self._given
        if not self.fault:
            self._end()

    def _scan(self, block: bytes, start: int) -> None:
        """Take the values that end in the block, and the beginning of the next one."""
        at = begin = start
        while at < len(block) and not self.fault:
            if self._in_string:
                at = self._leave_string(block, at)
                continue
            if not self._begun:
                at = begin = self._open(block, at)
                continue
            if at == begin and self._array and not self._partial.n_bytes and (end := self._whole_object(block, at)):
                at = begin = end
                continue
            pattern = _INSIDE if self._stack or not self._array else _BETWEEN
            found = pattern.match(block, at)
            at = found.end() if found is not None else at
            if at == len(block):
                break
            at += 1
            begin = self._take_sign(block, begin, at)
        if not self.fault and self._begun:
            self._partial.add(block[begin:])

    def _take_sign(self, block: bytes, begin: int, at: int) -> int:
        """Take the bracket, comma or quotation mark before `at`. Return where in the block the current value begins."""
        sign = block[at - 1]
        if sign == 0x22:  # a string that does not end in this block
            self._in_string = True
        elif sign in b"{[":
            self._stack.append(sign)
        elif sign == 0x2C:
            self._value(block, begin, at - 1, at)
            self._after_comma, begin = True, at
        elif self._stack:
            begin = self._close_bracket(block, begin, at)
        elif sign == 0x5D and self._array:
            self._close(block, begin, at)
            begin = at
        else:
            self.fault = f"{chr(sign)!r} closes no open bracket"
        return begin

    def _close_bracket(self, block: bytes, begin: int, at: int) -> int:
        """Take a closing bracket inside the current value or around it. Return where the current value begins."""
        sign = block[at - 1]
        if self._stack.pop() != _CLOSES[sign]:
            self.fault = f"{chr(sign)!r} closes a bracket of the other kind"
        elif not self._stack and not self._array:
            self._value(block, begin, at, at)
            return at
        return begin

    def _whole_object(self, block: bytes, at: int) -> int:
        """Guess the end of the object that begins here, and take it if it parses. Return where the next value begins, or 0.

        A part of an object never parses, so an object that parses is whole. This is several times as fast as scanning.
        """
        if self._misses >= _MOST_MISSES or (likely := _LIKELY_END.search(block, at)) is None:
            return 0
        try:
            value = orjson.loads(memoryview(block)[at : likely.start() + 1])
        except ValueError:
            value = None
        if not isinstance(value, dict):
            self._misses += 1
            return 0
        self._misses = max(0, self._misses - 1)
        self.number += 1
        self._ends.append(likely.end())
        if self.number > self._skip:
            self._given.append((self.number, value))
        self._after_comma = True
        return likely.end()

    def _leave_string(self, block: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            return at + 1
        found = _REST_OF_STRING.match(block, at)
        at = found.end() if found is not None else at
        if at < len(block):
            self._escaped = block[at] == 0x5C  # the last byte of the block: the escaped byte is in the next
            self._in_string = self._escaped
            at += 1
        return at

    def _open(self, block: bytes, at: int) -> int:
        """Where the array's first value may begin, or the end of the block."""
        while at < len(block) and block[at] in b" \t\r\n":
            at += 1
        if at == len(block):
            return at
        if block[at] != 0x5B:
            self.fault = "something else follows the array"
            return at
        self._begun, self._after_comma = True, False
        return at + 1

    def _close(self, block: bytes, begin: int, at: int) -> None:
        """End the array; it may be empty, and another array may follow."""
        if self._after_comma or self._partial.n_bytes or block[begin : at - 1].strip(b" \t\r\n"):
            self._value(block, begin, at - 1, at, last=True)
        self._begun = False

    def _value(self, block: bytes, begin: int, stop: int, end: int, *, last: bool = False) -> None:
        """Take the value that ends at `stop`; its record reaches to `end`."""
        self._partial.add(block[begin:stop])
        value = self._partial.finish()
        if isinstance(value, bytes):
            value = value.strip(b" \t\r\n")
            if not value and last and not self._after_comma:
                return  # an empty array, with blanks across blocks
            if not _is_bounded(value):
                self.fault = "a value is missing" if not value else "a value is not JSON"
                return
        self.number += 1
        self._ends.append(end)
        if self.number > self._skip:
            self._given.append((self.number, value))

    def _end(self) -> None:
        rest = self._partial.finish()
        if self._in_string or self._stack:
            self.fault = "it ends in the middle of a value"
        elif self._array and self._begun:
            self.fault = "the array does not end"
        elif isinstance(rest, OversizedLine) or rest.strip(b" \t\r\n"):
            self.fault = "something else follows the last object"


def _is_bounded(value: bytes) -> bool:
    """Whether a value looks whole: brackets around it, or a single string, number or word."""
    return value[:1] + value[-1:] in (b"{}", b"[]") or _SCALAR.fullmatch(value) is not None
