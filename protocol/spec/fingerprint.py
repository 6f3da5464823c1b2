"""What decides the numbers of a pass, as `pass.json` keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from .run_spec import Form


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What makes two passes produce the same numbers. Kept in `pass.json`; a resume that differs is refused."""

    model: str
    """The hub id, folder name or fake spec: where the weights came from, without the machine's paths."""
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
    """Of BM25: k, b and the average length; of an ensemble: the members' shares, and the seed of its projection."""
    token_dim: int = 0
    """Dimensions of a token's vector, where a pass has both dense vectors and multivectors."""
    versions: dict[str, str]
    """Of the libraries that computed it: recorded, not compared."""
    files: dict[str, str] = {}
    """A digest for each file that decides the model's numbers, by its path (`worker/models/identity.py`). Compared if both
    sides have them: 0.1.0 wrote none."""
    similarity: str = ""
    """How the model itself compares its vectors, if not by the cosine: recorded, not compared."""
    weights_before: str = ""
    """The hash of the weights as 0.1.0 made it, if it differs. A run that recorded this hash has the same model."""
    assumed: str = ""
    """What was assumed because the model's files do not say it, as sentence-transformers assumes it: recorded, not compared."""

    def dim_of(self, form: Form) -> int:
        """Dimensions of the vectors of one form; 0 where they have none of their own."""
        match form:
            case "dense":
                return self.dim
            case "multivector":
                return self.token_dim or self.dim
            case _:
                return 0

    def differences(self, other: Fingerprint) -> list[str]:
        """The fields in which `other` would give other numbers, each as `field: other → ours`; for files, only their paths."""
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
        """A short name for what decides the numbers: BLAKE2b-64 of the compared fields and, after a dot, of the files."""
        parts = [{name: getattr(self, name) for name in self._compared()}, *([self.files] if self.files else [])]
        return ".".join(
            hashlib.blake2b(msgspec.json.encode(one, order="sorted"), digest_size=8).hexdigest() for one in parts
        )

    def _compared(self) -> list[str]:
        """Without the versions; and weights that hash the same are the same model under any name and revision."""
        skipped = {"versions", "revision", "files", "similarity", "assumed", "weights_before"} | (
            {"model"} if self.weights else set()
        )
        return [name for name in self.__struct_fields__ if name not in skipped]


def same_digest(one: str, other: str) -> bool:
    """Whether two digests of fingerprints agree in the parts that both have: one of 0.1.0 has no part for the files."""
    return all(mine == theirs for mine, theirs in zip(one.split("."), other.split("."), strict=False))


def changed_files(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The paths whose digests differ; none where one side has no digests at all."""
    if not before or not after:
        return []
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
