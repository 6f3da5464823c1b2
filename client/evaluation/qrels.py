"""Relevance judgements, as BEIR and TREC write them.

BEIR   `query-id<TAB>corpus-id<TAB>score`, the first line a header
TREC   `query-id 0 corpus-id score`, separated by blanks or tabs
"""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

from ...protocol.errors import SourceError
from ...protocol.object_storage.address import is_address
from ...protocol.source.remote_files import read_file

Qrels = dict[str, dict[str, int]]
"""By query: the judgement of each chunk; above 0 is relevant."""

LARGEST_SCORE = 1_000_000
"""trec_eval has a table as long as the largest score. Far beyond this limit its figures are wrong, and then it fails."""

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,100}")
"""`int` would also take `1_0`, and digits of other scripts."""

BLANKS = " \t"
"""Separators of fields. Ids may contain other white space and line ends of Unicode."""


def read_qrels(path: str | PathLike[str]) -> Qrels:
    """The judgements in a file or at an address. SourceError names a line that is invalid or contradicts an earlier one."""
    qrels: Qrels = {}
    first: tuple[int, int] | None = None
    try:
        lines = _bytes(path).decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"--qrels {path}: cannot be read ({error})") from error
    for number, ended in enumerate(lines, 1):
        line = ended.strip("\r")
        if not line.strip(BLANKS) or (number == 1 and _is_header(line)):
            continue
        where = f"--qrels {path}, line {number}"
        (query, chunk, score), columns = _fields(line, where)
        first = first or (number, columns)
        if columns != first[1]:
            raise SourceError(f"{where}: {columns} fields, line {first[0]} had {first[1]}; give one form throughout")
        if not _WHOLE_NUMBER.fullmatch(score):
            raise SourceError(f"{where}: the score {score!r} is not a whole number")
        judged = int(score)
        if abs(judged) > LARGEST_SCORE:
            raise SourceError(f"{where}: the score {score} is too large; give at most {LARGEST_SCORE:,}")
        if qrels.setdefault(query, {}).setdefault(chunk, judged) != judged:
            raise SourceError(f"{where}: {query} and {chunk} were judged {qrels[query][chunk]} before, {judged} here")
    if not qrels:
        raise SourceError(f"--qrels {path}: there is no judgement in it")
    return qrels


def _bytes(path: str | PathLike[str]) -> bytes:
    return read_file(str(path), "--qrels") if is_address(path) else Path(path).read_bytes()


def _is_header(line: str) -> bool:
    return _words(line)[0].lower() in ("query-id", "query_id", "qid")


def _fields(line: str, where: str) -> tuple[tuple[str, str, str], int]:
    """Query, chunk and score of a line, and its number of columns."""
    tabs = [word.strip(BLANKS) for word in line.strip(BLANKS).split("\t")]
    words = tabs if len(tabs) in (3, 4) and all(tabs) else _words(line)
    match words:
        case [query, chunk, score] | [query, _, chunk, score]:
            return (query, chunk, score), len(words)
        case _:
            raise SourceError(
                f"{where}: {len(words)} fields; give `query-id corpus-id score` separated by tabs, or TREC's four columns"
            )


def _words(line: str) -> list[str]:
    return re.split(f"[{BLANKS}]+", line.strip(BLANKS))
