"""The table of bad input: for each case the file, what of it is committed, what is quarantined and why, the exit code.

A file may hold anything; the run has to go on. Ids are those of the case alone, so that all cases fit into one run.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DONE, QUARANTINED = 0, 3
DEEP = 100_000
PAIR = ("alpha", "beta")
"""Two good records stand around most of the bad ones: what is bad must not take its neighbours along."""


@dataclass(frozen=True)
class Case:
    """`records` is how many there are, blank lines left out; `rejected` has the start of the reason by record number."""

    name: str
    data: Callable[[], bytes]
    records: int
    committed: Mapping[str, str]
    rejected: Mapping[int, str]
    code: int
    suffix: str = ".jsonl"

    @property
    def file(self) -> str:
        return self.name.replace(" ", "-") + self.suffix


def line(id_: object, text: object, **more: object) -> bytes:
    return json.dumps({"id": id_, "text": text, **more}, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def around(name: str, *middle: bytes) -> Callable[[], bytes]:
    """The middle between two good lines, `NAME-1` and `NAME-2`."""
    return lambda: b"".join((line(f"{name}-1", PAIR[0]), *middle, line(f"{name}-2", PAIR[1])))


def good(name: str, **more: str) -> dict[str, str]:
    return {f"{name}-1": PAIR[0], **more, f"{name}-2": PAIR[1]}


def raw(name: str, value: bytes, field: bytes = b"text") -> bytes:
    """A line with a field spelled out in JSON, beside an id (and a text)."""
    text = b"" if field == b"text" else b'"text":"t",'
    return b'{"id":"' + name.encode() + b'",' + text + b'"' + field + b'":' + value + b"}\n"


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def parquet(name: str) -> bytes:
    """1,000 rows in ten groups, with ids NAME-0 and so on."""
    columns = {"id": [f"{name}-{n}" for n in range(1000)], "text": [f"row {n} of it" for n in range(1000)]}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=100, use_dictionary=False, compression="none")
    return sink.getvalue()


def damaged_parquet() -> bytes:
    """The length of the first page of the fourth group's texts is nonsense."""
    data = bytearray(parquet("page"))
    column: Any = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(3).column(1)
    start = column.data_page_offset
    data[start : start + 16] = b"\xff" * 16
    return bytes(data)


