"""The models on this host that a run can name by alias or hub id: in the hub's cache, or as an installed package."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...protocol.host.hub_cache import CachedModel, cached_models, model_folder
from ...protocol.spec.catalog import catalog, find
from ...protocol.spec.known_models import possible_kinds
from ...protocol.spec.run_spec import FLAGS, Kind
from ...protocol.wire.model_refusal import PassToCheck
from ..models.presence import find_presence
from ..output.formatting import human_bytes
from .finding import Finding
from .hub import Hub

PULL = "embedfleet models pull"
_CODE = re.compile(r"\"auto_map\"")
_OTHER_MODULES = re.compile(r"\"type\"\s*:\s*\"(?!sentence_transformers\.|pylate\.)")
"""Signs of code that a model brings, in its settings and in its list of modules."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this host."""

    name: str
    """Its hub id."""
    bytes: int = 0
    """In the cache; 0 for a package."""
    has_weights: bool = True
    """Whether the weights of the revision `main` are there, in a form that can be used."""
    has_main: bool = True
    """Whether the cache has any file of the revision `main`."""
    embeds: bool = True
    """Whether it is meant for this: it is in the catalogue, or has modules of sentence-transformers."""
    flags: tuple[str, ...] = ()
    """The flags that take it; empty if it was not checked, or none does."""
    remote_code: bool = False
    """Whether it brings code of its own, so that its flags need --trust-remote-code."""
    refusal: str = ""
    """Why no flag takes it."""


def list_local() -> list[LocalModel]:
    """The models on this host, unchecked."""
    found = [_cached(one) for one in cached_models()]
    packaged = [LocalModel(entry.hub) for entry in catalog().values() if find_presence(entry)[0] == "package"]
    return [*(one for one in found if one.name not in {each.name for each in packaged}), *packaged]


def _cached(one: CachedModel) -> LocalModel:
    entry = find(one.name)
    modules = _read(one.snapshot, "modules.json")
    settings = _read(one.snapshot, "config.json") + _read(one.snapshot, "tokenizer_config.json")
    code = bool(_CODE.search(settings) or _OTHER_MODULES.search(modules))
    return LocalModel(
        one.name,
        one.bytes,
        has_weights=one.has_weights,
        has_main=one.snapshot is not None,
        embeds=entry is not None or bool(modules),
        remote_code=code,
    )


def _read(folder: Path | None, file: str) -> str:
    try:
        return (folder / file).read_text("utf-8", "replace") if folder is not None else ""
    except OSError:
        return ""


def checks_for(models: Sequence[LocalModel]) -> list[PassToCheck]:
    """A pass for each kind that a model may be of."""
    return [
        PassToCheck(
            vector=_vector(one, kind),
            kind=kind,
            model=one.name,
            trust_remote_code=one.remote_code,
            normalize=kind in ("dense", "bge-m3"),
        )
        for one in models
        if one.has_weights
        for kind in possible_kinds(one.name)
    ]


def apply_refusals(models: Sequence[LocalModel], refused: Mapping[str, str]) -> Iterator[LocalModel]:
    """The models with the results of `checks_for`; `refused` has its messages by `vector`."""
    for one in models:
        kinds = possible_kinds(one.name) if one.has_weights else ()
        taken: list[Kind] = [kind for kind in kinds if _vector(one, kind) not in refused]
        reasons = [_reason(refused[_vector(one, kind)], one.name) for kind in kinds if kind not in (*taken, "bge-m3")]
        # Kinds that the model was not made for say only that.
        why = next((each for each in reasons if not each.startswith(f"model {one.name} is no ")), "".join(reasons[:1]))
        yield replace(one, flags=tuple(FLAGS[kind] for kind in taken), refusal="" if taken else why)


def client_is_here() -> bool:
    """Whether the hub's client is installed, without which no model of the cache can be found."""
    return importlib.util.find_spec("huggingface_hub") is not None


def _reason(message: str, name: str) -> str:
    """The message of a refusal without the flag and the model that it is about."""
    return message.partition(": ")[2].removeprefix(f"model {name}: ")


def _vector(one: LocalModel, kind: Kind) -> str:
    return f"{one.name}|{kind}"


def model_findings(one: LocalModel) -> list[Finding]:
    """Whether a run can use the model."""
    size = f", {human_bytes(one.bytes)}" if one.bytes else ""
    if not one.has_main:
        text = f"{one.name}{size}: other revisions than main; name one as {one.name}@REVISION"
        return [Finding("ok", "models", "model-revisions", text)]
    if not one.has_weights:
        text = f"{one.name}{size}: the cache has no safetensors weights of its main revision"
        return [Finding("note", "models", "model-incomplete", text, f"fetch the rest: {PULL} {one.name}")]
    if one.refusal:
        if not one.embeds:
            return [Finding("ok", "models", "model-other", f"{one.name}{size}: not for embedfleet ({one.refusal})")]
        remedy = f"{PULL} {one.name} fetches what is missing; what is damaged is in {model_folder(one.name)}: delete it first"
        return [Finding("problem", "models", "model-unusable", f"{one.name}{size}: {one.refusal}", remedy)]
    trust = ", with --trust-remote-code" if one.remote_code else ""
    use = f"usable with {', '.join(dict.fromkeys(one.flags))}{trust}" if one.flags else "not checked"
    return [Finding("ok", "models", "model", f"{one.name}{size or ', as a package'}: {use}")]


def check_findings(trouble: str) -> list[Finding]:
    """A note if the models could not be checked; `trouble` is why."""
    if not trouble:
        return []
    remedy = "try it by hand: echo '[]' | python -m embedfleet.worker.models.check"
    return [Finding("note", "models", "models-unchecked", f"the models could not be checked: {trouble}", remedy)]


def offline_findings(models: Sequence[LocalModel], hub: Hub) -> list[Finding]:
    """A problem if a run can have no real model: none is here, and none can be fetched."""
    usable = any(one.has_weights and not one.refusal for one in models)
    if usable or hub.answers:
        return (
            [] if models else [Finding("ok", "models", "models", "none in the hub's cache: runs fetch what they need")]
        )
    why = f"offline by {hub.offline}" if hub.offline else "the hub cannot be reached"
    text = f"no model on this host can be used, and {why}"
    remedy = f"where there is a network, {PULL} MODEL, and copy the hub's cache here; or install the extra demo"
    return [Finding("problem", "models", "no-model-offline", text, remedy)]
