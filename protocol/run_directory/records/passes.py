"""`passes/NAME.json`: the model and the settings that a vector was computed with."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from ...spec.fingerprint import Fingerprint
from ...spec.int8_ranges import Int8Ranges
from ..json_bytes import read_json
from ..layout import RunLayout


class PassRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file: the fields of the `Fingerprint`, and those of the vector."""

    vector: str = ""
    kind: str = ""
    form: str | UnsetType = UNSET
    fingerprint: str | UnsetType = UNSET
    """`Fingerprint.digest()`, which each segment repeats."""
    model: str | UnsetType = UNSET
    revision: str | UnsetType = UNSET
    weights: str | UnsetType = UNSET
    dtype: str | UnsetType = UNSET
    max_tokens: int | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    pooling: str | UnsetType = UNSET
    dim: int | UnsetType = UNSET
    normalized: bool | UnsetType = UNSET
    settings: dict[str, float] | UnsetType = UNSET
    token_dim: int | UnsetType = UNSET
    versions: dict[str, str] | UnsetType = UNSET
    files: dict[str, str] | UnsetType = UNSET
    similarity: str | UnsetType = UNSET
    weights_before: str | UnsetType = UNSET
    assumed: str | UnsetType = UNSET
    query_prompt: str | UnsetType = UNSET
    output_dim: int | UnsetType = UNSET
    """Dimensions of this vector; 0 for a sparse one."""
    method: str | UnsetType = UNSET
    """For an ensemble, as `members`."""
    members: tuple[str, ...] | UnsetType = UNSET
    storage: str | UnsetType = UNSET
    """For a dense vector."""
    placements: tuple[str, ...] | UnsetType = UNSET
    """Device and dtype of the model in each session that computed something."""
    ranges: Int8Ranges | UnsetType = UNSET
    """The int8 ranges of 0.1.0; later versions store them in each segment."""

    def identity(self) -> Fingerprint:
        """The fingerprint of the pass. msgspec.ValidationError if a field is missing."""
        return msgspec.convert(msgspec.to_builtins(self), Fingerprint)

    @property
    def weight_hashes(self) -> set[str]:
        """All hashes of the weights, with that of 0.1.0, which hashed other files of some models."""
        weights = self.weights or ""
        return {weights, self.weights_before or weights}


def read_pass(layout: RunLayout, vector: str) -> PassRecord | None:
    """The pass of a vector; None before it begins. RunDirectoryError where the file is damaged."""
    return read_json(layout.pass_file(vector), PassRecord)


def pass_remedy(layout: RunLayout, vector: str) -> str:
    """What to do about vectors whose record is gone or damaged, for a message."""
    path, folder = layout.pass_file(vector), layout.vector_folder(vector)
    both = f"the folder {folder}"
    if path.exists() and path.parent != folder:
        both = f"{path} and {both}"
    return f"delete {both} and run the same command again: it computes these vectors again"
