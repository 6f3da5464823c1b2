"""The run directory of a shard, opened beside the shard before it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ....protocol.run_directory.layout import RunLayout
from ...steps.remote_out import part_of
from .job import NodeJob


class ShardFolder:
    """Opens the folder of a shard in a thread: in object storage it may have to wait for a lock, and to fetch objects.

    `check` is called by that thread again and again, and may raise. Close it in any case.
    """

    def __init__(self, job: NodeJob, shard: int, say: Callable[[str], None], check: Callable[[], None]) -> None:
        self._job, self._shard, self._say, self._check = job, shard, say, check
        self._opened = ExitStack()
        self._root = Path(job.out)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._open, name="open-shard", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether `path` returns at once."""
        return not self._thread.is_alive()

    def path(self) -> Path:
        """The folder. Raises the error by which it could not be opened."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return RunLayout(self._root).shard(self._shard).root

    def close(self) -> None:
        """Make the store equal to the folder, and give back its lock. EmbedfleetError if that cannot be done."""
        self._thread.join()
        self._opened.close()

    def _open(self) -> None:
        try:
            if (remote := self._job.remote()) is not None:
                self._root = self._opened.enter_context(remote.opened(part_of(self._shard), self._say, self._check))
        except BaseException as error:  # noqa: BLE001 - raised where the folder is needed
            self._error = error