def cut_gzip() -> bytes:
    """Cut in the middle: what can be unpacked ends at some byte."""
    lines = b"".join(line(f"gz-{n}", f"number {n}") for n in range(10)) + line("gz-long", "x" * 50_000)
    packed = gzip.compress(lines, 0)
    return packed[: len(packed) // 2]


TEXT_LIMIT, LINE_LIMIT = 16 << 20, 32 << 20
WORD = "w" * 1_000_000
LONG = "word " * 2_000_000
HEBREW = "\u05e9\u05dc\u05d5\u05dd \u202eabc\u202c \u0645\u0631\u062d\u0628\u0627"
THIN = "a\u200bb\u200dc\u2060d\ufeffe\u00adf"
SPECIAL = ("<s>", "</s>", "[CLS]", "[SEP] [MASK] [PAD]", "<|endoftext|>", "<unk><pad>")
PATHS = (
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "C:\\nul",
    "a\nb",
    "\u001b[2J",
    " ",
    "%2e%2e/",
    "'; DROP TABLE ids; --",
)
NOT_OBJECT = "not JSON: "
NOT_FINITE = (b"NaN", b"Infinity", b"-Infinity", b"1e999")

CASES = (
    Case(
        "truncated last line",
        lambda: line("cut-1", PAIR[0]) + b'{"id":"cut-2","text":"the rest is mis',
        2,
        {"cut-1": PAIR[0]},
        {2: "not JSON: unexpected end of data"},
        QUARANTINED,
    ),
    Case("no newline at the end", lambda: around("end")()[:-1], 2, good("end"), {}, DONE),
    Case("byte order mark", lambda: b"\xef\xbb\xbf" + around("bom")(), 2, good("bom"), {}, DONE),
    Case(
        "byte order mark further on",
        around("boms", b"\xef\xbb\xbf" + line("boms-x", "x")),
        3,
        good("boms"),
        {2: "not JSON: UTF-8 byte order mark"},
        QUARANTINED,
    ),
    Case(
        "utf 16",
        lambda: line("u16", "x").decode().encode("utf-16"),
        1,
        {},
        {1: "PATH is UTF-16, but has to be UTF-8. Recode it: iconv -f UTF-16 -t UTF-8 PATH > utf8.jsonl"},
        QUARANTINED,
    ),
    Case(
        "crlf",
        lambda: around("crlf", line("crlf-x", "one\r\ntwo\rthree"), b"\n")().replace(b"\n", b"\r\n"),
        3,
        good("crlf", **{"crlf-x": "one\ntwo\nthree"}),
        {},
        DONE,
    ),
    Case(
        "nul bytes",
        around("nul", b"\0\0\0\n", b'{"id":"nul-x","text":"a\0b"}\n', b"\0" + line("nul-y", "y")),
        5,
        good("nul"),
        {2: NOT_OBJECT, 3: "not JSON: unexpected control character", 4: NOT_OBJECT},
        QUARANTINED,
    ),
    Case(
        "nul escaped",
        around("esc", raw("esc-x", b'"a\\u0000b"'), b'{"id":"esc\\u0000id","text":"t"}\n'),
        4,
        good("esc", **{"esc-x": "ab", "esc\0id": "t"}),
        {},
        DONE,
    ),
    Case(
        "nan literals",
        around("nan", *(raw(f"nan-{one.decode()}", one, b"score") for one in NOT_FINITE)),
        6,
        good("nan", **{f"nan-{one.decode()}": "t" for one in NOT_FINITE}),
        {},
        DONE,
    ),
    Case(
        "duplicate keys: the last one counts",
        around("dup", raw("dup-x", b'"first","text":"last"'), b'{"id":"dup-a","id":"dup-b","text":"t"}\n'),
        4,
        good("dup", **{"dup-x": "last", "dup-b": "t"}),
        {},
        DONE,
    ),
    Case(
        "nesting",
        around(
            "deep",
            raw("deep-x", nested(DEEP), b"m"),
            raw("deep-y", b'{"a":' * DEEP + b"1" + b"}" * DEEP, b"m"),
            raw("deep-z", nested(DEEP)),
            b"[" * DEEP + b"\n",
            raw("deep-64", nested(63), b"m"),
            raw("deep-65", nested(64), b"m"),
            raw("deep-500", nested(500), b"m"),
            raw("deep-text", nested(500)),
        ),
        10,
        good("deep", **{"deep-64": "t"}),
        {
            2: "not JSON: depth limit",
            3: "not JSON: depth limit",
            4: "not JSON: depth limit",
            5: "not JSON: depth limit",
            7: "metadata cannot be kept as JSON: nested more than 64 deep",
            8: "metadata cannot be kept as JSON: nested more than 64 deep",
            9: "text field 'text' is an array, not a string",
        },
        QUARANTINED,
    ),
    Case(
        "line of 100 MB",
        lambda: around("huge", line("huge-x", "x" * 100_000_000))(),
        3,
        good("huge"),
        {2: f"record of 100000028 bytes is over the limit of {LINE_LIMIT}"},
        QUARANTINED,
    ),
    Case(
        "text over its limit",
        lambda: around("over", line("over-x", "x" * (TEXT_LIMIT + 1)), line("over-y", "y" * TEXT_LIMIT))(),
        4,
        good("over", **{"over-y": "y" * TEXT_LIMIT}),
        {2: f"text of {TEXT_LIMIT + 1} bytes is over the limit of {TEXT_LIMIT}"},
        QUARANTINED,
    ),
    Case(
        "metadata over its limit",
        lambda: around("meta", line("meta-x", "t", m="m" * TEXT_LIMIT))(),
        3,
        good("meta"),
        {2: f"metadata of {TEXT_LIMIT + 8} characters is over the limit of {TEXT_LIMIT}"},
        QUARANTINED,
    ),
    Case(
        "invalid utf 8",
        around("utf8", *(raw("utf8-x", b'"' + one + b'"') for one in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"))),
        6,
        good("utf8"),
        dict.fromkeys((2, 3, 4, 5), "invalid UTF-8 at byte 23"),
        QUARANTINED,
    ),
    Case(
        "lone surrogates",
        around(
            "sur",
            raw("sur-x", b'"a\\ud800b"'),
            raw("sur-y", b'"\\udc00"'),
            b'{"id":"\\ud800","text":"t"}\n',
            raw("sur-z", b'"\\udfff"', b"m"),
            raw("sur-pair", b'"\\ud83d\\ude00"'),
        ),
        7,
        good("sur", **{"sur-x": "ab", "sur-z": "t", "sur-pair": "\U0001f600"}),
        {3: "empty text", 4: "id field 'id' is empty"},
        QUARANTINED,
    ),
    Case(
        "empty and whitespace texts",
        around("void", *(line(f"void-{n}", one) for n, one in enumerate(("", " \t\n\r", "\u00a0\u3000", "\0\x07")))),
        6,
        good("void"),
        dict.fromkeys((2, 3, 4, 5), "empty text"),
        QUARANTINED,
    ),
    Case(
        "no text",
        around("none", line("none-x", None), line("none-y", 7), b'{"id":"none-z"}\n', b'"text"\n', b"7\n"),
        7,
        good("none"),
        {
            2: "text field 'text' is null",
            3: "text field 'text' is an integer",
            4: "no text: ",
            5: "record is a string, not an object",
            6: "record is an integer, not an object",
        },
        QUARANTINED,
    ),
    Case(
        "text of 10 MB",
        lambda: around("long", line("long-x", LONG))(),
        3,
        good("long", **{"long-x": LONG.strip()}),
        {},
        DONE,
    ),
    Case("word of 1 MB", lambda: around("word", line("word-x", WORD))(), 3, good("word", **{"word-x": WORD}), {}, DONE),
    Case(
        "combining marks without end",
        lambda: around("mark", line("mark-x", "a" + "\u0315\u0300" * 500_000))(),
        3,
        good("mark", **{"mark-x": "\u00e0" + "\u0300" * 499_999 + "\u0315" * 500_000}),
        {},
        DONE,
    ),
    Case(
        "right to left and zero width",
        around("rtl", line("rtl-x", HEBREW), line("rtl-y", THIN), line("rtl-z", "\u200b")),
        5,
        good("rtl", **{"rtl-x": HEBREW, "rtl-y": THIN, "rtl-z": "\u200b"}),
        {},
        DONE,
    ),
    Case(
        "special tokens",
        around("tok", *(line(one, one) for one in SPECIAL)),
        2 + len(SPECIAL),
        good("tok", **{one: one for one in SPECIAL}),
        {},
        DONE,
    ),
    Case(
        "ids that look like paths or commands",
        around("path", *(line(one, f"text of {n}") for n, one in enumerate(PATHS))),
        2 + len(PATHS),
        good("path", **{one: f"text of {n}" for n, one in enumerate(PATHS)}),
        {},
        DONE,
    ),
    Case(
        "ids beyond 64 bits",
        around(
            "big",
            line(2**64, "a"),
            line(-(2**63) - 1, "b"),
            line(2**64 - 1, "c"),
            line(str(2**64), "d"),
            line(10**30, "e"),
            line(1.5, "f"),
        ),
        8,
        good("big", **{str(2**64 - 1): "c", str(2**64): "d"}),
        dict.fromkeys((2, 3, 6), "id field 'id' is a number too large to be read exactly")
        | {7: "id field 'id' is a float, not a string or an integer"},
        QUARANTINED,
    ),
    Case(
        "ids that are none",
        around(
            "noid", line("", "a"), line([1], "b"), line(True, "c"), line("i" * 16_385, "d"), line("i" * 16_384, "e")
        ),
        7,
        good("noid", **{"i" * 16_384: "e"}),
        {
            2: "id field 'id' is empty",
            3: "id field 'id' is an array",
            4: "id field 'id' is a boolean",
            5: "id field 'id' has 16385 characters, over the limit of 16384",
        },
        QUARANTINED,
    ),
    Case(
        "the same id twice",
        around("same", line("same-1", "another text")),
        3,
        good("same"),
        {2: "id 'same-1' was already used by row "},
        QUARANTINED,
    ),
    Case(
        "parquet cut short",
        lambda: parquet("pq")[:9000],
        1,
        {},
        {1: "PATH is damaged or cannot be read"},
        QUARANTINED,
        ".parquet",
    ),
    Case(
        "parquet with a damaged page",
        damaged_parquet,
        301,
        {f"page-{n}": f"row {n} of it" for n in range(300)},
        {301: "PATH is damaged or cannot be read from here on"},
        QUARANTINED,
        ".parquet",
    ),
    Case(
        "gzip cut short",
        cut_gzip,
        11,
        {f"gz-{n}": f"number {n}" for n in range(10)},
        {11: "PATH is damaged or cannot be read from here on"},
        QUARANTINED,
        ".jsonl.gz",
    ),
    Case(
        "array cut short",
        lambda: b'[{"id":"array-1","text":"t"},{"id":',
        2,
        {"array-1": "t"},
        {2: "PATH is damaged or cannot be read from here on (it ends in the middle of a value)"},
        QUARANTINED,
        "_chunks.json",
    ),
    Case(
        "array nested without end",
        lambda: b"[" * DEEP,
        1,
        {},
        {1: "PATH is damaged or cannot be read from here on (it ends in the middle of a value)"},
        QUARANTINED,
        "_chunks.json",
    ),
    Case(
        "array that is none",
        lambda: b'{"data":[{"id":"x","text":"t"}]}',
        1,
        {},
        {1: "PATH holds an object around the array of records 'data'; write them one a line: jq -c '.[\"data\"][]'"},
        QUARANTINED,
        "_chunks.json",
    ),
)
"""`PATH` in a reason is that of the file."""
