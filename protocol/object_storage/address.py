"""Addresses of objects: `s3://BUCKET/KEY` and the like. They hold no credentials: those are in the environment."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from os import PathLike, fspath
from urllib.parse import unquote, urlsplit

from ..errors import EmbedfleetError, UsageError

_SCHEME = re.compile(r"(s3|gs|az|https?|hf):(/{1,2}|$)", re.IGNORECASE)
"""One slash is enough, and none if nothing follows: a `Path` drops the others."""
STORES = ("s3", "gs", "az")
"""Schemes of stores that can hold a run directory."""
_HUB_PARTS = 3
"""`datasets/OWNER/NAME`."""


@dataclass(frozen=True, slots=True)
class Address:
    """An object, or all objects below a prefix. `key` has no slash at its ends; it is empty for a whole bucket."""

    scheme: str
    place: str
    """The bucket or container; `HOST:PORT` of a web server; `datasets/OWNER/NAME@REVISION` of the hub."""
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}/{self.key}".rstrip("/")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return (self.key or self.place).rpartition("/")[2]

    def below(self, name: str) -> Address:
        """The object of this name below the prefix."""
        return Address(self.scheme, self.place, f"{self.key}/{name}" if self.key else name)


def is_address(value: str | PathLike[str]) -> bool:
    """Whether a path that a user gave is an address of one of the schemes that are read here."""
    text: object = value
    with contextlib.suppress(TypeError):
        text = fspath(value)
    return isinstance(text, str) and _SCHEME.match(text) is not None


def parse_address(value: str | PathLike[str], what: str, error: type[EmbedfleetError] = UsageError) -> Address:
    """The address in `value`. Raise `error`, naming the flag or argument `what`, for one that cannot be used."""
    text = fspath(value)
    found = _SCHEME.match(text)
    if found is None:
        raise error(f"{what} {text}: give an address, as in s3://BUCKET/KEY")
    scheme, rest = found[1].lower(), text[found.end() :].rstrip("/")
    _refuse_secrets(scheme, rest, what, error)
    if scheme == "hf":
        return _of_hub(text, rest, what, error)
    place, _, key = rest.partition("/")
    if scheme in ("http", "https"):
        key = unquote(key)
    if not place:
        raise error(f"{what} {text}: names no {'host' if 'http' in scheme else 'bucket'}; give {scheme}://NAME/KEY")
    return Address(scheme, place, key.strip("/"))


_aliases: dict[str, str] = {}
"""By local folder, the address of which it is a copy or the spool."""
MOST_ALIASES = 100
"""A process may open any number of folders, in turn."""


def alias_folder(folder: PathLike[str], address: Address) -> None:
    """Let messages of this process name the address in the place of the folder: also after it was closed, since errors are
    shown then, but only of the last MOST_ALIASES folders."""
    _aliases.pop(fspath(folder), None)
    _aliases[fspath(folder)] = str(address)
    for oldest in tuple(_aliases)[:-MOST_ALIASES]:
        _aliases.pop(oldest, None)


def with_addresses(text: str) -> str:
    """The text with addresses in the place of the folders that stand for them."""
    for folder, address in tuple(_aliases.items()):  # another thread may add one
        text = text.replace(folder, address)
    return text


def _refuse_secrets(scheme: str, rest: str, what: str, error: type[EmbedfleetError]) -> None:
    """Refuse what may be a key: it would stand in spec.json, in logs and in lists of processes."""
    place = rest.partition("/")[0]
    if "@" in place and scheme != "hf":
        raise error(f"{what} {scheme}://…@…: leave user and password out of the address; give keys in the environment")
    if "http" in scheme and (urlsplit(f"{scheme}://{rest}").query or "#" in rest):
        raise error(
            f"{what} {scheme}://{place}/…?…: what follows the ? may hold a key, and would be stored; give an address without "
            "it, or s3://, gs:// or az:// with keys in the environment"
        )


def _of_hub(text: str, rest: str, what: str, error: type[EmbedfleetError]) -> Address:
    parts = rest.split("/", _HUB_PARTS)
    if len(parts) < _HUB_PARTS or parts[0] != "datasets" or not all(parts[:_HUB_PARTS]):
        raise error(f"{what} {text}: give hf://datasets/OWNER/NAME/PATH, or …/NAME@REVISION/PATH")
    return Address("hf", "/".join(parts[:_HUB_PARTS]), parts[_HUB_PARTS] if len(parts) > _HUB_PARTS else "")
