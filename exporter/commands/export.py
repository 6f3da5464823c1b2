"""`python -m embedfleet.exporter.commands.export DIR [--formats a,b] [--quantization Q]`: started by `embedfleet export`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..command_line import serve


def main() -> int:
    """Export one run. Prints a line for each committed file, or the error, on standard error."""
    parser = argparse.ArgumentParser(prog="embedfleet.exporter.commands.export")
    parser.add_argument("root", type=Path)
    parser.add_argument("--formats", default="", help="separated by commas; none: all that apply")
    parser.add_argument("--quantization", choices=["none", "scalar"], help="not given: as the last export had it")
    flags = parser.parse_args()

    from ..formats.exported_file import ExportedFile

    def say(file: ExportedFile) -> None:
        rows = f"{file.rows:,} row{'s' if file.rows > 1 else ''}, " if file.rows else ""
        sys.stderr.write(f"{flags.root / 'export' / file.name}: {rows}{file.bytes:,} bytes\n")

    formats = [name for one in flags.formats.split(",") if (name := one.strip())]

    def work() -> None:
        from ..export_runtime import ExportRuntime

        ExportRuntime.export_for_local_qdrant(flags.root, formats, flags.quantization, say)

    return serve(work)


if __name__ == "__main__":
    sys.exit(main())
