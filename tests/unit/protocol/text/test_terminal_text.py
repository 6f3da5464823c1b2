"""What a corpus brings must not steer the terminal that shows it."""

from __future__ import annotations

import io

import pytest
from embedfleet.client.output.console import SafeConsole
from embedfleet.protocol.text.terminal_text import printable
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape
from rich.table import Table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, naïve 漢字 🎈", "plain words, naïve 漢字 🎈"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("C1 \x9b2J", "C1 \\x9b2J"),
        ("over\rwritten\x08", "over\\x0dwritten\\x08"),
        ("two\r\nlines\tand a tab", "two\nlines\tand a tab"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("half \ud83d", "half \\ud83d"),
        ("\x7f", "\\x7f"),
    ],
)
def test_what_steers_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_shown_can_be_shown_again(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert not any((ord(one) < 32 and one not in "\t\n") or 0x7F <= ord(one) < 0xA0 for one in shown)
    shown.encode()


def test_a_console_shows_no_string_raw() -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=False, width=80)
    table = Table("a\x1b[31mheading")
    table.add_row("a\x1b[32mcell")
    console.print(table)
    console.print(f"[bold]{escape('a line' + chr(0x9B))}[/bold]")
    assert "\x1b" not in out.getvalue()
    assert "\x9b" not in out.getvalue()
    for shown in ("a\\x1b[31mheading", "a\\x1b[32mcell", "a line\\x9b"):
        assert shown in out.getvalue()
