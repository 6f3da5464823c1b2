"""Data sets of the Hugging Face hub, by the file system of huggingface_hub: their files at one commit, and ranges of them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from ..errors import SourceError, UsageError
from .address import Address
from .failures import describe, status_of
from .objects import StoredObject

BLOCK_BYTES = 4 << 20


def list_files(address: Address) -> tuple[Address, list[StoredObject]]:
    """The address at the commit that its revision names now, and the files there: one file, or all below a folder.

    A name is empty for the file itself. SourceError if there is no such data set, revision or path, or it may not be read.
    """
    system = _file_system(address)
    from huggingface_hub import HfApi

    owner, _, revision = address.place.removeprefix("datasets/").partition("@")
    try:
        commit = str(HfApi().dataset_info(owner, revision=revision or None).sha)
        pinned = Address("hf", f"datasets/{owner}@{commit}", address.key)
        path = _path(pinned)
        found: dict[str, dict[str, Any]] = system.find(path, detail=True)
    except Exception as error:
        raise refusal(error, address) from error
    files = [
        StoredObject(name.removeprefix(path).strip("/"), int(about["size"] or 0), e_tag=_content_id(about))
        for name, about in found.items()
        if about["type"] == "file"
    ]
    if not files:
        raise SourceError(f"{address}: no such file or folder in the data set; check the path and the revision")
    return pinned, sorted(files, key=lambda one: one.name)


class HubRanges:
    """Ranges of a file at a commit, which never changes."""

    def __init__(self, address: Address, size: int) -> None:
        self._path, self._size, self._system = _path(address), size, _file_system(address)

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to `end`, in one piece of at most BLOCK_BYTES each."""
        with self._system.open(self._path, "rb", cache_type="none", size=self._size) as file:
            file.seek(start)
            for begin in range(start, end, BLOCK_BYTES):
                yield bytes(file.read(min(BLOCK_BYTES, end - begin)))


def refusal(error: Exception, address: Address) -> SourceError:
    """The error for a hub that refused, in one line."""
    kind, status = type(error).__name__, status_of(error)
    response: Any = getattr(error, "response", None)
    status = status or int(getattr(response, "status_code", 0) or 0)
    if kind == "GatedRepoError" or status == 403:
        why = (
            "the data set asks for consent to its terms; accept them on its page, and run hf auth login or set HF_TOKEN"
        )
    elif kind == "RevisionNotFoundError":
        why = "has no such revision; name a branch, a tag or a commit behind the @"
    elif kind == "RepositoryNotFoundError" or status in (401, 404):
        why = "no such data set, or a private one; check its name, and run hf auth login or set HF_TOKEN"
    else:
        why = describe(error, address)
    return SourceError(f"{address}: {why}")


def _file_system(address: Address) -> Any:
    if find_spec("huggingface_hub") is None:
        raise UsageError(f"{address}: needs huggingface_hub: pip install 'embedfleet[remote]'")
    from huggingface_hub import HfFileSystem

    return HfFileSystem()


def _path(address: Address) -> str:
    return f"{address.place}/{address.key}".rstrip("/")


def _content_id(about: dict[str, Any]) -> str:
    """The digest by which the hub knows the content."""
    lfs: Any = about.get("lfs")
    return str(
        (lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", "")) or about.get("blob_id") or ""
    )
