"""What the check of a run's models (`worker.model_check`) says of each one that cannot be used."""

from __future__ import annotations

import msgspec


class Refusal(msgspec.Struct, frozen=True):
    """A pass whose model cannot be used, and why; `kind` is the name of an error class."""

    vector: str
    kind: str
    message: str
