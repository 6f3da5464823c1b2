"""The flags of `embedfleet run` that a spec was made of."""

from __future__ import annotations

from typing import Any

import msgspec

from ...protocol.errors import UsageError
from ...protocol.spec.differences import differences
from ...protocol.spec.ensemble_spec import EnsembleSpec
from ...protocol.spec.run_spec import FLAGS, PassSpec, RunSpec
from .embedder_options import FLAG_OF_FIELD, PASS_FIELDS, RUN_FIELDS, spec_options
from .spec_builder import build_spec, make_pass

MODELS = ("dense", "sparse", "multivector", "heads")
"""The flags that name models of the corpus."""


def spec_flags(spec: RunSpec) -> dict[str, Any]:
    """The flags whose run makes `spec`, by the name that they have in Python; those at their defaults are left out.

    UsageError if no flags make it: in Python, each pass may have options of its own.
    """
    if any(one.kind == "rerank" or one.side == "query" for one in spec.passes):
        raise UsageError("is the spec of the queries or pairs of a ranking; give spec.json of the run itself")
    models: dict[str, list[str]] = {}
    for one in spec.passes:
        models.setdefault(FLAGS[one.kind].removeprefix("--"), []).append(model_argument(one))
    options = _changed(spec, RUN_FIELDS) | _ensemble_flags(spec.ensembles)
    for one in reversed(spec.passes):  # the first pass that has an option counts
        options |= _changed(one, PASS_FIELDS)
    if "no_fallback" in options:
        options["no_fallback"] = True
    _check_flags(spec, models, options)
    return {"source": spec.source} | models | options


def model_argument(one: PassSpec) -> str:
    """The argument of the pass's flag: `MODEL`, `MODEL@REVISION` or `NAME=MODEL`."""
    model = one.model if one.revision is None else f"{one.model}@{one.revision}"
    return model if make_pass(one.kind, model, {}).vector == one.vector else f"{one.vector}={model}"


def _changed(part: PassSpec | RunSpec, fields: tuple[str, ...]) -> dict[str, Any]:
    """The fields that differ from their defaults, by the names of their flags."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(part)}
    found = ((name, getattr(part, name)) for name in fields)
    return {FLAG_OF_FIELD.get(name, name): value for name, value in found if value != defaults[name]}


def _ensemble_flags(ensembles: tuple[EnsembleSpec, ...]) -> dict[str, Any]:
    if not ensembles:
        return {}
    flags: dict[str, Any] = {"ensemble": [one.method for one in ensembles]}
    if set(weights := ensembles[0].weights) != {1.0}:
        flags["weights"] = ",".join(str(one).removesuffix(".0") for one in weights)
    if any(one.project for one in ensembles):
        flags["project"] = True
    return flags


def _check_flags(spec: RunSpec, models: dict[str, list[str]], options: dict[str, Any]) -> None:
    """Raise UsageError if the flags make another spec. The source may be gone, so it is not looked at."""
    named = {flag: models.get(flag, []) for flag in MODELS}
    made = build_spec("-", **named, **spec_options(options))
    wanted = msgspec.structs.replace(spec, source=made.source, preprocessing=made.preprocessing)
    if made != wanted:
        found = "; ".join(differences(made, wanted)) or "its passes differ in query_prompt or normalize"
        raise UsageError(f"no flags make this spec ({found}): submit it in Python, with embedfleet.Client")
