"""ModelManager: stages a model in host memory, moves it to the device, and reports where it is."""

from __future__ import annotations

import sys
import time

import msgspec

from ..protocol.errors import EmbedfleetError
from ..protocol.spec.run_spec import PassSpec
from ..protocol.wire.work import Broken, Ready, Staged, Unfit
from .converted.choice import load_encoder
from .device.memory import DeviceMemory, Starved
from .device.streams import streams_of
from .encoders.base import Encoder, OutOfMemory

DEVICE_WORDS = ("cuda", "cudnn", "cublas", "nccl", "nvidia driver", "no kernel image")
"""Lower-case words in torch's messages for errors of the device or its libraries."""


class ModelManager:
    """One model of one worker: nothing → staged → hydrated."""

    def __init__(self, kind: str, threads: int, memory: DeviceMemory) -> None:
        self._kind, self._threads, self._memory = kind, threads, memory
        self._encoder: Encoder | None = None
        self._spec: PassSpec | None = None
        self._ready: Ready | None = None
        self.streams = 1
        """How many threads may call `compute` at once, once the model is hydrated."""

    @property
    def encoder(self) -> Encoder:
        """The staged encoder."""
        if self._encoder is None:
            raise RuntimeError("no model is staged")
        return self._encoder

    def stage(self, spec: PassSpec) -> Staged | Broken | Unfit | Starved:
        """Load the weights into host memory. If a model is loaded, only say whether it is the same."""
        start = time.monotonic()
        if self._encoder is not None:
            same = self._spec == msgspec.structs.replace(spec, expected_tokens=0)
            return self._staged(self._encoder, start) if same else Unfit()
        try:
            self._encoder = load_encoder(spec, self._kind, self._threads)
        except EmbedfleetError as error:
            return Broken(type(error).__name__, str(error), fatal=True)
        except MemoryError as error:
            return Starved(f"model {spec.model}: no host memory to load it ({error})")
        except Exception as error:  # noqa: BLE001 - whatever a model's own files or code can raise
            return _broken(spec.model, "cannot be loaded", error)
        self._spec = msgspec.structs.replace(spec, expected_tokens=0)
        return self._staged(self._encoder, start)

    def _staged(self, encoder: Encoder, start: float) -> Staged:
        return Staged(encoder.fingerprint, encoder.batch_tokens, encoder.row_bytes, time.monotonic() - start)

    def hydrate(self) -> Ready | Broken:
        """Move the model to the device and compute a first text there."""
        start = time.monotonic()
        try:
            placement = self.encoder.hydrate()
        except OutOfMemory as error:
            message = f"model {self.encoder.fingerprint.model} does not fit on the device: {error}"
            return Broken("ModelError", message, fatal=False)
        except EmbedfleetError as error:
            return Broken(type(error).__name__, str(error), fatal=True)
        except MemoryError as error:
            message = f"model {self.encoder.fingerprint.model}: no host memory to compute with it ({error})"
            return Broken("ModelError", message, fatal=False)
        except Exception as error:  # noqa: BLE001 - as in `stage`
            return _broken(self.encoder.fingerprint.model, "cannot compute a first text", error)
        self._divide_threads()
        notes: tuple[str, ...] = getattr(self.encoder, "notes", ())
        fixed = self.encoder.pads and self._kind == "cpu" and self.encoder.fingerprint.dtype == "float32"
        self._ready = Ready(placement, self._memory.sample("hydrated"), time.monotonic() - start, notes, fixed)
        return self._ready

    def hydrated(self) -> Ready | None:
        """The report of a model that is on the device already; None if there is none."""
        if self._ready is None:
            return None
        return msgspec.structs.replace(self._ready, memory=self._memory.sample("hydrated"), seconds=0.0)

    def _divide_threads(self) -> None:
        """Choose the streams, and the threads of each."""
        self.streams, each = streams_of(self._threads, self.encoder.most_streams)
        torch = sys.modules.get("torch")
        if torch is not None and self._kind == "cpu":
            torch.set_num_threads(each)


def _broken(model: str, what: str, error: Exception) -> Broken:
    """The message for an error that would occur again. Errors of the device are raised, so that a new process retries."""
    torch = sys.modules.get("torch")
    sticky = isinstance(error, getattr(torch, "AcceleratorError", ())) or (
        isinstance(error, RuntimeError) and any(words in str(error).lower() for words in DEVICE_WORDS)
    )
    if sticky:
        raise error
    summary = str(error).strip().split("\n", 1)[0][:500]
    return Broken("ModelError", f"model {model} {what}: {type(error).__name__}: {summary}", fatal=True)
