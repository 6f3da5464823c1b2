"""The formats that a done run can be exported in."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..errors import UsageError
from .run_spec import Form, RunSpec

FORMATS: dict[str, Form | None] = {
    "jsonl": None,
    "npy": "dense",
    "sparse-jsonl": "sparse",
    "multivector-jsonl": "multivector",
    "metadata": None,
    "parquet": None,
    "upload-script": None,
}
"""The form of vectors that each format needs; None: it needs none."""

_FILES = {
    "jsonl": "points.jsonl",
    "npy": "{}.npy",
    "sparse-jsonl": "{}.sparse.jsonl",
    "multivector-jsonl": "{}.multivector.jsonl",
    "metadata": "metadata.jsonl",
    "upload-script": "upload_to_qdrant.py",
}
"""The file name of each format; with `{}` there is one file for each vector, named after it. `parquet` is not here: the
number of its files depends on the corpus."""

ALL = "all"


def choose_formats(names: Sequence[str], spec: RunSpec, flag: str = "--export") -> tuple[str, ...]:
    """The formats to write, in the order of FORMATS. No names, or `all`: every format that applies to the run.

    `upload-script` adds `jsonl`, whose points it loads. UsageError for a format that is unknown or does not apply.
    """
    forms = {output.form for output in spec.outputs}
    for name in names:
        if name != ALL and name not in FORMATS:
            raise UsageError(f"{flag} {name}: not known; give one or more of {', '.join(FORMATS)}, or all")
        if not _applies(name, forms):
            raise UsageError(f"{flag} {name}: this run has no {FORMATS[name]} vectors; leave it out, or give all")
    chosen = set(names)
    if not chosen or ALL in chosen:
        chosen = {name for name in FORMATS if _applies(name, forms)}
    if "upload-script" in chosen:
        chosen.add("jsonl")
    return tuple(name for name in FORMATS if name in chosen)


def file_names(formats: Iterable[str], spec: RunSpec) -> set[str]:
    """The file names of an export in these formats, with those that every export has, without the parts of a table."""
    found = {"collection.json", "stats.json"}
    for name in _FILES.keys() & set(formats):
        form, pattern = FORMATS[name], _FILES[name]
        found |= {pattern.format(one.vector) for one in spec.outputs if form in (None, one.form)}
    return found


def _applies(name: str, forms: Collection[str]) -> bool:
    needs = FORMATS.get(name)
    return needs is None or needs in forms
