"""The fingerprint of a pass: everything that its numbers depend on. `passes/NAME.json` records it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType

from .run_spec import Form


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """Two passes with equal fingerprints compute equal numbers. A resume with another fingerprint is refused."""

    model: str
    """The hub id, folder name or fake name, without paths of the machine."""
    revision: str
    weights: str
    """SHA-256 over the weight files' names and contents; empty for an encoder without weights."""
    dtype: str
    max_tokens: int
    prompt: str
    pooling: str
    dim: int
    """Dimensions of a dense vector; 0 for sparse ones."""
    normalized: bool
    settings: dict[str, float] = {}
    """For BM25: k, b and the average length. For an ensemble: the members' shares and the seed of its projection."""
    token_dim: int = 0
    """Dimensions of a token's vector, for a pass with both dense vectors and multivectors."""
    versions: dict[str, str]
    """Versions of the libraries. Recorded, not compared."""
    files: dict[str, str] = {}
    """A digest for each file that decides the model's numbers, by path (see `worker/models/identity.py`). Compared if both
    fingerprints have them: 0.1.0 wrote none."""
    similarity: str = ""
    """The model's own similarity if it is not the cosine. Recorded, not compared."""
    weights_before: str = ""
    """The hash that 0.1.0 computed of the same weights, if it differs. A run with this hash has the same model."""
    assumed: str = ""
    """What the model's files leave open, as sentence-transformers assumes it. Recorded, not compared."""
    query_prompt: str | UnsetType = UNSET
    """What the model puts before a query where no other prompt is asked for. Recorded, not compared."""

    def dim_of(self, form: Form) -> int:
        """Dimensions of the vectors of one form; 0 for sparse vectors and scores."""
        match form:
            case "dense":
                return self.dim
            case "multivector":
                return self.token_dim or self.dim
            case _:
                return 0

    def differences(self, other: Fingerprint) -> list[str]:
        """The compared fields that differ, each as `field: other → ours`; for files, only their paths."""
        found = [
            f"{name}: {getattr(other, name)!r} → {getattr(self, name)!r}"
            for name in self._compared()
            if getattr(self, name) != getattr(other, name) and not (name == "weights" and self.same_weights(other))
        ]
        paths = changed_files(other.files, self.files)
        return found + ([f"changed files: {', '.join(paths)}"] if paths else [])

    def same_weights(self, other: Fingerprint) -> bool:
        """Whether `other` has the same weights."""
        return other.weights in (self.weights, self.weights_before or self.weights)

    def digest(self) -> str:
        """A short digest: BLAKE2b-64 of the compared fields and, after a dot, of the files."""
        parts = [{name: getattr(self, name) for name in self._compared()}, *([self.files] if self.files else [])]
        return ".".join(
            hashlib.blake2b(msgspec.json.encode(one, order="sorted"), digest_size=8).hexdigest() for one in parts
        )

    def _compared(self) -> list[str]:
        """The compared fields. With equal hashes of the weights, the model's name does not matter."""
        skipped = {"versions", "revision", "files", "similarity", "assumed", "weights_before", "query_prompt"} | (
            {"model"} if self.weights else set()
        )
        return [name for name in self.__struct_fields__ if name not in skipped]


def same_digest(one: str, other: str) -> bool:
    """Whether two digests agree in the parts that both have: 0.1.0 wrote no part for the files."""
    return all(mine == theirs for mine, theirs in zip(one.split("."), other.split("."), strict=False))


def changed_files(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The paths whose digests differ; none where one side has no digests at all."""
    if not before or not after:
        return []
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
