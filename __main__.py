"""`embedfleet`, also as `python -m embedfleet`."""

from __future__ import annotations


def main() -> None:
    """Run the command line. Ctrl-C while its modules are still being imported ends it as quietly as later."""
    try:
        from .client.cli.app import main as command
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()
