"""What encoders of real models share: loading by sentence-transformers, tokenizing, the forward pass, out-of-memory.

Its modules do the loading, the forward pass and the pooling, so the numbers are its numbers; tokenizing, sorting and
batching are ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ...protocol import catalog
from ...protocol.errors import ModelError
from ...protocol.spec import PassSpec
from ...protocol.work_messages import Fingerprint
from ..model_files import ModelFiles, hash_weights
from ..model_identity import identity
from ..model_kinds import check_kind
from . import model_loading
from .base import IntArray, OutOfMemory, Prepared, TokenBudget
from .long_texts import head

CPU_BUDGET = TokenBudget(1_024, 1_024)
"""On a CPU a micro-batch should stay in the cache: measured best at 512 to 1,024 tokens (see benchmarks/)."""
CUDA_BUDGET = TokenBudget(16_384, 131_072)
LONGEST = 1 << 17
"""Tokens; a tokenizer that names no limit says some huge number."""

T = TypeVar("T")


class TextModel:
    """Loaded to host memory by the constructor; `device` is `cpu` or `cuda`. ModelError where it cannot be loaded."""

    family = "SentenceTransformer"
    """The class of sentence-transformers that loads it and is the reference for its numbers."""
    kind = "dense"
    """Of the passes that it is for."""
    task: str | None = None
    """The side that texts are encoded for, where the reference tells `query` from `document`."""
    fingerprint: Fingerprint

    def __init__(self, spec: PassSpec, files: ModelFiles, device: str, threads: int) -> None:
        torch = model_loading.import_torch()
        self._torch = torch
        self._files = files
        self._device = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
        torch.set_num_threads(threads)
        check_kind(self.kind, files.folder, files.name)
        self._dtype_name = spec.dtype if spec.dtype != "auto" else model_loading.natural_dtype(torch, device)
        self._dtype: Any = getattr(torch, self._dtype_name)
        self._model: Any = model_loading.load(self.family, spec, files, self._dtype)
        self._parts: list[Any] = [self._model]
        """The modules that move to the device together."""
        self._own_code = spec.trust_remote_code
        self._entry = catalog.find(files.name)
        self._prompt = spec.prompt if spec.prompt is not None else self._own_prompt()
        self._side: dict[str, Any] = {"task": self.task} if self.task is not None and _has_sides(self._model) else {}
        self._route: list[Any] = model_loading.modules_of(self._model, self._side.get("task"))
        self._first: Any = self._route[0]
        self._tokenizer: Any = getattr(self._first, "tokenizer", None)
        self._tokenizes = _is_plain_text(self._first, self._tokenizer)
        self._max_tokens = self._limit(spec)
        self._prompt_tokens = self._excluded_prompt()
        self.batch_tokens = 65_536 if device == "cuda" else 8_192
        self.budget = CUDA_BUDGET if device == "cuda" else CPU_BUDGET
        self.pads = True

    def hydrate(self) -> str:
        """Move the weights to the device and compute a first input there; OutOfMemory where they do not fit."""
        self.guarded(self._move)
        self._warm_up()
        parameter = next(iter(self._model.parameters()), None)
        placement = f"{parameter.device} {parameter.dtype}" if parameter is not None else str(self._device)
        return placement.replace("torch.", "")

    def _warm_up(self) -> None:
        raise NotImplementedError

    def _results(self, outputs: dict[str, Any]) -> Any:
        """The rows' results from the model's outputs, in host memory."""
        raise NotImplementedError

    def _own_prompt(self) -> str:
        prompts: dict[str, str] = self._model.prompts or {}
        for name in ("document", "passage", "corpus"):
            if prompts.get(name):
                return prompts[name]
        if self._entry is not None and self._entry.document_prompt:
            return self._entry.document_prompt
        return self._default_prompt() if self.task is None else ""

    def _default_prompt(self) -> str:
        return (self._model.prompts or {}).get(self._model.default_prompt_name or "", "")

    def _query_prompt(self, prompt: str | None) -> str | None:
        """For `encode_query`: None leaves the choice to the model."""
        known = self._entry.query_prompt if self._entry is not None and not self._model.prompts.get("query") else None
        return prompt if prompt is not None else known

    def query_prompt(self) -> str:
        """What `queries` puts before a query where nobody gives a prompt."""
        chosen = self._query_prompt(None)
        return chosen if chosen is not None else (self._model.prompts or {}).get("query") or self._default_prompt()

    def counter(self, prompt: str) -> Callable[[Sequence[str]], Prepared]:
        """Counts the tokens of queries behind `prompt`, with a tokenizer of its own: it may run while the model's is in use."""
        apart = copy.deepcopy(self._tokenizer) if self._tokenizes else None
        return lambda texts: self._tokenize(texts, prompt=prompt, tokenizer=apart)

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
            versions=model_loading.versions(),
        )

    def _tokenize(
        self, texts: Sequence[str], seconds: Sequence[str] | None = None, prompt: str = "", tokenizer: Any = None
    ) -> Prepared:
        """Texts with the prompt before them, or pairs of them and `seconds`; None takes the model's tokenizer."""
        if not texts:
            return Prepared(np.empty(0, np.int32), np.empty(0, np.bool_), [])
        if not self._tokenizes:
            pairs = zip(texts, seconds, strict=True) if seconds is not None else ((text, "") for text in texts)
            lengths = [min(len(prompt + text + second) // 4 + 2, self._max_tokens) for text, second in pairs]
            items = list(texts) if seconds is None else list(zip(texts, seconds, strict=True))
            return Prepared(np.array(lengths, np.int32), np.zeros(len(texts), np.bool_), items)
        chosen = tokenizer or self._tokenizer
        count = partial(_tokens_in, chosen)
        firsts = [prompt + text for text in texts]
        if seconds is None:
            firsts = [head(text, self._max_tokens, count) for text in firsts]
        else:
            # A cut second stays longer than its first, as it was, since that decides which of them is truncated.
            least = [self._max_tokens + len(first.encode()) for first in firsts]
            seconds = [head(text, most, count) for text, most in zip(seconds, least, strict=True)]
        encoded = chosen(
            firsts,
            list(seconds) if seconds is not None else None,
            truncation=True,  # of pairs, the longer text first
            max_length=self._max_tokens,
            return_attention_mask=False,
            return_token_type_ids=None if seconds is not None else False,
            verbose=False,
        )
        lengths = np.array([len(one) for one in encoded["input_ids"]], np.int32)
        truncated = [bool(one.overflowing) for one in encoded.encodings]
        return Prepared(lengths, np.array(truncated, np.bool_), dict(encoded))

    def _features(self, prepared: Prepared, rows: IntArray, prompt: str) -> dict[str, Any]:
        if not self._tokenizes:
            chosen = [prepared.items[row] for row in rows.tolist()]
            return self._model.preprocess(chosen, prompt=prompt or None, **self._side)
        picked = {name: [lists[row] for row in rows.tolist()] for name, lists in prepared.items.items()}
        features: dict[str, Any] = dict(self._tokenizer.pad(picked, return_tensors="pt", return_attention_mask=True))
        if self._side:
            features["modality"] = "text"  # as `preprocess` says it, for a router that goes by it
        if self._prompt_tokens:
            features["prompt_length"] = self._prompt_tokens
        return features

    def _computed(self, prepared: Prepared, rows: IntArray, prompt: str) -> Any:
        def step() -> Any:
            with self._torch.inference_mode():
                features = {
                    name: value.to(self._device) if isinstance(value, self._torch.Tensor) else value
                    for name, value in self._features(prepared, rows, prompt).items()
                }
                return self._results(self._forward(features))

        return self.guarded(step)

    def _forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return self._model(features, **self._side)

    def in_float32(self, compute: Callable[[], T]) -> T:
        """What `compute` returns with the weights in float32, whatever the model's dtype."""
        if self._dtype == self._torch.float32:
            return compute()
        try:  # a half-precision weight survives the way through float32 and back
            self.guarded(lambda: [model_loading.cast(part, self._torch.float32) for part in self._parts])
            return compute()
        finally:
            for part in self._parts:
                model_loading.cast(part, self._dtype)

    def _move(self) -> None:
        for part in self._parts:
            part.to(self._device)

    def guarded(self, step: Callable[[], T]) -> T:
        """Run a step on the device; OutOfMemory, with the state clean again, where there is no room for it."""
        torch = self._torch
        try:
            return step()
        except torch.OutOfMemoryError as error:
            message = str(error)
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            message = str(error)
        # Outside the except block: there the traceback would keep the failed tensors alive.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        raise OutOfMemory(message)

    def _limit(self, spec: PassSpec) -> int:
        """The most tokens of an input, made the model's own limit too."""
        # A limit for documents alone must not become the queries': those have the tokenizer's or their own.
        aside = self.task is not None and getattr(self._first, "document_length", None) is not None
        own = self._first.document_length if aside else getattr(self._first, "max_seq_length", None)
        if not aside and not _can_be_limited(self._first):
            if spec.max_tokens is not None:
                raise ModelError(
                    f"--max-tokens {spec.max_tokens}: {self._files.name} takes texts of any length; leave it out"
                )
            return LONGEST
        if own is None or own > LONGEST:
            own = self._entry.max_tokens if self._entry is not None else 512
        if spec.max_tokens is not None and spec.max_tokens > own:
            raise ModelError(f"--max-tokens {spec.max_tokens}: {self._files.name} takes at most {own}")
        limit = int(own) if spec.max_tokens is None else spec.max_tokens
        if aside:
            self._first.document_length = limit
        else:
            for first in model_loading.input_modules(self._model):
                if _can_be_limited(first):
                    first.max_seq_length = limit
        return limit

    def _excluded_prompt(self) -> int:
        """Tokens of the prompt that the pooling must leave out; 0 where it pools over all."""
        if not self._prompt or not self._tokenizes or all(getattr(one, "include_prompt", True) for one in self._route):
            return 0
        return int(self._model.preprocess(["x"], prompt=self._prompt, **self._side).get("prompt_length", 0))


class TextEncoder(TextModel):
    """A TextModel of single texts, with an encoder's calls. Subclasses set `fingerprint` and `row_bytes`."""

    row_bytes: int

    def prepare(self, texts: Sequence[str]) -> Prepared:
        return self._tokenize(texts, prompt=self._prompt)

    def compute(self, prepared: Prepared, rows: IntArray) -> Any:
        return self._computed(prepared, rows, self._prompt)

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        return self.in_float32(lambda: self.compute(prepared, rows))

    def _warm_up(self) -> None:
        self.compute(self.prepare(["warm up"]), np.zeros(1, np.int32))


def _has_sides(model: Any) -> bool:
    """Whether the model may be told `query` from `document`; modules from elsewhere have other names for their tasks."""
    foreign = [one for one in model.modules() if not type(one).__module__.startswith("sentence_transformers.")]
    named = [name for names in (model.module_kwargs or {}).values() for name in names]
    return "task" not in named and not any("task" in getattr(one, "forward_kwargs", ()) for one in foreign)


def _can_be_limited(module: Any) -> bool:
    """Whether the module cuts texts to a length that can be set: one of static vectors has a property and no setter."""
    limit = getattr(type(module), "max_seq_length", None)
    return hasattr(module, "max_seq_length") and not (isinstance(limit, property) and limit.fset is None)


def _is_plain_text(module: Any, tokenizer: Any) -> bool:
    """Whether texts go through a fast tokenizer as they are, so that tokenizing can be done apart from the model."""
    modes = getattr(module, "modality_config", {"text": None})
    return bool(getattr(tokenizer, "is_fast", False)) and "text" in modes and "message" not in modes


def _tokens_in(tokenizer: Any, text: str) -> int:
    """Special tokens are not counted, and nothing is cut off."""
    return len(tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"])
