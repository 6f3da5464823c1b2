"""The catalogue as a list: what each model is, whether it is on this host, and the command that fetches it."""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.spec.catalog import catalog
from ...protocol.spec.run_spec import FLAGS
from .presence import Presence, find_presence


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model of the catalogue. Fields that its card does not fill are empty, or 0."""

    name: str
    hub: str
    flag: str
    """The flag that it is for, as `--dense`."""
    dim: int
    max_tokens: int
    languages: str
    bytes: int
    """The size of its weights, as the hub lists it."""
    license: str
    remote_code: bool
    """Whether it needs --trust-remote-code."""
    here: Presence
    cached_bytes: int
    fetch: str
    """The command that fetches it."""


def list_models() -> list[ListedModel]:
    """The models of the catalogue in its order."""
    found: list[ListedModel] = []
    for name, entry in catalog().items():
        here, cached = find_presence(entry)
        found.append(
            ListedModel(
                name=name,
                hub=entry.hub,
                flag=FLAGS[entry.kind],
                dim=entry.dim,
                max_tokens=entry.max_tokens,
                languages=entry.languages,
                bytes=entry.bytes,
                license=entry.license,
                remote_code=entry.remote_code,
                here=here,
                cached_bytes=cached,
                fetch=f"embedfleet models pull {name}",
            )
        )
    return found
