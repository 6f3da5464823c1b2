"""`python -m embedfleet.exporter ENDPOINT`: started by the coordinator, never by hand."""

from __future__ import annotations

import sys

from ..protocol.process import lifeline
from ..protocol.process.standard_streams import guard_standard_error
from ..protocol.process.stop_signals import ignore_stop_signals


def main() -> int:
    """Serve one run; return the exit status."""
    guard_standard_error()
    ignore_stop_signals()
    lifeline.hold()
    from ..protocol.process.arrow import set_up_arrow
    from .entry import ExporterLoop

    set_up_arrow()
    loop = ExporterLoop(sys.argv[1])
    code = loop.run()
    loop.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
