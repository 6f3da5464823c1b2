"""Dense vectors of any model that sentence-transformers loads, in micro-batches of our own cutting.

Its modules do the loading, the forward pass and the pooling, so the numbers are its numbers; tokenizing, sorting and
batching are ours. Vectors are L2-normalized float32.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from ...protocol import catalog
from ...protocol.errors import ModelError
from ...protocol.spec import PassSpec
from ...protocol.work_messages import Fingerprint
from ..model_files import ModelFiles, hash_weights
from .base import DenseResults, FloatArray, IntArray, OutOfMemory, Prepared, TokenBudget

CPU_BUDGET = TokenBudget(1_024, 1_024)
"""On a CPU a micro-batch should stay in the cache: measured best at 512 to 1,024 tokens (see benchmarks/)."""
CUDA_BUDGET = TokenBudget(16_384, 131_072)
LONGEST = 1 << 17
"""Tokens; a tokenizer that names no limit says some huge number."""


class DenseEncoder(DenseResults):
    """Loaded to host memory by the constructor; `device` is `cpu` or `cuda`."""

    def __init__(self, spec: PassSpec, files: ModelFiles, device: str, threads: int) -> None:
        torch, transformers = _import()
        self._torch = torch
        self._device = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
        torch.set_num_threads(threads)
        dtype = spec.dtype if spec.dtype != "auto" else _natural_dtype(torch, device)
        self._dtype: Any = getattr(torch, dtype)
        self._model: Any = _load(spec, files, self._dtype)
        entry = catalog.find(files.name)
        prompt = spec.prompt if spec.prompt is not None else _document_prompt(self._model, entry)
        self._first: Any = self._model[0]
        self._tokenizer: Any = getattr(self._first, "tokenizer", None)
        self._tokenizes = _is_plain_text(self._first, self._tokenizer)
        limit = _max_tokens(self._model, spec, files, entry)
        self._model.max_seq_length = limit
        self._prompt_tokens = self._excluded_prompt(prompt)
        dim = int(self._model.get_embedding_dimension())
        self.fingerprint = Fingerprint(
            model=files.name,
            revision=files.revision,
            weights=hash_weights(files.folder),
            dtype=dtype,
            max_tokens=limit,
            prompt=prompt,
            pooling=_pooling(self._model),
            dim=dim,
            normalized=True,
            versions={
                "torch": str(torch.__version__),
                "transformers": str(transformers.__version__),
                "sentence-transformers": version("sentence-transformers"),
            },
        )
        self.batch_tokens = 65_536 if device == "cuda" else 8_192
        self.row_bytes = 4 * dim
        self.budget = CUDA_BUDGET if device == "cuda" else CPU_BUDGET
        self.pads = True

    def hydrate(self) -> str:
        self._model.to(self._device)
        self.compute(self.prepare(["warm up"]), np.zeros(1, np.int32))
        parameter = next(iter(self._model.parameters()), None)
        placement = f"{parameter.device} {parameter.dtype}" if parameter is not None else str(self._device)
        return placement.replace("torch.", "")

    def prepare(self, texts: Sequence[str]) -> Prepared:
        prompt, limit = self.fingerprint.prompt, self.fingerprint.max_tokens
        if not self._tokenizes:
            lengths = np.array([min(len(prompt + text) // 4 + 2, limit) for text in texts], np.int32)
            return Prepared(lengths, np.zeros(len(texts), np.bool_), list(texts))
        encoded = self._tokenizer(
            [prompt + text for text in texts],
            truncation=True,
            max_length=limit,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        truncated = [bool(one.overflowing) for one in encoded.encodings]
        return Prepared(np.array([len(one) for one in ids], np.int32), np.array(truncated, np.bool_), ids)

    def compute(self, prepared: Prepared, rows: IntArray) -> FloatArray:
        torch = self._torch
        try:
            with torch.inference_mode():
                features = {
                    name: value.to(self._device) if isinstance(value, torch.Tensor) else value
                    for name, value in self._features(prepared, rows).items()
                }
                vectors = self._model(features)["sentence_embedding"].float()
                return torch.nn.functional.normalize(vectors, dim=1).cpu().numpy()
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

    def recompute(self, prepared: Prepared, rows: IntArray) -> FloatArray:
        if self._dtype == self._torch.float32:
            return self.compute(prepared, rows)
        self._model.float()  # and back: a half-precision value survives the way through float32
        try:
            return self.compute(prepared, rows)
        finally:
            self._model.to(self._dtype)

    def queries(self, texts: Sequence[str], prompt: str | None) -> FloatArray:
        """Query vectors (n, dim), with the model's query prompt unless one is given."""
        entry = catalog.find(self.fingerprint.model)
        chosen = prompt if prompt is not None else _query_prompt(self._model, entry)
        vectors: FloatArray = self._model.encode(
            list(texts), prompt=chosen or "", normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)

    def _features(self, prepared: Prepared, rows: IntArray) -> dict[str, Any]:
        chosen = [prepared.items[row] for row in rows.tolist()]
        if not self._tokenizes:
            return self._model.preprocess(chosen, prompt=self.fingerprint.prompt or None)
        features: dict[str, Any] = dict(
            self._tokenizer.pad({"input_ids": chosen}, return_tensors="pt", return_attention_mask=True)
        )
        if self._prompt_tokens:
            features["prompt_length"] = self._prompt_tokens
        return features

    def _excluded_prompt(self, prompt: str) -> int:
        """Tokens of the prompt that the pooling must leave out; 0 where it pools over all."""
        if not prompt or not self._tokenizes or all(getattr(one, "include_prompt", True) for one in self._model):
            return 0
        return int(self._model.preprocess(["x"], prompt=prompt).get("prompt_length", 0))


