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
    if not layout.spec.exists() or any(one.query_prompt is not None for one in spec.passes):
        return spec
    try:
        kept = {one.vector: one.query_prompt for one in read_spec(layout).passes}
    except RunDirectoryError:
        return spec  # the run itself reports the damage
    passes = tuple(msgspec.structs.replace(one, query_prompt=kept.get(one.vector)) for one in spec.passes)
    return msgspec.structs.replace(spec, passes=passes)
