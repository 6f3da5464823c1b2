"""Flags of a run: the source, and what of its records is read."""

from __future__ import annotations

from typing import Annotated

import typer

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="JSONL (.gz, .zst), Parquet, a folder, s3://, gs://, az://, https://, hf://, or - for stdin.",
    ),
]
TextField = Annotated[
    str | None,
    typer.Option(metavar="F", help="Field of the text, or path (a.b). Default: text, page_content or content."),
]
IdField = Annotated[
    str | None,
    typer.Option(metavar="F", help="Field of the id; none numbers the chunks. Default: chunk_id, id, _id, …"),
]
TitleField = Annotated[
    str | None, typer.Option(metavar="F", help="Field put before the text; none leaves titles out. Default: title.")
]
Limit = Annotated[int | None, typer.Option(metavar="N", help="Stop after N chunks.")]
