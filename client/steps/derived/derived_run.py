"""DerivedRun: a run of queries or pairs inside a run directory. It resumes, or starts over if its source or spec changed."""

from __future__ import annotations

from pathlib import Path

from ....protocol.errors import RunDirectoryError, SourceError, error_from_name
from ....protocol.run_directory.layout import RunLayout, segments_in
from ....protocol.run_directory.run_json import reasons_in
from ....protocol.source.check import unchanged_files
from ....protocol.source.corpus import survey
from ....protocol.spec.run_spec import RunSpec
from ....protocol.wire.control import RunEnded
from ..session import Interrupted, Session
from .derived_source import adopt_source, digest_of, note_digest
from .set_aside import SetAside

OTHERS = ("SpecMismatch", "SourceError")
"""Kinds of failure if the folder holds a run of other queries or pairs. That run is replaced."""


class DerivedRun:
    """The run in one folder. A run of other queries or pairs is moved aside until the new one is done."""

    def __init__(self, session: Session, spec: RunSpec, out: Path, unit: str) -> None:
        """`unit` is what its rows are: `queries` or `pairs`."""
        self._session, self._spec, self._out, self._unit = session, spec, out, unit
        self._layout, self._aside = RunLayout(out), SetAside(out)

    def follow(self, made_of: str) -> RunEnded:
        """Follow the run to its end. `made_of` describes, for messages, the source of a run that is replaced.

        The earlier run is put back if the new one fails before it has computed anything.
        """
        ending = self._resumed_here_or_aside()
        if ending is None:
            if self._has_vectors():
                self._session.say(f"{self._out}: made of {made_of}; that is kept until the new one is done")
            self._aside.take()
            ending = self._submitted()
        if ending.status == "failed":
            if not self._has_vectors() and self._aside.put_back() and self._has_vectors():
                self._session.say(f"{self._out}: as it was before")
            raise error_from_name(ending.kind, ending.error)
        self._aside.drop()
        if ending.quarantined:
            self._session.say(f"{self._unit}: {ending.quarantined:,} in quarantine, {reasons_in(self._layout)}")
        return ending

    def _resumed_here_or_aside(self) -> RunEnded | None:
        """Resume the run in the folder, or else the one that was moved aside; None if both are runs of other sources."""
        self._aside.recover()
        if not self._has_vectors():  # an empty replacement
            self._aside.put_back()
        ending = self._resumed()
        if ending is None and self._aside.put_back():
            ending = self._resumed()
        return ending

    def _resumed(self) -> RunEnded | None:
        """Resume the run in the folder, or start a new one if it is empty; None if the folder has a run of another source."""
        stood = self._out.exists()
        adopt_source(self._spec, self._layout)
        if stood and self._is_rewritten():
            return None
        ending = self._submitted()
        return None if stood and ending.status == "failed" and ending.kind in OTHERS else ending

    def _submitted(self) -> RunEnded:
        if self._session.received:
            raise Interrupted
        digest = digest_of(self._spec.source)
        ending = self._session.follow(self._spec, self._out, unit=self._unit)
        if ending is None or ending.status == "interrupted":
            raise Interrupted
        if ending.status != "failed":
            note_digest(self._layout, digest)
        return ending

    def _has_vectors(self) -> bool:
        """Whether the folder has computed vectors."""
        return any(segments_in(folder) for folder in self._layout.vectors.glob("*/"))

    def _is_rewritten(self) -> bool:
        """Whether the source changed since the intake read it. A run whose intake is done would not check that."""
        spec, layout = self._spec, self._layout
        try:
            corpus = survey(spec.source, layout.root, spec.text_field)
        except SourceError:
            return False  # the run itself reports it
        try:
            unchanged_files(spec.source, corpus, layout)
        except SourceError:
            return True
        except RunDirectoryError:
            pass
        return False
