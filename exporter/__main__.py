"""`python -m embedfleet.exporter ENDPOINT`: started by the coordinator, never by hand."""

from __future__ import annotations

import sys

from ..protocol import lifeline


def main() -> int:
    """Serve one run."""
    lifeline.hold()
    from .entry import ExporterLoop

    loop = ExporterLoop(sys.argv[1])
    code = loop.run()
    loop.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
