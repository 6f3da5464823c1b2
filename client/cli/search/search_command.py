"""`embedfleet search`: one query, or a prompt that answers one after the other."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ....protocol.errors import EXIT_DONE, EmbedfleetError, RunDirectoryError, UsageError
from ....protocol.object_storage.address import is_address
from ....protocol.text.terminal_text import on_one_line
from ...arguments import expand_path
from ...options.signal_names import choose_signals
from ...output.json_output import print_json
from ...output.messages import messages
from ...search.filter_keys import plain_filters
from ...search.hit import Hit
from ...search.hybrid import Searcher, check_query
from .hit_list import print_chunk, print_hits
from .prompt_commands import HELP, Help, Open, Query, Quit, SearchSettings, parse
from .prompt_input import is_terminal, piped_lines, typed_lines

Say = Callable[[str], None]


class Answers:
    """Answers queries on standard output, with the seconds of each stage if asked for."""

    def __init__(self, searcher: Searcher, say: Say, *, as_json: bool, timings: bool, full: bool) -> None:
        self._searcher, self._say = searcher, say
        self._json, self._timings, self._full = as_json, timings, full
        self.hits: list[Hit] = []
        """Those of the last answer."""

    def answer(self, query: str, settings: SearchSettings, began: float) -> None:
        """Search and print. `began` is when the query was there, as `time.monotonic` has it."""
        self._searcher.timings.take()
        self.hits = self._searcher.search(
            query,
            settings.top_k,
            signals=settings.signals,
            filters=settings.filters,
            rerank=settings.rerank,
            trust_remote_code=settings.trust_remote_code,
            candidates=settings.candidates,
        )
        if not self._json:
            with self._searcher.timings.stage("rendering"):
                print_hits(self.hits, query, full=self._full)
        self._searcher.timings.add("total", time.monotonic() - began)
        stages = self._searcher.timings.take()
        if self._json:
            found = [_fields(hit) for hit in self.hits]
            print_json({"hits": found, "timings": stages} if self._timings else found)
        elif self._timings:
            for stage, milliseconds in stages.items():
                self._say(f"{milliseconds:>9,.1f} ms  {stage}")

    def open(self, number: int) -> None:
        """Print the whole chunk of a hit of the last answer."""
        if number > len(self.hits):
            raise UsageError(f":open {number}: the last answer has {len(self.hits)} hits")
        hit = self.hits[number - 1]
        print_json(_fields(hit)) if self._json else print_chunk(hit)


def search(
    folder: Path,
    query: str | None,
    settings: SearchSettings,
    *,
    timeout: float,
    as_json: bool,
    timings: bool,
    full: bool,
    say: Say,
) -> int:
    """Answer the query; without one, those that are typed or piped in. Returns the exit code."""
    if not is_address(folder):
        expand_path(folder, "DIR", RunDirectoryError)
    if query is not None:
        check_query(query, settings.top_k, settings.candidates)
    with Searcher(folder, timeout=timeout, say=say, keep=query is None) as searcher:
        answers = Answers(searcher, say, as_json=as_json, timings=timings, full=full)
        if query is not None:
            answers.answer(query, settings, _process_start() if timings else time.monotonic())
        else:
            _check(searcher, settings)
            searcher.load(settings.signals)
            Prompt(searcher, answers, settings, say).run()
    return EXIT_DONE


class Prompt:
    """Lines of queries and commands. A bad one is reported in one line, and the next one is read."""

    def __init__(self, searcher: Searcher, answers: Answers, settings: SearchSettings, say: Say) -> None:
        self._searcher, self._answers, self._settings, self._say = searcher, answers, settings, say

    def run(self) -> None:
        """Read on until the input ends, or `:quit`. UsageError if standard input, not a terminal, has no line."""
        if is_terminal():
            self._say(f"{self._searcher.layout.root}: type a query; :help lists the commands, and Ctrl-D ends")
            self._obey(typed_lines(), drops=True)
        elif not self._obey(piped_lines(), drops=False):
            raise UsageError("no query: give one behind DIR, or queries on standard input, one a line")

    def _obey(self, lines: Iterable[str], *, drops: bool) -> int:
        """How many lines there were. With `drops`, Ctrl-C drops a query that is being answered."""
        count = 0
        for count, line in enumerate(lines, 1):  # noqa: B007 - it is returned
            try:
                if self._is_last(line):
                    break
            except EmbedfleetError as error:
                messages().say(on_one_line(str(error)), always=True)
            except KeyboardInterrupt:
                if not drops:
                    raise
                self._say("dropped")
            sys.stdout.flush()
        return count

    def _is_last(self, line: str) -> bool:
        """Obey one line. Returns whether it ends the prompt."""
        match parse(line, self._settings):
            case Query(text):
                self._answers.answer(text, self._settings, time.monotonic())
            case SearchSettings() as settings:
                _check(self._searcher, settings)
                self._settings = settings
            case Open(number):
                self._answers.open(number)
            case Help():
                sys.stdout.write(f"{HELP}\n")
            case Quit():
                return True
            case None:
                pass
        return False


def _check(searcher: Searcher, settings: SearchSettings) -> None:
    """Raise UsageError for signals that the run does not have, and for filters that the engine cannot read."""
    choose_signals(searcher.spec, settings.signals, searcher.layout.root)
    if settings.filters:
        plain_filters(settings.filters)


def _fields(hit: Hit) -> dict[str, Any]:
    return {name: getattr(hit, name) for name in hit.__slots__}


def _process_start() -> float:
    """When this process was started, as `time.monotonic` has it, to the system's clock tick; now, where that is not known."""
    now = time.monotonic()
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, LookupError, AttributeError):
        return now
    return now - age if age >= 0 else now
