"""Base classes for encoders of real models: loading, tokenizing, the forward pass.

sentence-transformers loads the model, and is the reference for its numbers. It computes forward pass and pooling where texts
have to be padded; `worker/backends` computes them without padding. Tokenizing, sorting and batching are done here.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...protocol.spec import catalog
from ...protocol.spec.fingerprint import Fingerprint
from ...protocol.spec.run_spec import PassSpec
from ..backends.choice import ENGINES, PackedChoice
from ..backends.cpu_linear import use_onednn
from ..device.streams import most_streams, numbers_per_token
from ..models import loading
from ..models.identity import identity
from ..models.kind_check import check_kind
from ..models.locate import ModelFiles
from ..models.text_limits import LONGEST, limit_inputs, query_limit
from ..models.texts import assumed_pooling, document_prompt
from ..models.weights_digest import hash_weights
from .base import WORD_CACHE_OFF, IntArray, Prepared, ignore
from .tokenizing import ModelTokenizer, estimate, is_plain_text
from .torch_model import CPU_BUDGET, TorchModel

if TYPE_CHECKING:  # it imports torch
    from ..backends.heads import Packed

MICRO_BATCHES = 2
"""For each thread, in a batch: two batches in hand keep all streams at work."""


class TextModel(TorchModel):
    """The constructor loads it to host memory; `device` is `cpu` or `cuda`. ModelError if it cannot be loaded."""

    family = "SentenceTransformer"
    """The class of sentence-transformers that loads it and is the reference for its numbers."""
    kind = "dense"
    """The kind of its passes."""
    MODULES = ("_model", "_parts", "_route", "_first")
    task: str | None = None
    """`query` or `document`, for models that encode them differently."""
    packs_queries = False
    """Whether queries are computed as texts are, without padding where that is so. sentence-transformers pads them."""
    fingerprint: Fingerprint

    def __init__(self, spec: PassSpec, files: ModelFiles, device: str, threads: int) -> None:
        torch = loading.import_torch()
        super().__init__(torch, device)
        self._files = files
        torch.set_num_threads(threads)
        check_kind(self.kind, files.folder, files.name)
        self._dtype_name = spec.dtype if spec.dtype != "auto" else loading.natural_dtype(torch, device)
        self._dtype: Any = getattr(torch, self._dtype_name)
        self._model: Any = loading.load(self.family, spec, files, self._dtype)
        loading.ensure_padding(self._model, files)
        self._parts: list[Any] = [self._model]
        self._own_code = spec.trust_remote_code
        self._entry = catalog.find(files.name)
        self._prompt = spec.prompt if spec.prompt is not None else self._own_prompt()
        self._side: dict[str, Any] = (
            {"task": self.task} if self.task is not None and loading.has_sides(self._model) else {}
        )
        self._route: list[Any] = loading.modules_of(self._model, self._side.get("task"))
        self._first: Any = self._route[0]
        self._tokenizer: Any = getattr(self._first, "tokenizer", None)
        self._tokenizes = is_plain_text(self._first, self._tokenizer)
        self._own_tokenizing = threading.Lock()
        """For a model that tokenizes texts itself: its tokenizer may change its settings meanwhile, for all streams."""
        # Single texts need no token types: a model with a type table assumes 0. A model without one may misuse them: GPT-2
        # embeds them as words.
        self._types_are_zero = any("token_type" in name for name, _ in self._first.named_parameters())
        self._max_tokens = limit_inputs(
            torch,
            self._first,
            loading.input_modules(self._model),
            name=files.name,
            asked=spec.max_tokens,
            known=self._entry.max_tokens if self._entry is not None else None,
            documents=self.task is not None,
        )
        self.notify: Callable[[str], None] = ignore
        self._texts = self._open(self._tokenizer, self._max_tokens) if self._tokenizes else None
        self._prompt_tokens = self._excluded_prompt()
        self.batch_tokens = 65_536 if device == "cuda" else max(8_192, MICRO_BATCHES * CPU_BUDGET.ceiling * threads)
        if device == "cpu" and spec.backend not in ENGINES:  # which take the model's own layers
            use_onednn(torch, self._model)
        self._expected_tokens = spec.expected_tokens
        self._choice = PackedChoice(spec.backend, files.name, self._packed_form)

    @property
    def most_streams(self) -> int:
        """How many forward passes may overlap, by the modules and by the memory that the longest micro-batch takes."""
        if self._device.type == "cuda":
            return 1
        tokens = max(self.budget.ceiling, min(self._max_tokens, LONGEST))
        modules = (one for part in self._parts for one in part.modules())
        return most_streams(modules, self._numbers_per_token() * tokens)

    @property
    def route(self) -> Sequence[Any]:
        """The modules of sentence-transformers that a document passes through."""
        return self._route

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers; None if the model tokenizes texts itself."""
        return self._tokenizer if self._tokenizes else None

    @property
    def takes_tasks(self) -> bool:
        """Whether modules of another package take a task."""
        return self.task is not None and not self._side

    @property
    def modules(self) -> Sequence[Any]:
        """All modules of sentence-transformers, with those of every route."""
        return list(self._model)

    @property
    def prompt(self) -> str:
        """What stands before each document."""
        return self._prompt

    def _packed_form(self) -> Packed | str:
        """The model's forward pass without padding, or why there is none."""
        if not self._tokenizes:
            return "it tokenizes texts itself"
        if self.takes_tasks:
            return "its modules take a task of their own"
        return self._packed_head()

    def _packed_head(self) -> Packed | str:
        """As `_packed_form`, for a model that passes its texts unchanged to a tokenizer."""
        raise NotImplementedError

    def _own_prompt(self) -> str:
        """The model's own prompt for documents."""
        known = self._entry.document_prompt if self._entry is not None else ""
        return document_prompt(self._files.folder, self._model.prompts, known)

    def _query_prompt(self, prompt: str | None) -> str | None:
        """The prompt to pass to `encode_query`; None leaves the choice to the model."""
        known = self._entry.query_prompt if self._entry is not None and not self._model.prompts.get("query") else None
        return prompt if prompt is not None else known

    def query_prompt(self) -> str:
        """The model's query prompt; as in `encode_query`, never the default prompt."""
        chosen = self._query_prompt(None)
        return chosen if chosen is not None else self._model.prompts.get("query") or ""

    def counter(self, prompt: str) -> Callable[[Sequence[str]], Prepared]:
        """A function that counts the tokens of queries after `prompt`. It has its own tokenizer, so it may run at any time."""
        first = loading.modules_of(self._model, "query" if self._side else None)[0]
        tokenizer: Any = getattr(first, "tokenizer", None)
        if not is_plain_text(first, tokenizer):
            return lambda texts: estimate(self._max_tokens, texts, prompt=prompt)
        apart, limit = copy.deepcopy(tokenizer), query_limit(first, min(first.max_seq_length or LONGEST, LONGEST))
        counted = self._open(apart, limit)
        return lambda texts: counted.prepare(texts, prompt=prompt)

    def _make_fingerprint(self, dim: int, normalized: bool, pooling: str) -> Fingerprint:
        weights, weights_before = hash_weights(self._files.folder, own_code=self._own_code)
        return Fingerprint(
            model=self._files.name,
            revision=self._files.revision,
            weights=weights,
            weights_before=weights_before,
            files=identity(self._files.folder, own_code=self._own_code),
            dtype=self._dtype_name,
            max_tokens=self._max_tokens,
            prompt=self._prompt,
            pooling=pooling,
            dim=dim,
            normalized=normalized,
            assumed=assumed_pooling(self._files.folder, self.kind, loading.describe(self._model)),
            query_prompt=self.query_prompt(),
            versions=loading.versions(),
        )

    def _open(self, tokenizer: Any, limit: int) -> ModelTokenizer:
        return ModelTokenizer(
            tokenizer,
            limit,
            types_are_zero=self._types_are_zero,
            on_difference=lambda detail: self.notify(f"{WORD_CACHE_OFF}: {detail}"),
        )

    def _tokenize(self, texts: Sequence[str], seconds: Sequence[str] | None = None, prompt: str = "") -> Prepared:
        """Tokenize texts with the prompt before them, or pairs of them and `seconds`."""
        if not self._tokenizes or self._texts is None:
            return estimate(self._max_tokens, texts, seconds, prompt)
        return self._texts.prepare(texts, seconds, prompt)

    def _features(self, prepared: Prepared, rows: IntArray, prompt: str) -> dict[str, Any]:
        if not self._tokenizes or self._texts is None:
            chosen = [prepared.items[row] for row in rows.tolist()]
            with self._own_tokenizing:
                return self._model.preprocess(chosen, prompt=prompt or None, **self._side)
        padded = self._texts.padded(prepared, rows)
        features: dict[str, Any] = {name: self._torch.from_numpy(array) for name, array in padded.items()}
        if self._side:
            features["modality"] = "text"  # as `preprocess` does, for routers that depend on it
        if self._prompt_tokens:
            features["prompt_length"] = self._prompt_tokens
        return features

    def _outputs(self, prepared: Prepared, rows: IntArray, prompt: str) -> dict[str, Any]:
        """What the model computes for these rows, on the device."""
        if self._choice.packed is not None and self._texts is not None:
            return self._choice.packed(self._texts.packed(prepared, rows))
        return self._padded(prepared, rows, prompt)

    def _padded(self, prepared: Prepared, rows: IntArray, prompt: str) -> dict[str, Any]:
        features = self._features(prepared, rows, prompt)
        return self._forward(
            {
                name: value.to(self._device) if isinstance(value, self._torch.Tensor) else value
                for name, value in features.items()
            }
        )

    def _forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return self._model(features, **self._side)

    def _shared_with_copies(self) -> list[Any]:
        tokenizers = (getattr(one, "tokenizer", None) for one in loading.input_modules(self._model))
        return [one for one in tokenizers if one is not None]

    def _numbers_per_token(self) -> int:
        """Numbers that a forward pass holds for a token at the same time, estimated."""
        return numbers_per_token(self._first)

    def _excluded_prompt(self) -> int:
        """Tokens of the prompt that the pooling must leave out; 0 if it pools over all tokens."""
        if not self._prompt or not self._tokenizes or all(getattr(one, "include_prompt", True) for one in self._route):
            return 0
        return int(self._model.preprocess(["x"], prompt=self._prompt, **self._side).get("prompt_length", 0))


class TextEncoder(TextModel):
    """A TextModel for single texts, as an Encoder. Subclasses set `fingerprint` and `row_bytes`."""

    row_bytes: int

    def prepare(self, texts: Sequence[str]) -> Prepared:
        return self._tokenize(texts, prompt=self._prompt)

    def _prepare_first(self, texts: Sequence[str]) -> Prepared:
        return self.prepare(texts)
