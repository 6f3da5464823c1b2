"""Tell from its first block whether a file is UTF-8. A file in another encoding gets one message, not one per line."""

from __future__ import annotations

import codecs
import re
import shlex

from ...protocol.source.source_file import SourceFile

_LEAST_LINES = 2
_LEAST_SHARE = 0.1
"""A share of the lines. If fewer are not UTF-8, only those lines count as damaged, and the others are read."""

# UTF-32 first: its mark begins with the mark of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_LETTERS = re.compile(r"[^\W\d_](?=[^\W\d_])|(?<=[^\W\d_])[^\W\d_]")
"""Letters beside another letter: a single letter among other characters counts as damage."""
_PACKED = (
    (b"\x1f\x8b\x08", "gzip", ".gz", "zcat"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst", "zstd -dc"),
    (b"BZh91AY&SY", "bzip2", "", "bzcat"),
    (b"\xfd7zXZ\x00", "xz", "", "xzcat"),
    (b"PK\x03\x04", "zip", "", "unzip -p"),
    (b"PAR1", "Parquet", ".parquet", ""),
)


def not_utf8(file: SourceFile, block: bytes) -> str | None:
    """The message that names the encoding and the remedy; None if the block is UTF-8, or nearly."""
    for magic, name, suffix, command in _PACKED:
        if block.startswith(magic):
            return _packed(file, name, suffix, command)
    for mark, name in _MARKS:
        if block.startswith(mark):
            return _recode(file, name, name)
    name = _wide(block)
    if name is not None:
        return _recode(file, name, name)
    if block.isascii():
        return None
    shown = _single_byte(block)
    if shown is None:
        return None
    return _recode(file, "not UTF-8", "WINDOWS-1252", f"; in Windows-1252 (Latin-1) its first such line is {shown!r}")


def _wide(block: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: JSON begins with a bracket, whose zero bytes show the width and the order."""
    for name in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE"):
        width = 4 if "32" in name else 2
        head = block[: min(len(block), 256) // width * width]
        if head[:width].count(0) == width - 1 and head.decode(name, "replace").lstrip()[:1] in ("{", "["):
            return name
    return None


def _single_byte(block: bytes) -> str | None:
    """The first line that is not UTF-8, decoded as Windows-1252; None if some line beyond ASCII is UTF-8.

    For an array, its objects count as lines.
    """
    lines = block.split(b"}" if block.lstrip()[:1] == b"[" else b"\n")
    bad = list[bytes]()
    for number, line in enumerate(lines, 1):
        if line.isascii():
            continue
        try:
            # The last line may be cut in the middle of a character.
            codecs.getincrementaldecoder("utf-8")().decode(line, number < len(lines))
        except UnicodeDecodeError:
            bad.append(line)
        else:
            return None
    if len(bad) < _LEAST_LINES or len(bad) < _LEAST_SHARE * len(lines):
        return None
    shown = [line.decode("cp1252", "replace").strip() for line in bad]
    words = sum(any(not letter.isascii() for letter in _LETTERS.findall(line)) for line in shown)
    return shown[0][:80] if 2 * words > len(bad) else None


def _recode(file: SourceFile, name: str, source: str, more: str = "") -> str:
    if file.path is None and file.url is None:
        return f"standard input is {name}, but has to be UTF-8{more}; pipe it through: iconv -f {source} -t UTF-8"
    path = file.where
    unpack = {"gzip": "zcat", "zstd": "zstd -dc"}.get(file.compression or "", "")
    if unpack:
        command = f"{unpack} {shlex.quote(path)} | iconv -f {source} -t UTF-8"
    else:
        command = f"iconv -f {source} -t UTF-8 {shlex.quote(path)}"
    return f"{path} is {name}, but has to be UTF-8{more}. Recode it: {command} > utf8.jsonl"


def _packed(file: SourceFile, name: str, suffix: str, command: str) -> str:
    if file.path is None and file.url is None:
        remedy = (
            f"unpack it first: {command} FILE | embedfleet run - …" if command else "name the file as SOURCE instead"
        )
        return f"standard input is {name}; {remedy}"
    path = file.where
    remedy = f"rename it to end in {suffix}" if suffix and file.compression is None else "unpack it"
    return f"{path} holds {name}, although its name promises text; {remedy}"