def _import() -> tuple[Any, Any]:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ModelError("real models need torch: pip install 'embedfleet[torch]'") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch, transformers


def _load(spec: PassSpec, files: ModelFiles, dtype: Any) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ModelError("dense models need sentence-transformers: pip install 'embedfleet[torch]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = SentenceTransformer(
                str(files.folder),
                device="cpu",
                trust_remote_code=spec.trust_remote_code,
                local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
    except Exception as error:  # whatever a model's own code or files can raise ends as one message
        summary = str(error).strip().split("\n", 1)[0][:500]
        raise ModelError(f"model {files.name} cannot be loaded from {files.folder}: {summary}") from error
    return model.eval().to(dtype)


def _natural_dtype(torch: Any, device: str) -> str:
    """bfloat16 where the GPU computes it natively (Ampere and later), float16 on older ones, float32 on a CPU."""
    if device != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability(0) >= (8, 0) else "float16"


def _is_plain_text(module: Any, tokenizer: Any) -> bool:
    """Whether texts go through a fast tokenizer as they are, so that tokenizing can be done apart from the model."""
    modes = getattr(module, "modality_config", {"text": None})
    return bool(getattr(tokenizer, "is_fast", False)) and "text" in modes and "message" not in modes


def _max_tokens(model: Any, spec: PassSpec, files: ModelFiles, entry: catalog.CatalogEntry | None) -> int:
    own = model.max_seq_length
    if own is None or own > LONGEST:
        own = entry.max_tokens if entry is not None else 512
    if spec.max_tokens is None:
        return int(own)
    if spec.max_tokens > own:
        raise ModelError(f"--max-tokens {spec.max_tokens}: {files.name} takes at most {own}")
    return spec.max_tokens


def _document_prompt(model: Any, entry: catalog.CatalogEntry | None) -> str:
    prompts: dict[str, str] = model.prompts or {}
    for name in ("document", "passage", "corpus"):
        if prompts.get(name):
            return prompts[name]
    if entry is not None and entry.document_prompt:
        return entry.document_prompt
    return prompts.get(model.default_prompt_name or "", "")


def _query_prompt(model: Any, entry: catalog.CatalogEntry | None) -> str:
    prompts: dict[str, str] = model.prompts or {}
    if prompts.get("query"):
        return prompts["query"]
    return entry.query_prompt if entry is not None else prompts.get(model.default_prompt_name or "", "")


def _pooling(model: Any) -> str:
    return " → ".join(
        f"{type(one).__name__}({one.pooling_mode})" if hasattr(one, "pooling_mode") else type(one).__name__
        for one in model
    )
