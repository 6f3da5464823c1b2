#!/usr/bin/env python3
"""Load the points.jsonl that stands beside this script into a Qdrant server. Needs: pip install 'qdrant-client>=1.16'

    python upload_to_qdrant.py --url http://localhost:6333 [--collection NAME] [--api-key-env VARIABLE]

The collection is made as collection.json says where it is not there yet. Run the script as often as you like: the ids of
points are fixed, so that points are written over and never doubled.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

try:
    from qdrant_client import QdrantClient, models
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
except ImportError as error:
    sys.exit(f"upload_to_qdrant.py needs qdrant-client ({error}): pip install 'qdrant-client>=1.16'")

MOST_POINTS = 256
MOST_BYTES = 16 << 20
ATTEMPTS = 6
GREEN_SECONDS = 3600.0
INDEXING_THRESHOLD = 10_000
"""Kilobytes of vectors in a segment from which it is indexed: Qdrant's own default, set where none was."""

T = TypeVar("T")


def load(
    client: QdrantClient,
    folder: Path,
    collection: str | None = None,
    poll_seconds: float = 1.0,
    *,
    replace: bool = False,
) -> int:
    """Make the collection, send all points and have them indexed; return how many points the collection then has.

    Unless `replace` is set, a chunk with a generated id (FILE#NUMBER) does not overwrite another text.
    """
    about = json.loads((folder / "collection.json").read_bytes())
    name: str = collection or about["name"]
    if not client.collection_exists(name):
        create(client, name, about["create"])
    config = client.get_collection(name).config
    threshold = config.optimizer_config.indexing_threshold
    if surplus := sorted(names(config.params) - names(models.CreateCollection.model_validate(about["create"]))):
        raise SystemExit(
            f"{name}: it has vectors that these points lack ({', '.join(surplus)}), and writing a point replaces all of its "
            "vectors; name another collection with --collection"
        )
    try:
        client.update_collection(name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0))
        sent = 0
        for points in batches(folder / "points.jsonl"):
            if not replace:
                check_numbered(client, name, points, set(about.get("source_files", ())))
            again(lambda points=points: client.upsert(name, points, wait=True))
            sent += len(points)
            sys.stderr.write(f"\r{sent:,} of {about['points']:,} points")
        sys.stderr.write("\n")
    finally:  # also after a failure: a collection must not be left without an index
        threshold = threshold or INDEXING_THRESHOLD
        client.update_collection(name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=threshold))
    wait_until_green(client, name, poll_seconds)
    count = client.count(name, exact=True).count
    if sent != about["points"] or count < sent:
        raise SystemExit(f"{name}: {about['points']:,} points are due, {sent:,} were sent, {count:,} are there")
    return count


def create(client: QdrantClient, name: str, body: dict[str, Any]) -> None:
    """Make the collection that `body`, as for `PUT /collections/{name}`, describes."""
    schema = models.CreateCollection.model_validate(body)
    client.create_collection(
        name,
        vectors_config=schema.vectors,
        sparse_vectors_config=schema.sparse_vectors,
        quantization_config=schema.quantization_config,
        metadata=schema.metadata,
    )


def names(schema: Any) -> set[str]:
    """The vectors of a collection, sparse ones included; the one without a name counts as `(unnamed)`."""
    dense: Any = schema.vectors or {}
    return {*(dense if isinstance(dense, dict) else ["(unnamed)"]), *(schema.sparse_vectors or {})}


def batches(path: Path) -> Iterator[list[models.PointStruct]]:
    """The points of the file, so many at a time as one request may hold."""
    batch: list[models.PointStruct] = []
    size = 0
    with path.open("rb") as lines:
        for line in lines:
            if batch and (len(batch) == MOST_POINTS or size + len(line) > MOST_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(models.PointStruct.model_validate_json(line))
            size += len(line)
    if batch:
        yield batch


def check_numbered(client: QdrantClient, name: str, points: list[models.PointStruct], files: set[str]) -> None:
    """End before a chunk of another corpus is overwritten: every `corpus.jsonl` has an id `corpus.jsonl#1`."""
    texts = {
        str(one.id): payload["text"] for one in points if (payload := one.payload) and numbered(payload["id"], files)
    }
    if not texts:
        return
    for record in again(lambda: client.retrieve(name, list(texts), with_payload=["id", "text"])):
        there = record.payload or {}
        if there.get("text") != texts[str(record.id)]:
            raise SystemExit(
                f"{name}: chunk {there.get('id')!r} is there with another text, from another corpus or an earlier state of "
                "this one; name another collection with --collection, or overwrite it with --replace"
            )


def numbered(chunk: str, files: set[str]) -> bool:
    """Whether the id was generated: the name of a source file, a `#`, and the record's number."""
    file, mark, number = chunk.rpartition("#")
    return bool(mark) and number.isdecimal() and file in files


def again(work: Callable[[], T]) -> T:
    """Do it, and some seconds later once more where the server was busy or away."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return work()
        except ResponseHandlingException:
            pass
        except UnexpectedResponse as error:
            if error.status_code is None or (error.status_code < 500 and error.status_code != 429):
                raise
        time.sleep(2**attempt * random.uniform(0.5, 1.5))
    return work()


def wait_until_green(client: QdrantClient, name: str, poll_seconds: float) -> None:
    """Until the index is built: green twice in a row, since building begins a moment after it is switched on."""
    give_up = time.monotonic() + GREEN_SECONDS
    calm = 0
    while calm < 2:
        status = again(lambda: client.get_collection(name)).status
        if status == models.CollectionStatus.RED or time.monotonic() > give_up:
            raise SystemExit(f"{name}: all points are there, but the index is not ready (status {status.value})")
        calm = calm + 1 if status == models.CollectionStatus.GREEN else 0
        time.sleep(poll_seconds)


def main() -> int:
    """Read the flags, load the points."""
    parser = argparse.ArgumentParser(description="Load points.jsonl into a Qdrant server.")
    parser.add_argument("--url", default="http://localhost:6333", help="the server (default: %(default)s)")
    parser.add_argument("--collection", metavar="NAME", help="default: the name in collection.json")
    parser.add_argument("--replace", action="store_true", help="overwrite chunks of the same generated id, FILE#NUMBER")
    parser.add_argument("--api-key-env", metavar="VARIABLE", help="environment variable that holds the API key")
    flags = parser.parse_args()
    key = os.environ.get(flags.api_key_env) if flags.api_key_env else None
    if flags.api_key_env and not key:
        parser.error(f"--api-key-env {flags.api_key_env}: the variable is not set")
    client = QdrantClient(url=flags.url, api_key=key, timeout=60)
    try:
        count = load(client, Path(__file__).resolve().parent, flags.collection, replace=flags.replace)
    except ResponseHandlingException as error:
        raise SystemExit(
            f"{flags.url}: {error}; is a Qdrant server running there? --url gives another address"
        ) from None
    except UnexpectedResponse as error:
        raise SystemExit(f"{flags.url}: {error}; for a key, see --api-key-env") from None
    finally:
        client.close()
    sys.stderr.write(f"done: the collection has {count:,} points\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
