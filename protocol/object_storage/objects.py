"""List, read, put and delete objects of a store. Errors of the library pass through; `failures.describe` explains them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from .address import Address
from .failures import is_cut, is_missing
from .stores import PATIENCE, open_store

PART_BYTES = 16 << 20
"""A larger file is put in parts, which become one object at once when the last has arrived."""
PARTS_AT_ONCE = 4
LIST_CHUNK = 1_000
LISTINGS = 5
"""Attempts at one: the library repeats no request whose answer has begun."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store describes it. `name` is below the address that was listed."""

    name: str
    size: int
    mtime_ns: int = 0
    e_tag: str = ""
    """Changes with the content; empty where the server has none."""


class ObjectFolder:
    """The objects below an address."""

    def __init__(self, address: Address, patience: float = PATIENCE) -> None:
        self.address = address
        self._store = open_store(address, patience)

    def list(self, part: str = "") -> list[StoredObject]:
        """All objects below the address, or below `part` there, sorted by name: one listing, made anew if it was cut short."""
        for _ in range(LISTINGS - 1):
            try:
                return sorted(self._list(part), key=lambda one: one.name)
            except Exception as error:
                if not is_cut(error):
                    raise
        return sorted(self._list(part), key=lambda one: one.name)

    def is_empty(self) -> bool:
        """Whether there is no object below the address, hidden ones aside: a listing that ends at the first one."""
        names = (PurePosixPath(one.name).parts for one in self._list(""))
        return all(any(part.startswith(".") for part in parts) for parts in names)

    def head(self, name: str = "") -> StoredObject | None:
        """The object of this name, or at the address itself; None if there is none."""
        import obstore

        try:
            found = obstore.head(self._store, self._key(name))
        except Exception as error:
            if is_missing(error):
                return None
            raise
        return _described(name, found)

    def get(self, name: str) -> tuple[bytes, StoredObject] | None:
        """A small object with its description; None if there is none."""
        import obstore

        try:
            result = obstore.get(self._store, self._key(name))
            about = _described(name, result.meta)
            return bytes(result.bytes()), about
        except Exception as error:
            if is_missing(error):
                return None
            raise

    def put(self, name: str, content: Path | bytes, check: Callable[[], None] = lambda: None) -> str:
        """Put a whole object in the place of any earlier one; return its e_tag. Until it is whole, nobody sees any of it.

        A large file goes in parts; `check` is called before each of them and before they become the object, and may raise.
        """
        import obstore

        if isinstance(content, bytes) or content.stat().st_size <= PART_BYTES:
            data = content if isinstance(content, bytes) else content.read_bytes()
            result = obstore.put(self._store, self._key(name), data, use_multipart=False)
        else:
            parts = _parts(content, check)
            result = obstore.put(
                self._store,
                self._key(name),
                parts,
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        return str(result["e_tag"] or "")

    def put_if(self, name: str, content: bytes, e_tag: str | None) -> str:
        """Put an object if there is none yet (`e_tag` None), or in the place of the one with that e_tag; return the new e_tag.

        The library's AlreadyExistsError or PreconditionError if it is otherwise, or if the first of two attempts arrived.
        """
        import obstore

        mode: Any = "create" if e_tag is None else {"e_tag": e_tag}
        return str(obstore.put(self._store, self._key(name), content, mode=mode)["e_tag"] or "")

    def delete(self, names: list[str]) -> None:
        """Delete objects, in this order by thousands; those that do not exist count as deleted."""
        import obstore

        for start in range(0, len(names), LIST_CHUNK):
            try:
                obstore.delete(self._store, [self._key(name) for name in names[start : start + LIST_CHUNK]])
            except Exception as error:
                if not is_missing(error):
                    raise

    def _list(self, part: str) -> Iterator[StoredObject]:
        import obstore

        key = self.address.key
        before = f"{key}/" if key else ""
        for chunk in obstore.list(self._store, self._key(part) or None, chunk_size=LIST_CHUNK):
            for one in chunk:
                name = str(one["path"]).removeprefix(before)
                if name and name != key:
                    yield _described(name, one)

    def _key(self, name: str) -> str:
        return self.address.below(name).key if name else self.address.key


def _parts(path: Path, check: Callable[[], None]) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            check()
            yield part
    check()


def _described(name: str, about: Any) -> StoredObject:
    when: datetime | None = about["last_modified"]
    mtime_ns = round(when.timestamp() * 1000) * 1_000_000 if when is not None else 0
    return StoredObject(name, int(about["size"]), mtime_ns, str(about["e_tag"] or ""))
