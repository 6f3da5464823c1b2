"""The fields in which two specs differ."""

from __future__ import annotations

import msgspec

from .run_spec import PassSpec, RunSpec


def differences(ours: RunSpec, theirs: RunSpec) -> list[str]:
    """The fields in which two specs differ, each as `field: theirs → ours`, for the refusal of a resume.

    Ignores fields that no committed vector depends on: the prompt of queries and `normalize`.
    """
    ours, theirs = _of_the_corpus(ours), _of_the_corpus(theirs)
    found: list[str] = []
    for field in RunSpec.__struct_fields__:
        new, old = getattr(ours, field), getattr(theirs, field)
        if new == old:
            continue
        if field == "passes":
            found.extend(_pass_differences(new, old))
        else:
            found.append(f"{field}: {old!r} → {new!r}")
    return found


def _of_the_corpus(spec: RunSpec) -> RunSpec:
    passes = tuple(msgspec.structs.replace(one, query_prompt=None, normalize=False) for one in spec.passes)
    return msgspec.structs.replace(spec, passes=passes)


def _pass_differences(new: tuple[PassSpec, ...], old: tuple[PassSpec, ...]) -> list[str]:
    ours, theirs = {one.vector: one for one in new}, {one.vector: one for one in old}
    found = [f"passes: {name} is new" for name in ours if name not in theirs]
    found += [f"passes: {name} is gone" for name in theirs if name not in ours]
    for name in ours.keys() & theirs.keys():
        for field in PassSpec.__struct_fields__:
            before, after = getattr(theirs[name], field), getattr(ours[name], field)
            if before != after:
                found.append(f"{name}.{field}: {before!r} → {after!r}")
    return found or ["passes: their order"]
