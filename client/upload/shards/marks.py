"""Count the points of a shard on a server. Each point names its shard and the digest of its segment, and both fields have an
index while shards are loaded. Nothing else is recorded, so no record can differ from the points."""

from __future__ import annotations

from collections.abc import Collection

from ....protocol.finished_run.payload import RESERVED
from ..payload_indexes import Indexes
from ..requests import Requests
from .shard_runs import SHARD

DIGEST = f"{RESERVED}.vectors"
MARKS: Indexes = {SHARD: "integer", DIGEST: "keyword"}
"""The indexes by which the points of a shard are counted without reading the others."""

MOST_VALUES = 1_000
"""Digests in one request."""


def count_shard(requests: Requests, index: int, digests: Collection[str]) -> int:
    """The exact number of a shard's points. Those of an earlier state of it have other digests and do not count."""
    from qdrant_client import models

    of_shard = models.FieldCondition(key=SHARD, match=models.MatchValue(value=index))
    values, total = sorted(digests), 0
    for start in range(0, len(values), MOST_VALUES):
        part = models.MatchAny(any=values[start : start + MOST_VALUES])
        only = models.Filter(must=[of_shard, models.FieldCondition(key=DIGEST, match=part)])
        total += requests.ask(lambda only=only: requests.client.count(requests.collection, only, exact=True)).count
    return total
