"""`python -m embedfleet.exporter.export_main DIR [--formats a,b] [--quantization scalar]`: started by `embedfleet export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..protocol import lifeline
from ..protocol.errors import EXIT_DONE, EXIT_INTERRUPTED, EmbedfleetError


def main() -> int:
    """Export one run; what stands is said line by line on standard error, and so is what went wrong."""
    lifeline.hold()
    parser = argparse.ArgumentParser(prog="embedfleet.exporter.export_main")
    parser.add_argument("root", type=Path)
    parser.add_argument("--formats", default="", help="separated by commas; none: all that apply")
    parser.add_argument("--quantization", choices=["scalar"], default=None)
    flags = parser.parse_args()

    import pyarrow

    from .export_command import export_run
    from .sinks.exported_file import ExportedFile

    def say(file: ExportedFile) -> None:
        rows = f"{file.rows:,} rows, " if file.rows else ""
        sys.stderr.write(f"{flags.root / 'export' / file.name}: {rows}{file.bytes:,} bytes\n")

    pyarrow.set_memory_pool(pyarrow.system_memory_pool())  # as in the exporter's own main
    formats = [name for one in flags.formats.split(",") if (name := one.strip())]
    try:
        export_run(flags.root, formats, flags.quantization, say)
    except EmbedfleetError as error:
        sys.stderr.write(f"embedfleet: error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
