"""Load a model from its folder with torch and the classes of sentence-transformers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from ...protocol.errors import ModelError
from ...protocol.spec.run_spec import PassSpec
from .locate import ModelFiles
from .missing_weights import check_none_missing, watch_missing_weights


def import_torch() -> Any:
    """The module torch, with the logging of transformers turned off. ModelError if they are not installed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ModelError("real models need torch: pip install 'embedfleet[torch]'") from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch


def natural_dtype(torch: Any, device: str) -> str:
    """bfloat16 on GPUs that compute it natively (Ampere and later), float16 on older GPUs, float32 on a CPU."""
    if device != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability(0) >= (8, 0) else "float16"


def load(family: str, spec: PassSpec, files: ModelFiles, dtype: Any) -> Any:
    """The model in host memory, loaded by sentence-transformers' class `family`. ModelError if that fails."""
    try:
        import sentence_transformers
    except ImportError as error:
        raise ModelError("real models need sentence-transformers: pip install 'embedfleet[torch]'") from error
    reference: Any = getattr(sentence_transformers, family, None)
    if reference is None:
        found = version("sentence-transformers")
        raise ModelError(f"sentence-transformers {found} has no {family}: pip install -U sentence-transformers")
    try:
        with warnings.catch_warnings(), watch_missing_weights() as lacking:
            warnings.simplefilter("ignore")
            model = reference(
                str(files.folder),
                device="cpu",
                trust_remote_code=spec.trust_remote_code,
                local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
    except MemoryError:
        raise
    except Exception as error:  # whatever a model's own code or files can raise ends as one message
        if "can't allocate memory" in str(error):  # torch's way to say MemoryError
            raise MemoryError(str(error)) from error
        raise ModelError(
            f"model {files.name} cannot be loaded from {files.folder}: {summarize_error(error)}"
        ) from error
    check_none_missing(lacking, files, family)
    cast(model, dtype)
    return model.eval()


def summarize_error(error: Exception) -> str:
    """A library's error while loading a model, in one line that is clear without its log."""
    message = str(error).strip().split("\n", 1)[0][:500]
    if "ignore_mismatched_sizes" in message:  # "For details look at the above report!"
        return (
            "its weights have other shapes than its config.json says; put the two that belong together into one folder"
        )
    return repr(error) if not message or isinstance(error, KeyError) else message


def ensure_padding(model: Any, files: ModelFiles) -> None:
    """Choose a pad token for tokenizers without one; ModelError if no token can serve as one.

    The mask keeps pads out of the computation, so any token would do. But some models find pads by their id, to count
    positions or to find a text's last token. So the choices are, in this order: the config's pad token, the unknown token,
    the begin and the end token.
    """
    for module in input_modules(model):
        tokenizer: Any = getattr(module, "tokenizer", None)
        if tokenizer is None or not hasattr(tokenizer, "pad_token") or tokenizer.pad_token is not None:
            continue
        config: Any = getattr(getattr(module, "model", None), "config", None)
        named = getattr(config, "pad_token_id", None)
        names = [tokenizer.convert_ids_to_tokens(named) if isinstance(named, int) and named >= 0 else None]
        names += [tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token]
        chosen = next((one for one in names if one is not None), None)
        if chosen is None:
            raise ModelError(
                f"model {files.name}: its tokenizer has no pad token, and none that can serve as one; name one as "
                f"'pad_token' in {files.folder / 'tokenizer_config.json'}"
            )
        tokenizer.pad_token = chosen
        if config is not None and named is None:
            config.pad_token_id = tokenizer.pad_token_id


def cast(module: Any, dtype: Any) -> None:
    """Convert a module's parameters to `dtype` in place, without its buffers.

    The reference keeps some buffers in float32: in half precision, the frequencies of rotary positions would be off by whole
    radians in long texts.
    """
    buffers = [(one, name, held) for one in module.modules() for name, held in one.named_buffers(recurse=False)]
    try:
        module.to(dtype)
    finally:
        for one, name, held in buffers:
            setattr(one, name, held.to(getattr(one, name).device))


def modules_of(model: Any, task: str | None) -> list[Any]:
    """The modules that process a text of the task; a router is replaced by the modules of its route."""
    first, *rest = model
    routes = getattr(first, "sub_modules", None)
    if routes is None:
        return [first, *rest]
    try:
        route = first._resolve_route(task=task, modality="text")
    except ValueError as error:
        raise ModelError(f"the model has no route for texts of the task {task}: {error}") from error
    return [*routes[route], *rest]


def input_modules(model: Any) -> list[Any]:
    """The modules that tokenize: the first one, or the first of each route."""
    routes = getattr(model[0], "sub_modules", None)
    return [one[0] for one in routes.values()] if routes is not None else [model[0]]


def versions() -> dict[str, str]:
    """Versions of the libraries, for the fingerprint."""
    import torch
    import transformers

    return {
        "torch": str(torch.__version__),
        "transformers": str(transformers.__version__),
        "sentence-transformers": version("sentence-transformers"),
    }


def describe(modules: Iterable[Any]) -> str:
    """A model's modules in order, with the settings of pooling ones."""
    named: list[str] = []
    for one in modules:
        name = type(one).__name__
        if hasattr(one, "pooling_mode"):
            name += f"({one.pooling_mode})"
        elif hasattr(one, "pooling_strategy"):
            name += f"({one.pooling_strategy}, {one.activation_function})"
        elif hasattr(one, "skiplist_words"):
            name += f"({len(one.skiplist_words)} skipped)"
        elif hasattr(one, "pool_factor"):
            name += f"({one.pool_factor:g})"
        named.append(name)
    return " → ".join(named)


def has_sides(model: Any) -> bool:
    """Whether the model accepts `task` as `query` or `document`. Modules of other packages name their tasks differently."""
    foreign = [one for one in model.modules() if not type(one).__module__.startswith("sentence_transformers.")]
    named = [name for names in (model.module_kwargs or {}).values() for name in names]
    return "task" not in named and not any("task" in getattr(one, "forward_kwargs", ()) for one in foreign)
