"""ShardLines: what happens to shards, as JSON lines on standard error, each with the number of its shard."""

from __future__ import annotations

from typing import Any

from ....protocol.object_storage.address import with_addresses
from ....protocol.wire.control import Progress
from ...output.messages import messages
from ...output.progress_lines import JsonView


class ShardLines:
    """The lines of one shard: those of `--progress json`, and a last one with its `code`, and its `error` if it has one."""

    def __init__(self, shard: int) -> None:
        self.shard = shard

    def say(self, text: str) -> None:
        """Write a message."""
        self._write({"message": with_addresses(text)})

    def end(self, code: int, error: str) -> None:
        """Write the exit code that a command for this shard would have, and the error by which it would end."""
        self._write({"code": code, "error": with_addresses(error)} if error else {"code": code})

    def view(self, unit: str) -> ShardView:
        """A view of the progress of its run."""
        return ShardView(self, JsonView(unit, self._write))

    def _write(self, fields: dict[str, Any]) -> None:
        messages().show_json({"shard": self.shard, **fields})


class ShardView:
    """Shows the progress of a shard's run."""

    def __init__(self, lines: ShardLines, figures: JsonView) -> None:
        self._lines, self._figures = lines, figures

    def show(self, progress: Progress) -> None:
        """Write the notices of the run, and the figures if it is time."""
        for notice in progress.notices:
            self._lines.say(notice)
        self._figures.show(progress)

    def say(self, text: str) -> None:
        """Write a message."""
        self._lines.say(text)

    def close(self) -> None:
        self._figures.close()
