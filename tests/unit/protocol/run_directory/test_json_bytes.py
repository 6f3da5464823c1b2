"""JSON of a run directory that somebody damaged: one kind of error, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from embedfleet.client.run_directory.files import count_lines, read_lines
from embedfleet.protocol.errors import RunDirectoryError
from embedfleet.protocol.run_directory.json_bytes import decode_json, read_json
from embedfleet.protocol.run_directory.layout import RunLayout
from embedfleet.protocol.run_directory.own_files import read_owner
from embedfleet.protocol.run_directory.run_json import read_spec

DEEP = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"


@pytest.mark.parametrize("data", [DEEP, b'{"a": "\xff"}', b"{", b""])
def test_what_is_damaged_is_one_error(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_json(data, dict[str, Any])
    layout = RunLayout(tmp_path)
    layout.spec.write_bytes(data)
    reads = (lambda: read_spec(layout), lambda: read_owner(layout), lambda: read_json(layout.spec, dict[str, Any]))
    for read in reads:
        with pytest.raises(RunDirectoryError):
            read()


def test_what_is_whole_is_its_value() -> None:
    assert decode_json(b'{"a": 1}', dict[str, int]) == {"a": 1}


def test_a_line_that_is_nested_too_deeply_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(DEEP + b"\n")
    for read in (read_lines, count_lines):
        with pytest.raises(RunDirectoryError, match="lines"):
            read(tmp_path / "lines")
