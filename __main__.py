"""`embedfleet`, also as `python -m embedfleet`."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line. Ctrl-C while its modules are still being imported ends it as quietly as later."""
    try:
        if "EMBEDFLEET_PARENT" in os.environ:  # started by another process of this package
            from .protocol.process import lifeline

            lifeline.hold()
        from .client.cli.app import main as command
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()
