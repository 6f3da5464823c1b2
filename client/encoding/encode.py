"""Encode: a callable class that adds vectors to batches of texts: for `ray.data.Dataset.map_batches`, or for any loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import pyarrow as pa

from ...protocol.errors import UsageError
from ...protocol.spec.run_spec import CPU_KINDS, Backend, PassSpec, RunSpec, check_spec
from ...protocol.text.preprocessing import preprocess
from ...protocol.text.query_pairs import join_pair
from ...protocol.text.refused_texts import text_fault
from ...protocol.wire.devices import Device, common_dtype
from ..options.embedder_options import checked, names_in, spec_options
from ..options.spec_builder import build_spec, make_pass
from .batches import add_columns, column_names, read_texts
from .own_device import DeviceKind, own_device
from .pass_encoder import PassEncoder
from .results import Results

OPTIONS = (
    "dtype",
    "max_tokens",
    "prompt",
    "trust_remote_code",
    "max_active_dims",
    "pool_factor",
    "truncate_dim",
    "normalize",
)
"""Flags of a run that are options here."""
NO_TEXT = "no text"


class Encode:
    """Adds the vectors of models to batches of rows.

    `dense`, `sparse`, `multivector` and `heads` name models as the flags of `embedfleet run` do: one name, or a list. `rerank`
    names a cross-encoder, which scores each row's `query` with its `text`. `sparse="bm25"` needs `average_length`, the
    average number of terms in a text (from `embedfleet fit`). `options` are dtype, max_tokens, prompt, trust_remote_code,
    max_active_dims, pool_factor, truncate_dim and normalize.

    `text`, `title` and `query` name columns; a title is put before the text. `error` is the column that gets the reason for a
    row without a vector, else null. `device` is `auto` (the GPU that Ray assigns, else the CPU), `cpu` or `cuda`; `threads` are
    its processor threads. `batch_timeout` and `load_timeout` are limits in seconds.

    Each model has a worker process of its own, as in a run. It ends with this object or with its process. Raises an
    EmbedfleetError that names the remedy.
    """

    def __init__(
        self,
        *,
        dense: str | Sequence[str] = (),
        sparse: str | Sequence[str] = (),
        multivector: str | Sequence[str] = (),
        heads: str | Sequence[str] = (),
        rerank: str | None = None,
        text: str = "text",
        title: str | None = None,
        query: str = "query",
        error: str = "error",
        average_length: float | None = None,
        backend: Backend = "auto",
        device: DeviceKind = "auto",
        threads: int | None = None,
        batch_timeout: float | None = None,
        load_timeout: float | None = None,
        **options: Any,
    ) -> None:
        self._text, self._title, self._query, self._error = text, title, query, error
        models = {"dense": dense, "sparse": sparse, "multivector": multivector, "heads": heads}
        passes = make_passes(models, rerank, average_length, options)
        chosen = own_device(
            checked("device", device, DeviceKind),
            checked("threads", threads, int | None),
            needs_gpu=any(not _is_light(one) for one in passes),
        )
        limits = {"batch_timeout": batch_timeout, "load_timeout": load_timeout}
        self._passes = passes
        self._encoders = [
            PassEncoder(_prepared(one, chosen, checked("backend", backend, Backend)), _placed(one, chosen), **limits)
            for one in passes
        ]
        try:
            for encoder in self._encoders:
                encoder.ready.result()
        except BaseException:
            self.close(wait=False)
            raise

    def __call__(self, batch: Any) -> Any:
        """The batch, an Arrow table, a dict of numpy arrays or a pandas DataFrame, with a column for each vector, named as in
        a table of a run (`NAME`; `NAME.indices` and `NAME.values`), and the column of reasons; null without a value."""
        names = column_names(batch)
        texts, faults = self._texts(batch)
        rows = [row for row, reason in enumerate(faults) if reason is None]
        kept = [texts[row] for row in rows]
        pairs = self._pairs(batch, texts, rows) if any(one.kind == "rerank" for one in self._passes) else []
        answers = [
            encoder.encode(pairs if one.kind == "rerank" else kept)
            for one, encoder in zip(self._passes, self._encoders, strict=True)
        ]
        columns = self._columns(answers, rows, faults)
        if taken := [name for name in columns if name in names]:
            raise UsageError(
                f"the batch has a column {taken[0]!r} already; drop it, or give another name: NAME=MODEL for a vector, error=… "
                "for the reasons"
            )
        return add_columns(batch, columns)

    def close(self, *, wait: bool = True) -> None:
        """End the workers. With `wait`, return once they have ended; a worker that is loading its model loads it first."""
        for encoder in self._encoders:
            encoder.close(wait=wait)

    def _texts(self, batch: Any) -> tuple[list[str], list[str | None]]:
        """The preprocessed texts, and for each the reason why it cannot be encoded, or None."""
        texts, faults = list[str](), list[str | None]()
        found = read_texts(batch, self._text, "text")
        titles = read_texts(batch, self._title, "title") if self._title is not None else [None] * len(found)
        for raw, title in zip(found, titles, strict=True):
            text = preprocess(f"{title} {raw}" if title and not title.isspace() else raw) if raw is not None else ""
            texts.append(text)
            faults.append(NO_TEXT if raw is None else text_fault(text.encode()))
        return texts, faults

    def _pairs(self, batch: Any, texts: Sequence[str], rows: Sequence[int]) -> list[str]:
        queries = read_texts(batch, self._query, "query")
        return [join_pair(preprocess(queries[row] or ""), texts[row]) for row in rows]

    def _columns(
        self, answers: Sequence[Future[Results]], rows: Sequence[int], faults: list[str | None]
    ) -> dict[str, Any]:
        """Every column, for all rows of the batch: `rows` are those that were encoded."""
        places: Any = pa.array(_places(rows, len(faults)), pa.int64()) if len(rows) < len(faults) else None
        columns, reasons = dict[str, Any](), [[one] if one else list[str]() for one in faults]
        for answer in answers:
            results = answer.result()
            for name, array in results.columns().items():
                columns[name] = array if places is None else array.take(places)
            for vector, found in results.reasons().items():
                for row, reason in sorted(found.items()):
                    reasons[rows[row]].append(f"{vector}: {reason}")
        columns[self._error] = pa.array(["; ".join(one) or None for one in reasons], pa.string())
        return columns


def make_passes(
    models: Mapping[str, Any], rerank: str | None, average_length: float | None, options: Mapping[str, Any]
) -> list[PassSpec]:
    """The passes for these models. UsageError for what cannot be computed from texts alone."""
    if unknown := [name for name in options if name not in OPTIONS]:
        raise UsageError(f"{', '.join(unknown)}: no option of Encode; it takes {', '.join(OPTIONS)}")
    fields = spec_options(options)
    named = {name: names_in(name, value) for name, value in models.items()}
    if "metadata" in named["sparse"]:
        raise UsageError(
            "sparse='metadata' takes weights from the metadata of chunks, which only `embedfleet run` reads"
        )
    passes = list(build_spec("-", **named, **fields).passes) if any(named.values()) else []
    if rerank is not None:
        passes.append(make_pass("rerank", checked("rerank", rerank, str), fields))
    if not passes:
        raise UsageError("nothing to compute: name a model with dense=, sparse=, multivector=, heads= or rerank=")
    if any(one.kind == "bm25" for one in passes):
        if average_length is None or not average_length > 0:
            raise UsageError(
                "sparse='bm25' needs average_length, the terms of a text on average: `embedfleet fit` measures it"
            )
        average = float(average_length)
        passes = [msgspec.structs.replace(one, average_length=average) if one.kind == "bm25" else one for one in passes]
    check_spec(RunSpec(source="-", passes=tuple(passes)))
    return passes


def _is_light(one: PassSpec) -> bool:
    """Whether the pass needs no GPU."""
    return one.kind in CPU_KINDS or one.model.startswith("fake:")


def _placed(one: PassSpec, device: Device) -> Device:
    """The device for a pass: the CPU for one that never uses a GPU."""
    if one.kind in CPU_KINDS and device.kind == "cuda":
        return own_device("cpu", 1, needs_gpu=False)
    return device


def _prepared(one: PassSpec, device: Device, backend: Backend) -> PassSpec:
    """The pass as a coordinator sends it to a worker on this device."""
    if one.kind in CPU_KINDS:
        return one
    is_free = one.dtype == "auto" and not one.model.startswith("fake:")
    dtype = common_dtype([device]) if is_free else one.dtype
    return msgspec.structs.replace(one, dtype=dtype, backend=backend, chosen_dtype=one.dtype == "auto")


def _places(rows: Sequence[int], count: int) -> list[int | None]:
    """For each row of the batch its place among `rows`; None for a row that is not in `rows`."""
    found: list[int | None] = [None] * count
    for place, row in enumerate(rows):
        found[row] = place
    return found
