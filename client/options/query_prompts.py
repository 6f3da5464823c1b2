"""Keep the run directory's query prompts in a command without `--queries` and `--query-prompt`."""

from __future__ import annotations

import msgspec

from ...protocol.errors import RunDirectoryError
from ...protocol.run_directory.layout import RunLayout
from ...protocol.run_directory.run_json import read_spec
from ...protocol.spec.run_spec import RunSpec


def keep_query_prompts(spec: RunSpec, layout: RunLayout) -> RunSpec:
    """`spec` with the query prompts of the run in `layout`, if `spec` has none. For commands without queries.

    Without this, embedding more of a corpus would change the prompt of searches, while the candidates keep the old one.
    """
    if not layout.spec.exists():
        return spec
    try:
        return with_query_prompts(spec, read_spec(layout))
    except RunDirectoryError:
        return spec  # the run itself reports the damage


def with_query_prompts(spec: RunSpec, before: RunSpec) -> RunSpec:
    """`spec` with the query prompts of `before`, if `spec` has none."""
    if any(prompt is not None for prompt in spec.query_prompts.values()):
        return spec
    kept = before.query_prompts
    passes = tuple(msgspec.structs.replace(one, query_prompt=kept.get(one.vector)) for one in spec.passes)
    return msgspec.structs.replace(spec, passes=passes)
