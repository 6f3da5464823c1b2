from __future__ import annotations

import pytest
from embedfleet.client.upload.collection_options import CollectionOptions

pytest.importorskip("qdrant_client")
from qdrant_client import models

SCHEMA = {
    "vectors": {"d": {"size": 4, "distance": "Cosine"}},
    "sparse_vectors": {"s": {"modifier": "idf"}},
    "quantization_config": None,
    "metadata": {},
}


def configuration(m=16, shards=1, replicas=1, dense=None, sparse=None):
    """What a server says of a collection; `dense` and `sparse` are where its vectors lie."""
    vector = {"size": 4, "distance": "Cosine", **(dense or {})}
    return models.CollectionConfig.model_validate(
        {
            "params": {
                "vectors": {"d": vector},
                "sparse_vectors": {"s": {"modifier": "idf", **({"index": sparse} if sparse else {})}},
                "shard_number": shards,
                "replication_factor": replicas,
            },
            "hnsw_config": {"m": m, "ef_construct": 100, "full_scan_threshold": 10_000},
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            },
        }
    )


def test_nothing_is_set_by_default():
    body = CollectionOptions().body(SCHEMA)
    assert {name: one for name, one in body.items() if one is not None} == {
        name: one for name, one in SCHEMA.items() if one is not None
    }
    assert list(CollectionOptions().differences(configuration(m=99, shards=7, replicas=3))) == []


def test_the_body_has_what_was_asked_for():
    body = models.CreateCollection.model_validate(CollectionOptions(32, True, 3, 2).body(SCHEMA))
    assert (body.hnsw_config.m, body.shard_number, body.replication_factor) == (32, 3, 2)
    assert body.vectors["d"].on_disk
    assert body.sparse_vectors["s"].index.on_disk
    assert body.sparse_vectors["s"].modifier == models.Modifier.IDF
    assert "on_disk" not in SCHEMA["vectors"]["d"]
    assert models.CreateCollection.model_validate(CollectionOptions(hnsw_m=0).body(SCHEMA)).hnsw_config.m == 0


def test_a_collection_that_is_kept_otherwise():
    on_disk = {"dense": {"on_disk": True}, "sparse": {"on_disk": True}}
    assert list(CollectionOptions(32, True, 3, 2).differences(configuration(32, 3, 2, **on_disk))) == []
    assert list(CollectionOptions(32, True, 3, 2).differences(configuration())) == [
        "--hnsw-m 32 (there 16)",
        "--shards 3 (there 1)",
        "--replicas 2 (there 1)",
        "--on-disk (there in memory: d, s)",
    ]
    half = configuration(dense={"on_disk": True}, sparse={"on_disk": False})
    assert list(CollectionOptions(on_disk=True).differences(half)) == ["--on-disk (there in memory: s)"]


@pytest.mark.skipif(not hasattr(models, "Memory"), reason="this qdrant-client has no places in memory")
def test_newer_servers_say_where_vectors_are_in_another_way():
    cold, cached = ({"dense": {"memory": one}, "sparse": {"memory": one}} for one in ("cold", "cached"))
    assert list(CollectionOptions(on_disk=True).differences(configuration(**cold))) == []
    assert list(CollectionOptions(on_disk=True).differences(configuration(**cached))) == [
        "--on-disk (there in memory: d, s)"
    ]
