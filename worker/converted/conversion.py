"""Convert a model, compare it with torch, and store it. Importing this module imports torch.

If the model's own ONNX graph will be computed, the conversion has no graph, only other facts about the model.
"""

from __future__ import annotations

import errno
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from ..encoders.base import OutOfMemory, Prepared
from ..encoders.choose import encoder_of
from ..models.loading import describe
from ..models.locate import ModelFiles
from ..models.onnx_graph import find_graph
from ..tokenizing.flat import FlatTokens
from .cache import EXPORTED_FILES, FILES, GRAPH, HEAD, RECORD, REFERENCE, TOKENIZER, Conversions
from .converted_encoder import ENCODERS, Disagrees
from .engines.graph_error import GraphError
from .engines.guarded import says_no_memory
from .engines.openvino_runtime import import_openvino
from .exported import exported_of
from .graph import ModelGraph, cannot_convert
from .padding import INPUTS, padded
from .probe import PROBES, QUESTION, save_probe
from .record import ConvertRequest, ModelRecord, TokenSettings
from .traced_attention import traced_attention

MARGIN = 64 << 20
"""Upper estimate of the bytes that a conversion takes on the disk besides the weights."""


class _Refused(Exception):
    """The model cannot be converted, and another attempt would fail too."""


def convert(request: ConvertRequest) -> None:
    """Store the conversion or its refusal. ModelError or OSError if neither can be."""
    conversions = Conversions(Path(request.folder))
    encoder = encoder_of(request.spec, _files(request), "cpu", request.threads)
    try:
        if reason := cannot_convert(encoder):
            raise _Refused(reason)
        own_graph = request.spec.backend == "onnx"
        _check_room(conversions.folder, 0 if own_graph else encoder.parameters)
        names = EXPORTED_FILES if own_graph else FILES
        conversions.commit(request.key, lambda folder: _write(folder, request, encoder), names)
    except _Refused as refused:
        conversions.refuse(request.key, str(refused))


def _write(folder: Path, request: ConvertRequest, encoder: Any) -> None:
    prepared = _prepared(encoder)
    tokens = prepared.items
    if not isinstance(tokens, FlatTokens):
        raise _Refused("its tokenizer is not the library's alone")
    record = _record(encoder, types=tokens.types is not None)
    if request.spec.backend == "onnx":
        record = _take_graph(folder, encoder, _files(request), record)
    else:
        _save_graph(folder, encoder, record.tokens, tokens)
    (folder / TOKENIZER).write_text(encoder.tokenizer.backend_tokenizer.to_str())
    (folder / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    expected = encoder.compute(prepared, np.arange(len(PROBES), dtype=np.int32))
    save_probe(folder / REFERENCE, tokens, expected)
    try:  # load it as a worker will
        ENCODERS[record.kind](request.spec, _files(request), folder, request.threads, thorough=True)
    except (Disagrees, GraphError) as error:
        raise _Refused(str(error)) from error


def _files(request: ConvertRequest) -> ModelFiles:
    folder, name, revision = request.files
    return ModelFiles(Path(folder), name, revision)


def _prepared(encoder: Any) -> Prepared:
    if encoder.kind == "rerank":
        return encoder.prepare_pairs([(QUESTION, text) for text in PROBES])
    return encoder.prepare(PROBES)


def _take_graph(folder: Path, encoder: Any, files: ModelFiles, record: ModelRecord) -> ModelRecord:
    """Store the weights of the modules that follow the model's own graph. Return the record, which then names that graph."""
    try:
        exported, weights = exported_of(encoder, files.folder, find_graph(files, fetch=False).path)
    except GraphError as error:
        raise _Refused(str(error)) from error
    np.savez(folder / HEAD, allow_pickle=False, **cast("dict[str, Any]", weights))
    return msgspec.structs.replace(record, exported=exported)


def _save_graph(folder: Path, encoder: Any, settings: TokenSettings, tokens: FlatTokens) -> None:
    import torch

    openvino = import_openvino()
    # Texts of different lengths: without a padded one, the graph might have no mask at all.
    examples = tuple(map(torch.from_numpy, padded(tokens, np.array([2, 0], np.int32), settings)))
    shape = openvino.PartialShape([-1, -1])
    inputs = [(name, shape, openvino.Type.i64) for name in INPUTS[: len(examples)]]
    try:
        with torch.no_grad(), traced_attention(encoder.route[0].model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns; its results are compared below
            model = openvino.convert_model(ModelGraph(encoder).eval(), example_input=examples, input=inputs)
        openvino.save_model(model, folder / GRAPH, compress_to_fp16=False)
    except MemoryError:
        raise
    except Exception as error:  # whatever the converter raises for a model that it cannot take
        if says_no_memory(error):  # another attempt may have more
            raise OutOfMemory("memory did not suffice to convert it") from error
        raise _Refused(f"OpenVINO cannot convert it: {type(error).__name__}: {_summary(error)}") from error


def _record(encoder: Any, *, types: bool) -> ModelRecord:
    tokenizer = encoder.tokenizer
    fingerprint = encoder.fingerprint
    masks = [one for one in encoder.route if type(one).__name__ == "MultiVectorMask"]
    kept = {one for mask in masks for one in mask.keep_only_token_ids or ()}
    return ModelRecord(
        kind=encoder.kind,
        fingerprint=fingerprint,
        described=getattr(encoder, "described", None) or describe(encoder.modules),
        prompt=encoder.prompt,
        parameters=encoder.parameters,
        tokens=TokenSettings(
            limit=fingerprint.max_tokens,
            pad=int(tokenizer.pad_token_id),
            truncates_left=tokenizer.truncation_side == "left",
            types=types,
        ),
        most=getattr(encoder, "most", None),
        activation=type(encoder.activation).__name__ if encoder.kind == "rerank" else "",
        skipped=tuple(one for mask in masks if "document" in mask.skiplist_tasks for one in _ids(mask)),
        kept=tuple(sorted(kept)) or None,
        normalizes=getattr(encoder, "normalizes", False),
        special=tuple(getattr(encoder, "special", ())),
    )


def _ids(mask: Any) -> Iterable[int]:
    found = mask._skiplist_ids  # it has no public name
    return () if found is None else found.tolist()


def _check_room(folder: Path, parameters: int) -> None:
    """Raise OSError if the disk is too full: OpenVINO would silently write only what fits."""
    needed, free = 4 * parameters + MARGIN, shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed >> 20:,} MiB are needed, and {free >> 20:,} MiB are free", str(folder))


def _summary(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
