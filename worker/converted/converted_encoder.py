"""Encoders of converted models. They import neither torch nor sentence-transformers, except for token pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from ...protocol.text.query_pairs import split_pair
from ...protocol.wire.arrays import Array
from ..backends.agreement import agree, agreement
from ..encoders.base import (
    WORD_CACHE_OFF,
    DenseResults,
    Encoder,
    IntArray,
    Launched,
    Prepared,
    ScoreResults,
    SparseResults,
    TokenBudget,
    ignore,
    kept_dim,
)
from ..encoders.heads import HeadsResults
from ..encoders.multivector import MultivectorResults, pooled
from ..encoders.sparse import ACTIVE_DIMS, check_most, limited
from ..models.locate import ModelFiles
from ..tokenizing.flat import FlatTokens
from ..tokenizing.texts import Texts
from .cache import RECORD, REFERENCE, TOKENIZER
from .engines.choose import open_engine
from .engines.engine import Engine, Started
from .engines.versions import LIBRARY
from .options import engine_name, fingerprint_of, limit_of, pooling_of
from .padding import padded
from .probe import PROBES, QUESTION, load_probe
from .record import ModelRecord
from .results import ResultOptions, results_of

if TYPE_CHECKING:
    from ..tokenizing.tokenizer import TextTokenizer

STREAM_TOKENS = 1_024
"""Tokens of a micro-batch per stream, as for torch on a CPU."""
MICRO_BATCHES = 2
"""Micro-batches in a batch. With two batches in flight, all streams stay busy."""

FASTER = "this processor has bfloat16: --dtype bfloat16 would take about 0.6 of the time, with cosines above 0.999 of float32's"
"""Reported if no dtype was requested. The share was measured with all-MiniLM-L6-v2 on an AMD EPYC with AVX-512 BF16."""
FAST = 1e11
"""Parameters times tokens that take about a second."""
SHORT = 4
"""How many of the first PROBES are computed with every model, however slow."""


class Disagrees(ModelError):
    """The results of the conversion differ from those of torch."""


class ConvertedEncoder:
    """A conversion as an Encoder, with a subclass for each kind. ModelError for options that the model cannot have,
    Disagrees if it computes other numbers than torch. `thorough`: compare all PROBES, however long that takes."""

    pads = True
    most_streams = 1
    """The engine has streams of its own."""
    batch_tokens = 8_192
    row_bytes = 4

    def __init__(
        self, spec: PassSpec, files: ModelFiles, folder: Path, threads: int, *, thorough: bool = False
    ) -> None:
        self._record = msgspec.json.decode((folder / RECORD).read_bytes(), type=ModelRecord)
        self._folder = folder
        self._limit = limit_of(spec, files.name, self._record)
        self._prompt = spec.prompt if spec.prompt is not None else self._record.prompt
        changes = self._changes(spec, self._record)
        self.fingerprint = fingerprint_of(self._record, files, spec, self._limit, self._prompt, changes)
        self._options = self._result_options(spec)
        self.notify: Callable[[str], None] = ignore
        self._tokenizer = self._tokenizer_of(self._limit)
        self._open = partial(open_engine, self._record, files, folder, threads)
        self._engine: Engine = self._open(self.fingerprint.dtype)
        self._float32 = self._engine if self._engine.dtype == "float32" else None
        self.depth = self._engine.streams + 1
        self.budget = TokenBudget(STREAM_TOKENS, STREAM_TOKENS)
        self.batch_tokens = max(self.batch_tokens, MICRO_BATCHES * STREAM_TOKENS * self._engine.streams)
        self._agreement = self._probe(thorough=thorough)
        library = LIBRARY[engine_name(self._record)]
        by = f"{library} {self.fingerprint.versions[library]} ({self._agreement:.6f} of torch)"
        self._placement = f"cpu {self._engine.dtype}, {by}"
        self.notes = (f"computed by {by}",)
        if spec.chosen_dtype and self._engine.has_bfloat16:
            self.notes += (FASTER,)

    def hydrate(self) -> str:
        """The weights are on the device already: a CPU's memory is the host's."""
        return self._placement

    def prepare(self, texts: Sequence[str]) -> Prepared:
        return _prepared(self._tokenizer.encode(Texts.of(texts), None, self._prompt))

    def launch(self, prepared: Prepared, rows: IntArray) -> Launched:
        """Begin to compute these rows. Raises OutOfMemory."""
        return self._launched(self._engine, prepared.items, rows, self._options)

    def compute(self, prepared: Prepared, rows: IntArray) -> Any:
        """The results of these rows. Raises OutOfMemory."""
        return self.launch(prepared, rows).collect()

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        if self._float32 is None:
            self._float32 = self._open("float32")
        return self._launched(self._float32, prepared.items, rows, self._options).collect()

    def _changes(self, _spec: PassSpec, _record: ModelRecord) -> dict[str, Any]:
        """The fields of the fingerprint that options of the pass change."""
        return {}

    def _result_options(self, _spec: PassSpec) -> ResultOptions:
        return ResultOptions()

    def _tokenizer_of(self, limit: int) -> TextTokenizer:
        from ..tokenizing.tokenizer import open_tokenizer

        return open_tokenizer(
            self._folder / TOKENIZER,
            limit,
            side="left" if self._record.tokens.truncates_left else "right",
            on_difference=lambda detail: self.notify(f"{WORD_CACHE_OFF}: {detail}"),
        )

    def _launched(self, engine: Engine, tokens: FlatTokens, rows: IntArray, options: ResultOptions) -> Launched:
        inputs = padded(tokens, rows, self._record.tokens)
        return LaunchedConversion(engine.start(inputs), inputs, self._record, options)

    def _probe(self, *, thorough: bool) -> float:
        """How far results agree with those of torch. Disagrees if that is too little, or if the tokens differ."""
        from ..tokenizing.checked import first_difference

        kind, probes, seconds = self._record.kind, Texts.of(PROBES), None
        if kind == "rerank":
            probes, seconds = Texts.of([QUESTION] * len(PROBES)), probes
        tokens, theirs = load_probe(self._folder / REFERENCE, kind)
        own = self._tokenizer_of(self._record.tokens.limit).encode(probes, seconds, self._record.prompt)
        if first_difference(own, tokens) is not None:
            raise Disagrees("its tokenizer gives other tokens without transformers")
        options = ResultOptions(dim=self._record.fingerprint.dim, most=self._record.most)
        found: list[float] = []
        for rows in self._probe_batches(own.lengths, thorough=thorough):
            ours = self._launched(self._engine, tokens, np.array(rows, np.int32), options).collect()
            found.append(agreement(ours, [theirs[row] for row in rows] if isinstance(theirs, list) else theirs[rows]))
            if not agree(found[-1], ours, self._engine.dtype):
                raise Disagrees(f"its results agree to {found[-1]:.6f} only with those of torch")
        return min(found)

    def _probe_batches(self, lengths: IntArray, *, thorough: bool) -> list[list[int]]:
        """The PROBES as micro-batches: one alone, others padded together, and the longest ones if that is fast."""
        most = FAST / self._record.parameters
        short = [row for row, length in enumerate(lengths.tolist()) if thorough or row < SHORT or length <= most]
        return [[1], short[:-1], short[-1:]]


@dataclass(frozen=True, slots=True)
class LaunchedConversion:
    """A micro-batch that an engine computes."""

    _started: Started
    _inputs: list[Array]
    _record: ModelRecord
    _options: ResultOptions

    def collect(self) -> Any:
        """The results of its rows. Raises OutOfMemory."""
        return results_of(self._record, self._started.result(), self._inputs, self._options)


class ConvertedDense(DenseResults, ConvertedEncoder):
    """`compute` returns (rows, dim) float32."""

    def _changes(self, spec: PassSpec, record: ModelRecord) -> dict[str, Any]:
        dim = kept_dim(spec, record.fingerprint.dim)
        self.row_bytes = 4 * dim
        return {"dim": dim}

    def _result_options(self, _spec: PassSpec) -> ResultOptions:
        return ResultOptions(dim=self.fingerprint.dim)


class ConvertedSparse(SparseResults, ConvertedEncoder):
    """`compute` returns, for each row, (indices uint32 sorted, values float32 other than 0)."""

    def _changes(self, spec: PassSpec, record: ModelRecord) -> dict[str, Any]:
        check_most(spec.max_active_dims)
        self._most = spec.max_active_dims if spec.max_active_dims is not None else record.most
        self.row_bytes = 8 * min(self._most or ACTIVE_DIMS, ACTIVE_DIMS)
        return {"pooling": limited(record.described, self._most)}

    def _result_options(self, _spec: PassSpec) -> ResultOptions:
        return ResultOptions(most=self._most)


class ConvertedMultivector(MultivectorResults, ConvertedEncoder):
    """`compute` returns a list of (tokens, dim) float32."""

    def _changes(self, spec: PassSpec, record: ModelRecord) -> dict[str, Any]:
        tokens = min(self._limit, 256)
        self.row_bytes = int(2 * record.fingerprint.dim * tokens / spec.pool_factor)
        units = record.normalizes or spec.pool_factor != 1
        return {"pooling": pooled(record.described, spec.pool_factor), "normalized": units}

    def _result_options(self, spec: PassSpec) -> ResultOptions:
        return ResultOptions(pooling=pooling_of(spec))


class ConvertedHeads(HeadsResults, ConvertedEncoder):
    """bge-m3: `compute` returns a list of M3Row."""

    def _changes(self, spec: PassSpec, record: ModelRecord) -> dict[str, Any]:
        dim, width = kept_dim(spec, record.fingerprint.dim), record.fingerprint.token_dim
        self.row_bytes = 4 * dim + 8 * 128 + 2 * width * min(self._limit, 256) // spec.pool_factor
        return {"dim": dim, "pooling": pooled(record.described, spec.pool_factor)}

    def _result_options(self, spec: PassSpec) -> ResultOptions:
        return ResultOptions(dim=self.fingerprint.dim, pooling=pooling_of(spec))


class ConvertedScores(ScoreResults, ConvertedEncoder):
    """`compute` returns (rows,) float32. A text is a query and a chunk in one."""

    def prepare(self, texts: Sequence[str]) -> Prepared:
        pairs = [split_pair(text) for text in texts]
        queries, chunks = (Texts.of([pair[side] for pair in pairs]) for side in (0, 1))
        return _prepared(self._tokenizer.encode(queries, chunks, self._prompt))


def _prepared(tokens: FlatTokens) -> Prepared:
    return Prepared(tokens.lengths, tokens.truncated, tokens, tokens.cut)


ENCODERS: dict[str, Callable[..., Encoder]] = {
    "dense": ConvertedDense,
    "sparse": ConvertedSparse,
    "multivector": ConvertedMultivector,
    "bge-m3": ConvertedHeads,
    "rerank": ConvertedScores,
}
"""By kind."""
