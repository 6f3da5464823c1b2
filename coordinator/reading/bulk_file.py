"""Elasticsearch bulk files: an action on one line, its document on the next."""

from __future__ import annotations

from typing import Any, cast

from ...protocol.source.intake_notes import ACTIONS_SKIPPED
from .records import Item, Noted, Numbered, Raw, Reject, excerpt

_WITH_DOCUMENT = ("index", "create")
_ACTIONS = (*_WITH_DOCUMENT, "update", "delete")
_FIELDS = frozenset(
    {
        "routing",
        "parent",
        "version",
        "version_type",
        "pipeline",
        "if_seq_no",
        "if_primary_term",
        "retry_on_conflict",
        "require_alias",
        "require_data_stream",
        "dynamic_templates",
        "list_executed_pipelines",
    }
)
"""Fields of an action, beside those that begin with `_`."""


def is_bulk(item: Item) -> bool:
    """Whether the first record of a file is an action, which makes it a bulk file."""
    return _action_of(item) is not None


class BulkFile:
    """Pairs documents with their actions. A document has the number of its own line.

    Index and create actions become records like search hits, `{"_index": …, "_id": …, "_source": {…}}`. Delete and update
    actions are counted and skipped.
    """

    def __init__(self) -> None:
        self._open: tuple[int, str, Raw] | None = None
        """The number, name and fields of an action that waits for its document."""

    def take(self, block: Numbered) -> Numbered:
        """The records of the next block of lines."""
        found: Numbered = []
        for number, item in block:
            action = _action_of(item)
            if action is not None:
                found += self.finish()
                if action[0] == "delete":
                    found.append((number, Noted(None, (ACTIONS_SKIPPED,))))
                else:
                    self._open = (number, *action)
            elif self._open is None:
                reason = "no action on the line before it, which a bulk file needs"
                found.append((number, item if isinstance(item, Reject) else Reject(reason, excerpt(_record(item)))))
            else:
                _, name, fields = self._open
                self._open = None
                found.append((number, _document(name, fields, item)))
        return found

    def finish(self) -> Numbered:
        """A Reject for the action that still waits for its document, if there is one."""
        if self._open is None:
            return []
        number, name, fields = self._open
        self._open = None
        return [(number, Reject(f"the {name!r} action has no document on the line after it", excerpt({name: fields})))]


def _document(name: str, fields: Raw, item: Item) -> Item:
    if name not in _WITH_DOCUMENT:
        return Noted(None, (ACTIONS_SKIPPED,))
    if isinstance(item, Reject):
        return item
    record = {**fields, "_source": _record(item)}
    return Noted(record, item.notes) if isinstance(item, Noted) else record


def _record(item: Any) -> Raw | None:
    return item.record if isinstance(item, Noted) else item


def _action_of(item: Item) -> tuple[str, Raw] | None:
    record = None if isinstance(item, Reject) else _record(item)
    if record is None or len(record) != 1:
        return None
    ((name, fields),) = record.items()
    if name not in _ACTIONS or not isinstance(fields, dict):
        return None
    named = cast("Raw", fields)
    return (name, named) if all(key.startswith("_") or key in _FIELDS for key in named) else None
