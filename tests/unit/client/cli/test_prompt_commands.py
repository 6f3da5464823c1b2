"""What a line at the search prompt asks for."""

from __future__ import annotations

from typing import Any, cast

import pytest
from embedfleet.client.cli.search.prompt_commands import HELP, Help, Open, Query, Quit, SearchSettings, parse
from embedfleet.client.cli.search.search_command import Prompt
from embedfleet.client.output.messages import OutputSettings, configure
from embedfleet.protocol.errors import UsageError
from embedfleet.protocol.index.metadata_filter import MetadataFilter

SETTINGS = SearchSettings(top_k=7, signals=("dense",), filters=(MetadataFilter("lang", ("de",)),), rerank="m")


@pytest.mark.parametrize(
    ("line", "text"),
    [("two words", "two words"), ("  k 5 ", "k 5"), (" :k 5", ":k 5"), ("what is a:b?", "what is a:b?")],
)
def test_a_line_is_a_query(line: str, text: str) -> None:
    assert parse(line, SETTINGS) == Query(text)


@pytest.mark.parametrize("line", ["", "  ", "\t"])
def test_a_blank_line_asks_nothing(line: str) -> None:
    assert parse(line, SETTINGS) is None


def changed(line: str) -> SearchSettings:
    found = parse(line, SETTINGS)
    assert isinstance(found, SearchSettings)
    return found


def test_settings_hold_from_then_on_and_leave_the_others() -> None:
    assert changed(":k 5") == SearchSettings(5, SETTINGS.signals, SETTINGS.filters, "m")
    assert changed(":signals bm25, dense") == SearchSettings(7, ("bm25", "dense"), SETTINGS.filters, "m")
    assert changed(":filter n=3") == SearchSettings(7, SETTINGS.signals, (MetadataFilter("n", ("3",)),), "m")
    assert (changed(":filter").filters, changed(":signals ").signals) == ((), ())


@pytest.mark.parametrize(
    ("line", "filters"),
    [
        (":filter lang=de year=2020", (MetadataFilter("lang", ("de",)), MetadataFilter("year", ("2020",)))),
        (":filter  title='two words' ", (MetadataFilter("title", ("two words",)),)),
        (""":filter 'meta."my key"=x'""", (MetadataFilter('meta."my key"', ("x",)),)),
        (":filter text=", (MetadataFilter("text", ("",)),)),
        (":filter lang=de|en n>=3", (MetadataFilter("lang", ("de", "en")), MetadataFilter("n", ("3",), ">="))),
    ],
)
def test_filters_are_quoted_as_in_a_shell(line: str, filters: tuple[MetadataFilter, ...]) -> None:
    assert changed(line).filters == filters


def test_the_other_commands() -> None:
    assert parse(":open 3", SETTINGS) == Open(3)
    assert parse(":help", SETTINGS) == Help()
    assert parse(":quit", SETTINGS) == Quit()
    assert all(f":{name}" in HELP for name in ("k", "filter", "signals", "open", "help", "quit"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (":k", ":k : give how many hits"),
        (":k 0", ":k 0: give how many hits"),
        (":k -1", ":k -1: give"),
        (":k ²", ":k ²: give"),
        (":k 12345678", ":k 12345678: give"),
        (":open", ":open : give the number of a hit"),
        (":open x", ":open x: give"),
        (":filter lang", "--filter 'lang': give KEY=VALUE"),
        (":filter 'a=b", ":filter 'a=b: no closing quotation"),
        (":filter n>few", "--filter 'n>few': give a number or a date after >"),
        (":signals ,", ":signals ',': names nothing"),
        (":nope", ":nope is no command; :help lists them"),
        (":", ": is no command"),
    ],
)
def test_a_bad_command_is_refused_in_one_line(line: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line, SETTINGS)
    assert str(caught.value).startswith(why)
    assert "\n" not in str(caught.value)


def test_the_error_of_a_line_is_shown_with_quiet_too(capsys: pytest.CaptureFixture[str]) -> None:
    nothing, said = cast("Any", None), list[str]()
    configure(OutputSettings(quiet=True))
    try:
        Prompt(nothing, nothing, SETTINGS, said.append)._obey([":nope", ":quit"], drops=False)
    finally:
        configure(OutputSettings())
    assert capsys.readouterr().err.startswith("embedfleet: :nope is no command; ")
    assert said == []
