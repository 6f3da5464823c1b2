"""The exit code of a process that a user or a cluster starts."""

from __future__ import annotations

from collections.abc import Callable

from ...protocol.errors import EXIT_FAILED, EXIT_INTERRUPTED, EmbedfleetError
from ...protocol.process.system_refusals import describe_system_error
from .messages import messages


def exit_code_of(command: Callable[[], int]) -> int:
    """The exit code that `command` returns, or that of its error, which is shown as one message. Raises what is unexpected."""
    try:
        return command()
    except EmbedfleetError as error:
        messages().fail(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # not only OSError: ZeroMQ's errors carry an errno too
        if (refused := describe_system_error(error)) is None:
            raise
        messages().fail(refused)
        return EXIT_FAILED
