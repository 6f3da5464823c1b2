"""Messages: lines for people on standard error, and with their time in a log file. The command line sets once how."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...protocol.errors import UsageError
from ...protocol.object_storage.address import with_addresses
from ...protocol.text.terminal_text import printable
from ...protocol.version import __version__

if TYPE_CHECKING:
    import logging

ProgressMode = Literal["auto", "bar", "plain", "json", "none"]
"""How progress is shown; `auto`: bars on a terminal, lines elsewhere."""

LOG_FORM = "%(asctime)s %(levelname)-5s %(message)s"
LOG_TIME = "%Y-%m-%dT%H:%M:%S%z"


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """The flags of the output that a command line had."""

    quiet: bool = False
    """Show errors and results only."""
    verbose: bool = False
    """Show each event of a run, and all figures."""
    log_file: Path | None = None
    no_color: bool = False
    progress: ProgressMode = "auto"


class Messages:
    """Writes lines to standard error and to the log file. UsageError if the log file cannot be opened."""

    def __init__(self, settings: OutputSettings, now: Callable[[], float] = time.time) -> None:
        """`now` is the Unix time in seconds."""
        self.settings, self._now = settings, now
        path = settings.log_file
        self.log = _open_log(path, lambda text: self._write("message", text)) if path is not None else None
        self.record(f"embedfleet {__version__}, process {os.getpid()}")

    @property
    def as_json(self) -> bool:
        """Whether each line on standard error is a JSON object."""
        return self.settings.progress == "json"

    @property
    def wants_details(self) -> bool:
        """Whether `detail` writes anything."""
        return self.settings.verbose or self.log is not None

    def say(self, text: str, *, timed: bool = False, always: bool = False) -> None:
        """Show a line, with the time of day if `timed`; `always`: with --quiet too."""
        self.record(text)
        if always or not self.settings.quiet:
            self._write("message", text, timed=timed)

    def detail(self, text: str) -> None:
        """Show a line with the time of day, with --verbose only. The log file has it in any case."""
        self.record(text)
        if self.settings.verbose and not self.settings.quiet:
            self._write("message", text, timed=True)

    def fail(self, text: str) -> None:
        """Show an error, with --quiet too."""
        if self.log is not None:
            for line in printable(with_addresses(text)).splitlines():
                self.log.error(line)
        self._write("error", text if self.as_json else f"error: {text}")

    def record(self, text: str) -> None:
        """Write a line to the log file alone, if there is one."""
        if self.log is not None:
            for line in printable(with_addresses(text)).splitlines():
                self.log.info(line)

    def show_json(self, fields: dict[str, Any]) -> None:
        """Write one JSON object, with the Unix time in seconds first."""
        import msgspec

        line = msgspec.json.encode({"time": round(self._now(), 3), **fields})
        sys.stderr.write(f"{line.decode()}\n")
        sys.stderr.flush()

    def _write(self, kind: str, text: str, *, timed: bool = False) -> None:
        text = with_addresses(text)
        if self.as_json:
            self.show_json({kind: text})
        else:
            if timed:
                clock = time.strftime("%H:%M:%S", time.localtime(self._now()))
                text = f"{clock} {text}"
            sys.stderr.write(f"embedfleet: {printable(text)}\n")
            sys.stderr.flush()


_current = Messages(OutputSettings())


def configure(settings: OutputSettings) -> None:
    """Set how this process shows messages. UsageError if the log file cannot be opened."""
    global _current
    if _current.log is not None:
        for handler in _current.log.handlers:
            handler.close()
    _current = Messages(settings)


def messages() -> Messages:
    """The messages of this process."""
    return _current


def _open_log(path: Path, say: Callable[[str], None]) -> logging.Logger:
    """The logger of the file. `say` shows a line once nothing more can be written there."""
    import logging

    class LogFile(logging.FileHandler):
        """A file that is given up at the first error: a full disk must not end a run."""

        def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - the name is that of logging
            error = sys.exc_info()[1]
            log.disabled = True  # not without a handler: logging would then show errors itself
            with contextlib.suppress(OSError):  # of what could not be written
                self.close()
            say(f"--log-file {path}: {error}; nothing more is written there")

    log = logging.Logger("embedfleet")  # not the one of logging.getLogger: its handlers are for programs
    try:
        handler = LogFile(path.expanduser(), encoding="utf-8", errors="backslashreplace")
    except (OSError, RuntimeError, ValueError) as error:  # the disk; `~nobody`; a NUL character
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise UsageError(f"--log-file {path}: {reason}; name a file in a folder that is there") from None
    handler.setFormatter(logging.Formatter(LOG_FORM, LOG_TIME))
    log.addHandler(handler)
    return log
