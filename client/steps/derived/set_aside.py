"""SetAside: move a folder aside while it is made anew, to put it back if that fails."""

from __future__ import annotations

import shutil
from pathlib import Path

from ....protocol.errors import RunDirectoryError
from ....protocol.run_directory.atomic_files import sync_folder
from ....protocol.run_directory.layout import being_removed, set_aside
from ....protocol.run_directory.own_files import foreign_files, wrong_kind_error
from ...run_directory.files import writing


class SetAside:
    """One derived run directory. Each step is a rename, so that a crash leaves one whole folder or both.

    A folder is renamed before it is deleted: half deleted, it would look like a folder of the user's. EmbedfleetError if the
    disk refuses a step.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._before = folder, set_aside(folder)
        self._gone = being_removed(folder)

    def recover(self) -> None:
        """Finish a step that a crash interrupted between two renames."""
        shutil.rmtree(self._gone, ignore_errors=True)
        if not self._folder.exists():
            self.put_back()

    def take(self) -> None:
        """Move the folder aside, if it exists."""
        if self._folder.exists():
            with writing(self._folder):
                _refuse_foreign(self._folder)
                self._folder.rename(self._before)
                sync_folder(self._folder.parent)

    def put_back(self) -> bool:
        """Replace the folder by the one that was moved aside; False if there is none."""
        if not self._before.exists():
            return False
        with writing(self._folder):
            self._remove(self._folder)
            self._before.rename(self._folder)
            sync_folder(self._folder.parent)
        return True

    def drop(self) -> None:
        """Delete the folder that was moved aside."""
        with writing(self._before):
            self._remove(self._before)

    def _remove(self, folder: Path) -> None:
        if folder.exists():
            _refuse_foreign(folder)
            shutil.rmtree(self._gone, ignore_errors=True)
            folder.rename(self._gone)
            shutil.rmtree(self._gone)


def _refuse_foreign(folder: Path) -> None:
    """Raise RunDirectoryError for a link, and for files that no run wrote: they would be removed with the folder."""
    if folder.is_symlink():
        raise wrong_kind_error(folder)
    if foreign := foreign_files(folder):
        raise RunDirectoryError(
            f"{foreign[0]} was not written by a run, and the folder {folder.name} is to be replaced; "
            "move the file elsewhere first"
        )
