"""A model of torch on its device: moved there, computed in two steps, out of memory, and a copy of it in float32."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from ..backends.choice import PROBES, PackedChoice
from ..backends.memory_slope import MemoryPoint, fitting_tokens
from .base import IntArray, Launched, OutOfMemory, Prepared, TokenBudget

if TYPE_CHECKING:  # it imports torch
    import torch

    from ..backends.staging import Staging

CPU_BUDGET = TokenBudget(1_024, 1_024)
"""On a CPU a micro-batch should stay in the cache: measured best at 512 to 1,024 tokens (see benchmarks/)."""
CUDA_BUDGET = TokenBudget(16_384, 131_072)
FULL_LENGTH = {"cpu": 1e11, "cuda": 1e13}
"""The warm-up has a text of full length if parameters times tokens are at most this, about a second."""
MEASURED = (2_048, 8_192)
"""Tokens of the micro-batches whose memory is measured on a GPU."""
OPEN_ON_CUDA = 2
"""Micro-batches: while the device computes one, the host collects one and launches the next."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OnDevice:
    """A micro-batch of a TorchModel."""

    model: TorchModel
    finish: Callable[[], Any]
    """Waits for its results."""

    def collect(self) -> Any:
        return self.model.inferred(self.finish)


class TorchModel:
    """`device` is `cpu` or `cuda`. A subclass sets the attributes without a value, and says what the modules compute."""

    MODULES: tuple[str, ...] = ("_model", "_parts")
    """The attributes with modules, or with lists of them, that its results depend on."""
    _model: Any
    _parts: list[Any]
    """The modules that move to the device together."""
    _dtype: Any
    _dtype_name: str
    _choice: PackedChoice
    _prompt: str
    """What stands before each document."""
    _max_tokens: int
    notes: tuple[str, ...] = ()
    """Why another backend does not compute it; for the record, and for people."""

    def __init__(self, torch: Any, device: str) -> None:
        from ..backends.staging import Staging

        self._torch = torch
        self._device: torch.device = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
        self.depth = OPEN_ON_CUDA if device == "cuda" else 1
        self._staging: Staging = Staging(self._device, self.depth + 1)
        self._token_dtype: Any = torch.float16 if device == "cuda" else torch.float32
        """In which token vectors leave the device: they are stored in float16, so less has to be copied."""
        self._fitting: int | None = None
        """Tokens that fit into the free memory, once they are measured."""
        self._copy: Any = None
        self._copying = threading.Lock()
        self._compiler: Any = "inductor" if device == "cuda" else None
        """The backend of torch.compile for long passes; None: nothing is compiled."""
        self._expected_tokens = 0

    def hydrate(self) -> str:
        """Move the weights to the device and compute a first input there. OutOfMemory if they do not fit."""
        self.guarded(self._move)
        self._warm_up()
        if self._device.type == "cuda":
            self._fitting = self._measured()
        self._compile()
        return "; ".join((f"{self.place}, {self._choice.described}", *self.notes))

    @property
    def place(self) -> str:
        """Device and dtype of the weights."""
        parameter = next(iter(self._model.parameters()), None)
        found = f"{parameter.device} {parameter.dtype}" if parameter is not None else str(self._device)
        return found.replace("torch.", "")

    def launch(self, prepared: Prepared, rows: IntArray) -> Launched:
        """Begin to compute these rows. Raises OutOfMemory."""
        return self._begun(prepared, rows, self._prompt)

    def compute(self, prepared: Prepared, rows: IntArray) -> Any:
        """The results of these rows. Raises OutOfMemory."""
        return self.launch(prepared, rows).collect()

    def recompute(self, prepared: Prepared, rows: IntArray) -> Any:
        """As `compute`, but in float32."""
        return self.exact().compute(prepared, rows)

    @property
    def pads(self) -> bool:
        """Whether texts computed together are padded to the longest."""
        return self._choice.packed is None

    @property
    def parameters(self) -> int:
        """Numbers in the weights."""
        return sum(one.numel() for part in self._parts for one in part.parameters())

    @property
    def budget(self) -> TokenBudget:
        """Tokens of a micro-batch: on a GPU, as many as fit by what the first texts took."""
        known = self._known_budget()
        if self._fitting is None:
            return known
        return TokenBudget(min(known.initial, self._fitting), min(known.ceiling, self._fitting), climbs=True)

    def _known_budget(self) -> TokenBudget:
        return CUDA_BUDGET if self._device.type == "cuda" else CPU_BUDGET

    def exact(self) -> Self:
        """The model in float32. If it is in half precision, this is a copy with padding, made on first need: on the device if
        it is small there, otherwise in the host's memory. Raises OutOfMemory."""
        if self._dtype == self._torch.float32:
            return self
        with self._copying:
            if self._copy is None:
                self._copy = self.guarded(self._float32_copy)
        return self._copy

    def _float32_copy(self) -> Self:
        from ..backends.float32_copy import float32_copy, parameters_of
        from ..backends.staging import Staging

        modules = {name: getattr(self, name) for name in self.MODULES}
        where = self._staging.place_beside(4 * parameters_of(modules))
        twin = copy.copy(self)
        vars(twin).update(float32_copy(modules, where, shared=self._shared_with_copies()))
        twin._device, twin._dtype = where, self._torch.float32
        twin._staging, twin._choice = Staging(where, 1), self._choice.always_padded()
        return twin

    def _shared_with_copies(self) -> list[Any]:
        """Objects in the modules that take no part in the computation."""
        return []

    def _measured(self) -> int | None:
        """How many tokens fit, from what two micro-batches take; None if that is not known."""
        try:
            small, large = (self._memory_of(tokens) for tokens in MEASURED)
        except OutOfMemory:
            return None  # the budget shrinks when it has to
        found = fitting_tokens(small, large, self._staging.free())
        return found if found is None else max(found, small.tokens)

    def _memory_of(self, tokens: int) -> MemoryPoint:
        """What a micro-batch of about so many tokens takes."""
        prepared = self._prepare_first(["warm up " * 30] * (tokens // 64))
        rows = np.arange(len(prepared.lengths), dtype=np.int32)
        peak = self._staging.peak_of(lambda: self._computed(prepared, rows, self._prompt))
        return MemoryPoint(int(prepared.lengths.sum()), peak)

    def _warm_up(self) -> None:
        """Compute first texts; without padding only if the results are those with padding."""
        for text in self._first_texts():
            self._computed(self._prepare_first([text]), np.zeros(1, np.int32), self._prompt)
        if self.pads:
            return
        prepared, rows = self._prepare_first(PROBES), np.arange(len(PROBES), dtype=np.int32)
        ours = self._computed(prepared, rows, self._prompt)
        with self._choice.padded():
            theirs = self._computed(prepared, rows, self._prompt)
        self._choice.compare(ours, theirs, self._dtype_name)

    def _compile(self) -> None:
        """Compile the forward pass without padding, if the pass is long and that makes it faster."""
        if self._choice.packed is None or self._compiler is None or not self._expected_tokens:
            return
        from ..backends.compiling.trial import MIXED, Sample, try_compiled

        times = max(1, self.budget.initial // sum(2 * words for words in MIXED))
        texts = ["warm up " * words for words in MIXED] * times
        mixed, probes = (self._prepare_first(some) for some in (texts, PROBES))

        def begun(prepared: Prepared) -> OnDevice:
            return self._begun(prepared, np.arange(len(prepared.lengths), dtype=np.int32), self._prompt)

        with self._choice.padded():
            expected = begun(probes).collect()
        sample = Sample(int(mixed.lengths.sum()), self.depth, lambda: begun(mixed), lambda: begun(probes), expected)
        model = self._choice.packed.model
        found = try_compiled(model, self._compiler, self._dtype_name, sample, self._expected_tokens)
        self._choice.described += found.described
        self.notes += found.notes

    def _prepare_first(self, texts: Sequence[str]) -> Prepared:
        """Tokenize texts of our own."""
        raise NotImplementedError

    def _first_texts(self) -> list[str]:
        """A short text, and one of the model's full length if that is fast. A model that cannot compute them fails before any
        row is blamed."""
        weights = sum(one.numel() for one in self._model.parameters())
        most = min(self.budget.initial, FULL_LENGTH[self._device.type] / max(weights, 1))
        return ["warm up", "warm up " * self._max_tokens] if self._max_tokens <= most else ["warm up"]

    def _results(self, outputs: dict[str, Any]) -> Callable[[], Any]:
        """Begin to copy the rows' results from the model's outputs to the host. What it returns waits for them."""
        raise NotImplementedError

    def _computed(self, prepared: Prepared, rows: IntArray, prompt: str) -> Any:
        return self._begun(prepared, rows, prompt).collect()

    def _begun(self, prepared: Prepared, rows: IntArray, prompt: str) -> OnDevice:
        return self._launched(lambda: self._results(self._outputs(prepared, rows, prompt)))

    def _outputs(self, prepared: Prepared, rows: IntArray, prompt: str) -> dict[str, Any]:
        """What the model computes for these rows, on the device."""
        raise NotImplementedError

    def _launched(self, begin: Callable[[], Callable[[], Any]]) -> OnDevice:
        """Begin to compute. `begin` waits for nothing on a GPU; what it returns waits for the results."""
        return OnDevice(self, self.inferred(begin))

    def _move(self) -> None:
        if self._device.type == "cpu":
            return
        for part in self._parts:
            part.to(self._device)
        self._choice.renew()  # it shares tensors with the parts

    def inferred(self, step: Callable[[], T]) -> T:
        """Run a step of a forward pass on the device. Raises OutOfMemory."""

        def without_gradients() -> T:
            with self._torch.inference_mode():
                return step()

        return self.guarded(without_gradients)

    def guarded(self, step: Callable[[], T]) -> T:
        """Run a step on the device. If its memory does not suffice, free it and raise OutOfMemory."""
        torch = self._torch
        try:
            return step()
        except torch.OutOfMemoryError as error:
            message = str(error)
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            message = str(error)
        # Outside the except block, where the traceback would keep the failed tensors alive.
        self._staging.give_back()
        raise OutOfMemory(message)
