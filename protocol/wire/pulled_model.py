"""What `worker/hub/pull.py` reports of a model that it fetched; of one that it could not, a Refusal."""

from __future__ import annotations

import msgspec


class PulledModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a run can use without the hub."""

    name: str
    """Its hub id."""
    revision: str
    """The commit; empty for a package."""
    folder: str
    bytes: int
    """Of the files in the folder that a run uses."""
    fetched: bool
    """Whether anything was fetched; False if all of it was there."""
    flags: tuple[str, ...]
    """The flags that take it, such as `--dense`."""
    remote_code: bool
    """Whether it also needs --trust-remote-code."""
