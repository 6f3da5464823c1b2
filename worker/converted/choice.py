"""Choose what computes a pass on this device, torch or a converted model, and load it."""

from __future__ import annotations

from typing import Any

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from ..backends.choice import ENGINES
from ..encoders import choose
from ..encoders.base import Encoder, OutOfMemory
from ..models.kind_check import is_convertible
from ..models.locate import ModelFiles, find_model
from ..models.onnx_graph import find_graph
from .cache import key_of, open_conversions
from .child import Refusal, make_conversion, usable
from .converted_encoder import ENCODERS, Disagrees
from .engines import onnx_runtime, openvino_runtime
from .engines.openvino_runtime import is_installed

CONVERSION_SECONDS = 10.0
"""About how long a conversion takes."""
SAVED = 0.1
"""The share of a pass's time that OpenVINO is assumed to save, compared with torch. Measurements showed more."""
BYTES_PER_SECOND = 2.9e11
"""Bytes of weights times tokens that torch computes in a second with one thread in float32: 91 MB at 3,200 tokens/s."""


def load_encoder(spec: PassSpec, device: str, threads: int) -> Encoder:
    """The encoder of a pass, with its weights in host memory. ModelError if it cannot be loaded.

    With `auto`, a CPU's pass is computed by OpenVINO if the model is converted already, or if the pass is long enough to repay
    its conversion. If that fails, torch computes it, and its notes say why. `auto` never takes ONNX Runtime.
    """
    if spec.backend not in ("auto", *ENGINES) or not is_convertible(spec):
        return choose.load_encoder(spec, device, threads)
    if spec.backend in ENGINES:
        return _forced(spec, device, threads)
    reason = ""
    if device == "cpu" and is_installed():
        try:
            if (found := _converted(spec, threads, convert=None)) is not None:
                return found
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the runtime raises, torch can compute the pass
            reason = one_line(error)
    encoder: Any = choose.load_encoder(spec, device, threads)
    if reason:
        encoder.notes = (f"not computed by openvino: {reason}",)
    return encoder


def _forced(spec: PassSpec, device: str, threads: int) -> Encoder:
    flag = f"--backend {spec.backend}"
    if device != "cpu":
        raise ModelError(f"{flag} computes on CPUs only; leave it out, or give --devices cpu")
    try:
        found = _converted(spec, threads, convert=True)
    except OutOfMemory as error:
        raise MemoryError(str(error)) from error
    except (Refusal, Disagrees, RuntimeError) as error:
        raise ModelError(f"{flag}: model {spec.model}: {one_line(error)}; leave {flag} out") from error
    except ModelError as error:
        raise ModelError(f"{flag}: model {spec.model}: {one_line(error)}") from error
    assert found is not None, "converted if need be"
    return found


def _converted(spec: PassSpec, threads: int, *, convert: bool | None) -> Encoder | None:
    """The converted model as an encoder. With `convert` None, it is only converted if the pass is long enough; otherwise the
    result is None. ModelError with the reason if it cannot be used."""
    _check_engine(spec)
    conversions = open_conversions()
    if conversions is None:
        raise ModelError("there is no folder for conversions: set HOME or XDG_CACHE_HOME")
    files = find_model(spec)
    graph = find_graph(files, fetch=True).digest(files.folder) if spec.backend == "onnx" else ""
    key = key_of(spec, files, graph)
    found = conversions.find(key)
    if found is None:
        if convert is None and not is_worth_it(spec, files, threads):
            return None
        folder = make_conversion(conversions, key, spec, files, threads)
    else:
        folder = usable(found)
    return ENCODERS[spec.kind](spec, files, folder, threads)


def _check_engine(spec: PassSpec) -> None:
    """Raise ModelError if the engine is not installed, or does not compute in the pass's dtype here."""
    if spec.backend == "onnx":
        onnx_runtime.check_dtype(spec.dtype)
        onnx_runtime.import_onnxruntime()
        return
    core = openvino_runtime.import_openvino().Core()
    openvino_runtime.check_dtype(core, "float32" if spec.dtype == "auto" else spec.dtype)


def is_worth_it(spec: PassSpec, files: ModelFiles, threads: int) -> bool:
    """Whether the pass is long enough to repay a conversion."""
    weights = sum(one.stat().st_size for one in files.folder.glob("*.safetensors"))
    seconds = spec.expected_tokens * weights / (BYTES_PER_SECOND * threads)
    return SAVED * seconds > CONVERSION_SECONDS


def one_line(error: BaseException) -> str:
    """The first line of a message."""
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0][:500]
