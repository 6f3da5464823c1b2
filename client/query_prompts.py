"""The prompts that queries get: a command that has none and asks nothing leaves those that stand in the run directory."""

from __future__ import annotations

import msgspec

from ..protocol.errors import RunDirectoryError
from ..protocol.layout import RunLayout
from ..protocol.run_json import read_spec
from ..protocol.spec import RunSpec


def keep_query_prompts(spec: RunSpec, layout: RunLayout) -> RunSpec:
    """`spec` with the query prompts of the run that stands there, where `spec` has none.

    For a command without queries: otherwise embedding more of a corpus would change what searches ask, while the candidates
    stay those of the prompt.
    """
    if not layout.spec.exists() or any(one.query_prompt is not None for one in spec.passes):
        return spec
    try:
        kept = {one.vector: one.query_prompt for one in read_spec(layout).passes}
    except RunDirectoryError:
        return spec  # the run itself says what is wrong
    passes = tuple(msgspec.structs.replace(one, query_prompt=kept.get(one.vector)) for one in spec.passes)
    return msgspec.structs.replace(spec, passes=passes)
