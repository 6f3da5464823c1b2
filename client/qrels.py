"""Relevance judgements, as BEIR and TREC write them.

BEIR   `query-id<TAB>corpus-id<TAB>score`, the first line a header
TREC   `query-id 0 corpus-id score`, separated by blanks or tabs
"""

from __future__ import annotations

from pathlib import Path

from ..protocol.errors import SourceError

Qrels = dict[str, dict[str, int]]
"""By query: the judgement of each chunk; above 0 is relevant."""


def read_qrels(path: Path) -> Qrels:
    """SourceError names the line that is none, or contradicts an earlier one."""
    found: Qrels = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"--qrels {path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or (number == 1 and _is_header(line)):
            continue
        where = f"--qrels {path}, line {number}"
        query, chunk, score = _fields(line, where)
        try:
            judged = int(score)
        except ValueError:
            raise SourceError(f"{where}: the score {score!r} is not a whole number") from None
        if found.setdefault(query, {}).setdefault(chunk, judged) != judged:
            raise SourceError(f"{where}: {query} and {chunk} were judged {found[query][chunk]} before, {judged} here")
    if not found:
        raise SourceError(f"--qrels {path}: there is no judgement in it")
    return found


def _is_header(line: str) -> bool:
    return line.split()[0].lower() in ("query-id", "query_id", "qid")


def _fields(line: str, where: str) -> tuple[str, str, str]:
    tabs = line.split("\t")
    if len(tabs) == 3:
        return tabs[0].strip(), tabs[1].strip(), tabs[2].strip()
    words = line.split()
    if len(words) == 4:
        return words[0], words[2], words[3]
    if len(words) == 3:
        return words[0], words[1], words[2]
    raise SourceError(
        f"{where}: {len(words)} fields; give `query-id corpus-id score` separated by tabs, or TREC's four columns"
    )
