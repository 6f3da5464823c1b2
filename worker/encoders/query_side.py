"""Encode queries with a document encoder: by its query prompt, query route, query expansion or BM25 query weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from ...protocol.wire.arrays import Array
from .base import BoolArray, Encoder, Immediate, IntArray, Prepared, ignore
from .text_model import TextModel


class QueryEncoder(Encoder, Protocol):
    """An encoder that also encodes queries; `queries` returns what `compute` does."""

    def queries(self, texts: Sequence[str], prompt: str | None, /) -> Any:
        """The results of these queries, in order; None takes the model's own prompt."""
        ...


class QuerySide(Immediate):
    """An Encoder for queries, with `prompt` before them; None takes the model's own.

    `encode_query` tokenizes again, which is cheap: queries are short and not many.
    """

    def __init__(self, encoder: QueryEncoder, prompt: str | None) -> None:
        self._encoder, self._prompt = encoder, prompt
        ours = encoder.fingerprint
        if prompt is None:
            prompt = encoder.query_prompt() if isinstance(encoder, TextModel) else ours.prompt
        self.fingerprint = msgspec.structs.replace(ours, prompt=prompt, pooling=f"{ours.pooling}, of a query")
        self.batch_tokens, self.row_bytes = encoder.batch_tokens, encoder.row_bytes
        self.budget, self.pads = encoder.budget, encoder.pads
        self.most_streams = 1
        # A tokenizer of its own: `encode_query` changes the settings of the model's tokenizer in another thread.
        self._count = encoder.counter(prompt) if isinstance(encoder, TextModel) else encoder.prepare

    @property
    def notify(self) -> Callable[[str], None]:
        """As in Notifies; it is the encoder's."""
        return self._encoder.notify if isinstance(self._encoder, TextModel) else ignore

    @notify.setter
    def notify(self, notify: Callable[[str], None]) -> None:
        if isinstance(self._encoder, TextModel):
            self._encoder.notify = notify

    def hydrate(self) -> str:
        placement, model = self._encoder.hydrate(), self._encoder
        self.budget, self.pads = model.budget, model.pads  # known only now
        if isinstance(model, TextModel) and not model.packs_queries:
            self.pads, placement = True, f"{model.place}, torch"
        return placement

    def prepare(self, texts: Sequence[str]) -> Prepared:
        counted = self._count(texts)
        return Prepared(counted.lengths, counted.truncated, list(texts), counted.cut)

    def compute(self, prepared: Prepared, rows: IntArray) -> Any:
        return self._queries(self._encoder, prepared, rows)

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        if not isinstance(self._encoder, TextModel):
            return self.compute(prepared, rows)
        return self._queries(self._encoder.exact(), prepared, rows)

    def fits(self, part: Any, count: int, /) -> bool:
        return self._encoder.fits(part, count)

    def gather(self, count: int, parts: Sequence[tuple[IntArray, Any]]) -> dict[str, Array]:
        return self._encoder.gather(count, parts)

    def unusable(self, part: Any) -> BoolArray:
        return self._encoder.unusable(part)

    def empty_too_large(self, part: Any, /) -> dict[int, str]:
        return self._encoder.empty_too_large(part)

    def _queries(self, encoder: Any, prepared: Prepared, rows: IntArray) -> Any:
        texts = [prepared.items[row] for row in rows.tolist()]

        def work() -> Any:
            return encoder.queries(texts, self._prompt)

        return self._encoder.guarded(work) if isinstance(self._encoder, TextModel) else work()
