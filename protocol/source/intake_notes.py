"""Notes on what the intake changed in records. Counted, stored with the segments, reported at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping

TITLE_JOINED = "title_joined"
OUTER_KEPT = "outer_kept"
ID_SHARED = "id_shared"
BYTES_AS_BASE64 = "bytes_as_base64"
NOT_FINITE = "not_finite"
HALVES_REMOVED = "halves_removed"
ELEMENTS_SKIPPED = "elements_skipped"
ACTIONS_SKIPPED = "actions_skipped"

Notes = Mapping[str, int]
"""The number of records for each note; the keys are the constants above."""

LINES = {
    TITLE_JOINED: "title put before the text in {n}; --title-field none leaves it out, --title-field F takes another field",
    OUTER_KEPT: "the same field outside and inside of the metadata in {n}: FIELD is the inner one, _outer.FIELD the outer one",
    ID_SHARED: (
        "id used before with another text in {n}, now in quarantine: name a field that differs for each chunk with "
        "--id-field F, or number the chunks with --id-field none (with --restart)"
    ),
    BYTES_AS_BASE64: "bytes in the metadata kept as base64 in {n}",
    NOT_FINITE: "NaN or Infinity became null in {n}",
    HALVES_REMOVED: "half a surrogate pair removed in {n}",
    ELEMENTS_SKIPPED: "elements without text skipped, page breaks for example: {n}",
    ACTIONS_SKIPPED: "delete and update actions of bulk files skipped: {n}",
}
"""The lines for people, in the order of the output."""


def note_lines(notes: Notes) -> list[str]:
    """The notes for people, one line each."""
    return [
        line.format(n=f"{notes[name]:,} {'record' if notes[name] == 1 else 'records'}")
        for name, line in LINES.items()
        if notes.get(name)
    ]
