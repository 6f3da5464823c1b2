"""The spec that the flags of `embedfleet run` describe, with paths made absolute and what is plainly wrong refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..protocol.errors import SourceError, UsageError
from ..protocol.spec import PassSpec, RunSpec, check_spec, vector_name


def build_spec(
    source: str,
    dense: list[str],
    sparse: list[str],
    *,
    text_field: str | None,
    id_field: str | None,
    limit: int | None,
    index: Any,
    dtype: Any,
    max_tokens: int | None,
    prompt: str | None,
    trust_remote_code: bool,
) -> RunSpec:
    """Check the flags and build the spec; UsageError or SourceError names the flag and the remedy."""
    if source != "-":
        path = Path(source).expanduser()
        if not path.exists():
            raise SourceError(f"source {source}: no such file or folder")
        source = str(path.absolute())
    passes = [
        PassSpec(
            vector=vector_name("dense", model),
            kind="dense",
            model=_absolute(model),
            dtype=dtype,
            max_tokens=max_tokens,
            prompt=prompt,
            trust_remote_code=trust_remote_code,
        )
        for model in dense
    ]
    for model in sparse:
        if model != "bm25":
            raise UsageError(f"--sparse {model}: this version computes --sparse bm25")
        passes.append(PassSpec(vector=vector_name("bm25", model), kind="bm25", model=model))
    spec = RunSpec(
        source=source, passes=tuple(passes), text_field=text_field, id_field=id_field, limit=limit, index=index
    )
    check_spec(spec)
    return spec


def _absolute(model: str) -> str:
    """A local folder as an absolute path; anything else as it is."""
    path = Path(model).expanduser()
    return str(path.absolute()) if path.is_dir() else model
