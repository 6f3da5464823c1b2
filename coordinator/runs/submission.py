"""Checks of a submission before its run is queued. They read files and folders: call them on a background thread."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec

from ...protocol.errors import UsageError
from ...protocol.object_storage.address import is_address
from ...protocol.source.check import was_read
from ...protocol.source.corpus import plain_bytes
from ...protocol.source.remote_corpus import check_readable
from ...protocol.spec.fake_models import PREFIX
from ...protocol.spec.run_spec import CPU_KINDS, Backend, PassSpec, RunSpec
from ...protocol.text.token_estimates import BYTES_PER_TOKEN
from ...protocol.wire.control import Submit
from ...protocol.wire.devices import Device
from .model_checks import passes_to_check
from .sparse_placement import SparsePlacement, place_sparse

MOST_BYTES = 1 << 40
"""Of a source, to estimate its tokens by: more are not added up."""
PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime"}
"""What a choice of --backend needs."""
LONGEST_EXPECTED = 1_000
"""Tokens of a chunk, at most, where --limit says how many there are."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Where sparse models run, and the passes whose models are to be checked."""

    placed: SparsePlacement
    asked: Sequence[PassSpec]


def look_at(request: Submit, devices: Sequence[Device], *, models: bool, source: bool = False) -> Findings:
    """Check a submission; UsageError if no run can be made of it. Without `models`, no model is checked: they are elsewhere.

    With `source`, a source elsewhere is looked at by this process's keys: `embedfleet run` has done so before.
    """
    spec = request.spec
    check_extras(spec, request.options.backend)
    if source and is_address(spec.source) and not was_read(Path(request.out), spec.source):
        check_readable(spec.source, spec.text_field)
    options = msgspec.structs.replace(request.options, expected_tokens=_expected_tokens(request))
    placed = place_sparse(request.spec, options, devices, Path(request.out))
    return Findings(placed, passes_to_check(request) if models else ())


def _expected_tokens(request: Submit) -> int:
    """Estimated tokens of the source, the client's own if it gives some; 0: not known, or no pass depends on them."""
    spec = request.spec
    if request.options.expected_tokens:
        return request.options.expected_tokens
    if request.options.backend != "auto" or all(one.model.startswith(PREFIX) for one in spec.passes):
        return 0
    size = plain_bytes(spec.source, MOST_BYTES, exclude=Path(request.out)) or 0
    rows = sys.maxsize if spec.limit is None else spec.limit
    return min(size // BYTES_PER_TOKEN, rows * LONGEST_EXPECTED)


def check_extras(spec: RunSpec, backend: Backend) -> None:
    """Raise UsageError if a package that the run needs is not installed."""
    edge = spec.index == "edge" or any(one.kind == "bm25" for one in spec.passes)
    if edge and find_spec("qdrant_edge") is None:
        raise UsageError(
            "the searchable index and BM25 need qdrant-edge-py: pip install 'embedfleet[qdrant]', "
            "or give --index none and no --sparse bm25"
        )
    real = [one.model for one in spec.passes if one.kind not in CPU_KINDS and not one.model.startswith(PREFIX)]
    if backend in PACKAGES and real and find_spec(PACKAGES[backend]) is None:
        raise UsageError(f"--backend {backend} needs it: pip install 'embedfleet[{backend}]'")
    if real and find_spec("sentence_transformers") is None:
        raise UsageError(f"model {real[0]} needs torch and sentence-transformers: pip install 'embedfleet[torch]'")
