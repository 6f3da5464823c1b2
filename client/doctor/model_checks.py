"""Models checked as the coordinator checks them before a run, in a process of its own, without the hub."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import msgspec

from ...protocol.errors import EXIT_DONE, EXIT_USAGE, describe_exit
from ...protocol.process.child import ChildProcess
from ...protocol.wire.model_refusal import PassToCheck, Refusal

CHECK_SECONDS = 30.0
"""For all models; one takes some milliseconds."""


class ModelChecks:
    """The check of these passes, each with a `vector` of its own. Call from the main thread."""

    def __init__(self, passes: Sequence[PassToCheck]) -> None:
        self._passes, self._found = passes, tempfile.TemporaryFile()  # noqa: SIM115 - closed in result()
        self._process: ChildProcess | None = None
        if passes:
            with tempfile.TemporaryFile() as asked:
                asked.write(msgspec.json.encode(passes))
                asked.seek(0)
                offline = {"HF_HUB_OFFLINE": "1"}
                self._process = ChildProcess(
                    "embedfleet.worker.models.check", [], environment=offline, stdin=asked, stdout=self._found
                )

    def result(self) -> tuple[dict[str, str], str]:
        """For each refused pass the message, by its `vector`; and why nothing could be checked, empty if it was."""
        with self._found:
            if self._process is None:
                return {}, ""
            code = self._process.wait(CHECK_SECONDS)
            tail = " ".join(self._process.tail().split())[-200:]
            self._process.close()
            if code not in (EXIT_DONE, EXIT_USAGE):
                how = f"no answer in {CHECK_SECONDS:.0f} s" if code is None else f"{describe_exit(code)} {tail}".strip()
                return {}, how
            self._found.seek(0)
            lines = self._found.read().splitlines()
        refused = [msgspec.json.decode(line, type=Refusal) for line in lines]
        return {one.vector: one.message for one in refused}, ""
