"""A (query, text) pair as one text, so that pairs travel, sort and are cut as chunks do."""

from __future__ import annotations

from ..errors import ProtocolError

SEPARATOR = "\ue01f"
"""A private-use character; queries lose theirs, so the first one in a pair is the separator."""


def join_pair(query: str, text: str) -> str:
    """The pair as one text."""
    return f"{query.replace(SEPARATOR, ' ')}{SEPARATOR}{text}"


def split_pair(pair: str) -> tuple[str, str]:
    """The query and the text; ProtocolError where this is no pair."""
    query, found, text = pair.partition(SEPARATOR)
    if not found:
        raise ProtocolError("a text that is no (query, text) pair came to a reranker")
    return query, text
