"""Encode a (query, text) pair as one text, so that pairs can be sent, sorted and batched like chunks."""

from __future__ import annotations

from ..errors import ProtocolError

SEPARATOR = "\ue01f"
"""A private-use character. It is removed from queries, so the first one in a pair is the separator."""


def join_pair(query: str, text: str) -> str:
    """The pair as one text."""
    return f"{query.replace(SEPARATOR, ' ')}{SEPARATOR}{text}"


def split_pair(pair: str) -> tuple[str, str]:
    """The query and the text of a pair. ProtocolError if it has no separator."""
    query, found, text = pair.partition(SEPARATOR)
    if not found:
        raise ProtocolError("a text that is no (query, text) pair came to a reranker")
    return query, text
