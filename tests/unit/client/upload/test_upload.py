from __future__ import annotations

import json
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embedfleet.client.upload import retry, target
from embedfleet.client.upload.sizes import LargePoints
from embedfleet.client.upload.uploader import upload_run
from embedfleet.exporter.export_runtime import ExportRuntime
from embedfleet.protocol.errors import EmbedfleetError, RunDirectoryError, UsageError
from embedfleet.protocol.finished_run.done_run import open_done_run
from embedfleet.protocol.finished_run.point_batches import BatchLimits, cut
from embedfleet.protocol.finished_run.points import Point
from embedfleet.protocol.index.collection import collection_schema
from embedfleet.protocol.run_directory.vector_rows import SparseVector

pytest.importorskip("qdrant_client")
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

ROWS = 60
SCALAR = {"scalar": {"type": "int8"}}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(target, "POLL_SECONDS", 0)
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0)


@pytest.fixture
def files(run_files, tmp_path):
    return run_files.RunFiles(
        tmp_path / "run", sizes=(30, 30), quarantined=(4,), sparse_quarantined=(7,), multivector=True
    ).write()


class Recorded:
    """The engine in memory, which no two threads may use at once; it notes what it is asked, and fails when told to."""

    def __init__(self) -> None:
        self.engine = QdrantClient(":memory:")
        self.asked: list[tuple[str, object]] = []
        self.failures: list[BaseException] = []
        """Raised, one an upsert, after `spare` upserts."""
        self.spare = 0
        self.quantization = None
        """What the collection is said to have."""
        self._lock = threading.Lock()

    def __getattr__(self, name):
        def ask(*args, **kwargs):
            with self._lock:
                self.asked.append((name, args[1:] or kwargs))
                if name == "upsert" and self.failures:
                    self.spare -= 1
                    if self.spare < 0:
                        raise self.failures.pop(0)
                done = getattr(self.engine, name)(*args, **kwargs)
                if name == "get_collection":  # the engine in memory does not keep it
                    done.config.quantization_config = self.quantization
                return done

        return ask

    def upserted(self) -> list[str]:
        return [point.id for name, args in self.asked if name == "upsert" for point in args[0]]

    def thresholds(self) -> list[int]:
        calls = [kwargs for name, kwargs in self.asked if name == "update_collection"]
        return [one["optimizers_config"].indexing_threshold for one in calls]


@pytest.fixture
def client():
    recorded = Recorded()
    yield recorded
    recorded.engine.close()


def busy() -> Exception:
    return UnexpectedResponse(503, "Service Unavailable", b"", None)


def test_a_run_becomes_a_collection(files, run_files, client):
    told = []
    done = upload_run(
        files.root,
        client,
        streams=3,
        limits=BatchLimits(points=8),
        quantization="scalar",
        progress=lambda count, due: told.append((count, due)),
    )
    assert (done.collection, done.points, done.delivered.new) == ("run", ROWS, ROWS)
    assert told[-1] == (ROWS, ROWS)
    assert sorted(told) == told
    assert len(client.upserted()) == ROWS
    assert client.thresholds() == [0, 20_000]  # off while loading, then what it was
    names = [name for name, _ in client.asked]
    assert names.index("update_collection") < names.index("upsert")
    created = dict(client.asked)["create_collection"]
    assert created["quantization_config"].scalar.type == "int8"
    many = created["vectors_config"][run_files.MULTI]
    assert (many.datatype, many.hnsw_config.m) == (models.Datatype.FLOAT16, 0)
    assert created["vectors_config"][run_files.DENSE].datatype is None
    ours = {point.id: point for point in open_done_run(files.root).points()}
    for record in client.engine.retrieve("run", list(ours), with_vectors=True):
        mine = ours[record.id]
        assert record.payload == mine.payload
        assert record.vector.keys() == mine.vectors.keys()
        if run_files.DENSE in mine.vectors:
            assert np.allclose(record.vector[run_files.DENSE], mine.vectors[run_files.DENSE], atol=2e-7)
        if run_files.SPARSE in mine.vectors:
            there = record.vector[run_files.SPARSE]
            assert (there.indices, there.values) == run_files.sparse_of(record.payload["row"])


def test_what_is_there_is_not_sent_again(files, client):
    assert upload_run(files.root, client).delivered.new == ROWS
    client.asked.clear()
    done = upload_run(files.root, client)
    assert (done.points, done.delivered.present, client.upserted()) == (ROWS, ROWS, [])
    ids = [point.id for point in open_done_run(files.root).points()]
    client.engine.delete("run", ids[10:13])
    client.engine.set_payload("run", {"text": "another"}, points=ids[20:21])
    done = upload_run(files.root, client)
    assert (done.delivered.new, done.delivered.replaced, done.delivered.present) == (3, 1, ROWS - 4)
    assert sorted(client.upserted()) == sorted([*ids[10:13], ids[20]])
    assert client.engine.retrieve("run", ids[20:21])[0].payload["text"] == "text 20"


def test_a_vector_that_is_gone_is_noticed(files, run_files, client):
    upload_run(files.root, client)
    ids = [point.id for point in open_done_run(files.root).points()]
    client.engine.delete_vectors("run", [run_files.SPARSE], points=[ids[2]])
    client.engine.delete_vectors("run", [run_files.MULTI, run_files.DENSE], points=[ids[40]])
    client.asked.clear()
    done = upload_run(files.root, client)
    assert (done.delivered.replaced, done.delivered.present) == (2, ROWS - 2)
    assert sorted(client.upserted()) == sorted([ids[2], ids[40]])
    for record in client.engine.retrieve("run", [ids[2], ids[40]], with_vectors=True):
        assert record.vector.keys() == {run_files.DENSE, run_files.SPARSE, run_files.MULTI}


def test_a_segment_that_was_computed_again_is_sent_again(files, run_files, client):
    upload_run(files.root, client)
    other = run_files.RunFiles(files.root, sizes=files.sizes, quarantined=(40,))
    files.vector_segment(run_files.DENSE, 1, other.dense_table(1))
    done = upload_run(files.root, client)
    assert (done.delivered.replaced, done.delivered.present) == (30, 30)
    (row,) = [point for point in open_done_run(files.root).points() if point.payload["row"] == 40]
    assert run_files.DENSE not in client.engine.retrieve("run", [row.id], with_vectors=True)[0].vector


def test_a_run_kept_in_another_way_is_sent_again(files, run_files, client):
    upload_run(files.root, client)
    for segment in (0, 1):
        table = files.dense_table(segment)
        halves = pa.array(table.column("vector").to_pylist(), pa.list_(pa.float16(), 4))
        place = table.column_names.index("vector")
        table = table.set_column(place, pa.field("vector", halves.type), halves)
        files.vector_segment(run_files.DENSE, segment, table)
    assert upload_run(files.root, client).delivered.replaced == ROWS


def test_quantization_is_the_exports_unless_it_is_given(files, client):
    ExportRuntime.export_for_local_qdrant(files.root, ["metadata"], "scalar", lambda _file: None)
    upload_run(files.root, client)
    assert dict(client.asked)["create_collection"]["quantization_config"].scalar.type == "int8"
    client.asked.clear()
    upload_run(files.root, client)
    assert not [kwargs for _, kwargs in client.asked if "quantization_config" in kwargs]
    for given, sent in (("scalar", "int8"), ("none", None)):
        client.asked.clear()
        client.quantization = None if given == "scalar" else models.ScalarQuantization.model_validate(SCALAR)
        upload_run(files.root, client, quantization=given)
        (chosen,) = [kwargs["quantization_config"] for _, kwargs in client.asked if "quantization_config" in kwargs]
        assert chosen == models.Disabled.DISABLED if sent is None else chosen.scalar.type == sent


def test_points_of_others_stay(files, client):
    schema = models.CreateCollection.model_validate(collection_schema(open_done_run(files.root)))
    client.engine.create_collection("C", vectors_config=schema.vectors, sparse_vectors_config=schema.sparse_vectors)
    client.engine.upsert("C", [models.PointStruct(id=1, vector={}, payload={})])
    done = upload_run(files.root, client, "C")
    assert (done.collection, done.points, done.delivered.new) == ("C", ROWS + 1, ROWS)


def test_a_run_with_fewer_vectors_takes_none_away(files, run_files, client, tmp_path):
    upload_run(files.root, client)
    part = run_files.RunFiles(tmp_path / "part" / "run", sizes=(30, 30), quarantined=(4,)).write()
    client.asked.clear()
    with pytest.raises(UsageError, match=rf"vectors that this run lacks \({run_files.MULTI}\).*another collection"):
        upload_run(part.root, client)
    assert client.upserted() == client.thresholds() == []


@pytest.mark.parametrize(
    "failure",
    [busy(), ResponseHandlingException(TimeoutError("slow")), ResourceExhaustedResponse("rate limit", 0)],
    ids=lambda error: type(error).__name__,
)
def test_a_busy_server_is_asked_again(files, client, failure):
    client.failures = [failure, failure]
    assert upload_run(files.root, client).points == ROWS


def test_a_server_that_stays_busy_ends_the_upload_with_the_index_on(files, client):
    client.failures = [busy()] * 100
    with pytest.raises(EmbedfleetError, match=r"the server stayed busy .*run the same command again"):
        upload_run(files.root, client, limits=BatchLimits(points=8))
    assert client.thresholds() == [0, 20_000]
    client.failures = []
    assert upload_run(files.root, client).points == ROWS


@pytest.mark.parametrize("failure", [KeyboardInterrupt, lambda: UnexpectedResponse(400, "Bad Request", b"", None)])
def test_an_error_while_the_index_is_switched_off_leaves_it_on(files, failure):
    class Lost(Recorded):
        def update_collection(self, _name, **kwargs):
            self.asked.append(("update_collection", kwargs))
            if kwargs["optimizers_config"].indexing_threshold == 0:  # it was followed; its answer never came
                raise failure()
            return True

    lost = Lost()
    with pytest.raises((KeyboardInterrupt, EmbedfleetError)):
        upload_run(files.root, lost)
    assert lost.thresholds() == [0, 20_000]
    lost.engine.close()


def test_a_refusal_is_not_repeated(files, client):
    client.failures = [UnexpectedResponse(400, "Bad Request", b"Wrong input: vector too long", None)]
    with pytest.raises(EmbedfleetError, match=r"the server refused \(.*vector too long"):
        upload_run(files.root, client, streams=1)
    assert [name for name, _ in client.asked].count("upsert") == 1


def test_an_upload_that_was_cut_short_is_resumed(files, client):
    client.failures, client.spare = [KeyboardInterrupt()], 3
    with pytest.raises(KeyboardInterrupt):
        upload_run(files.root, client, streams=1, limits=BatchLimits(points=8))
    standing = client.engine.count("run").count
    assert 24 <= standing < ROWS
    client.asked.clear()
    done = upload_run(files.root, client, streams=1, limits=BatchLimits(points=8))
    assert done.delivered.present == standing
    assert len(client.upserted()) == ROWS - standing


def test_a_schema_that_differs_names_the_vectors(files, run_files, client):
    client.engine.create_collection(
        "C",
        vectors_config={
            run_files.DENSE: models.VectorParams(size=5, distance=models.Distance.COSINE),
            run_files.MULTI: models.VectorParams(size=4, distance=models.Distance.COSINE),
        },
    )
    with pytest.raises(UsageError) as caught:
        upload_run(files.root, client, "C")
    message = str(caught.value)
    assert "vector dense-fake (dense, size 4, Cosine, there dense, size 5, Cosine)" in message
    assert "vector multivector-fake (multivectors, size 4, Cosine, there dense, size 4, Cosine)" in message
    assert "vector sparse-bm25 (sparse, modifier idf, there missing)" in message
    assert client.upserted() == client.thresholds() == []
    whole = models.VectorParams(size=4, distance=models.Distance.COSINE, datatype=models.Datatype.UINT8)
    client.engine.create_collection("E", vectors_config={run_files.DENSE: whole})
    with pytest.raises(UsageError, match=r"vector dense-fake .*there dense, size 4, Cosine, uint8"):
        upload_run(files.root, client, "E")
    client.engine.create_collection("D", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
    with pytest.raises(UsageError, match=r"vector dense-fake .*there missing"):
        upload_run(files.root, client, "D")


def test_vectors_of_another_model_are_refused(files, run_files, client):
    upload_run(files.root, client)
    files.vector_segment(run_files.DENSE, 0, files.dense_table(0), fingerprint="e" * 64)
    with pytest.raises(
        UsageError, match=r"differs .* in vector dense-fake \(made by another model or with other settings\)\."
    ):
        upload_run(files.root, client)


def test_the_index_has_a_deadline(files):
    class Slow(Recorded):
        status = models.CollectionStatus.YELLOW

        def get_collection(self, name):
            return self.engine.get_collection(name).model_copy(update={"status": self.status})

    slow = Slow()
    with pytest.raises(EmbedfleetError, match=r"the index is not ready \(status yellow\).*--wait"):
        upload_run(files.root, slow, green_seconds=0.05)
    slow.status = models.CollectionStatus.RED
    with pytest.raises(EmbedfleetError, match="status red"):
        upload_run(files.root, slow)
    slow.engine.close()


def test_an_index_left_off_is_switched_on(files):
    class Off(Recorded):
        def get_collection(self, name):
            info = self.engine.get_collection(name)
            info.config.optimizer_config.indexing_threshold = 0
            return info

    off = Off()
    upload_run(files.root, off)
    assert off.thresholds() == [0, target.INDEXING_THRESHOLD]
    off.engine.close()


def test_a_count_that_is_wrong_is_an_error(files):
    class Short(Recorded):
        def count(self, *_args, **_kwargs):
            return models.CountResult(count=0)

    short = Short()
    with pytest.raises(EmbedfleetError, match="holds 0 points where 60 are due"):
        upload_run(files.root, short)
    short.engine.close()


def test_a_run_that_is_not_done(files, client):
    files.layout.manifest.unlink()
    with pytest.raises(RunDirectoryError, match="not done"):
        upload_run(files.root, client)
    assert client.asked == []


HUGE, NEGATIVE = 18446744073709551615, -9223372036854775809


def test_a_number_beyond_64_bits_goes_as_text_and_is_told(files, client):
    """qdrant-client's converter to gRPC takes no such number, and named no point."""
    conversion = pytest.importorskip("qdrant_client.conversions.conversion")
    metadata = {3: {"serial": HUGE}, 40: {"parts": [{"n": 1}, {"n": NEGATIVE}], "most": (1 << 63) - 1}}
    for segment in (0, 1):
        path = files.layout.chunk_segment(segment)
        table = pq.ParquetFile(path).read()
        rows = table.column("row").to_pylist()
        stored = [json.dumps(metadata.get(row, {"n": row})) for row in rows]
        table = table.set_column(3, table.schema.field("metadata"), pa.array(stored, pa.string()))
        pq.write_table(table, path)
    done = upload_run(files.root, client)
    assert (done.delivered.new, done.as_text) == (ROWS, 2)
    notice = "2 points have whole numbers beyond 64 bits, sent as text: the first is chunk 'c3' (metadata.serial)"
    assert done.notices == (notice,)
    sent = {one.payload["row"]: one for name, args in client.asked if name == "upsert" for one in args[0]}
    assert sent[3].payload["metadata"] == {"serial": str(HUGE)}
    assert sent[40].payload["metadata"] == {"parts": [{"n": 1}, {"n": str(NEGATIVE)}], "most": (1 << 63) - 1}
    for one in sent.values():
        conversion.RestToGrpc.convert_point_struct(one)
    again = upload_run(files.root, client)
    assert (again.delivered.present, again.as_text) == (ROWS, 2)


def point(text: str = "", numbers: int = 0) -> Point:
    return Point("id", {"text": text}, {"v": np.zeros(numbers, np.float32)} if numbers else {})


def test_batches_are_bounded_by_points_and_bytes():
    assert [len(one) for one in cut([point()] * 600, BatchLimits())] == [256, 256, 88]
    # 1 MiB each over gRPC
    sizes = [len(one) for one in cut([point(numbers=1 << 18)] * 40, BatchLimits())]
    assert sum(sizes) == 40
    assert max(sizes) == 15
    assert max(len(one) for one in cut([point("x" * (1 << 20))] * 40, BatchLimits())) <= 15
    alone = [len(one) for one in cut([point(), point(numbers=1 << 23), point()], BatchLimits())]
    assert alone == [1, 1, 1]
    sparse = Point("id", {}, {"s": SparseVector(np.zeros(1 << 18, np.uint32), np.zeros(1 << 18, np.float32))})
    assert max(len(one) for one in cut([sparse] * 20, BatchLimits())) == 7


@pytest.fixture
def metadata(files):
    """Gives chunk 5 this metadata, in files and all."""

    def change(value):
        path = files.layout.chunk_segment(0)
        table = pq.read_table(path)
        column = table.column("metadata").to_pylist()
        column[5] = json.dumps(value)
        place = table.schema.get_field_index("metadata")
        pq.write_table(table.set_column(place, table.schema.field(place), pa.array(column)), path)

    return change


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, True), (1, 1.0), (0, False), (0.0, -0.0), ([1], [1.0]), ({"a": [True]}, {"a": [1]}), (None, {}), ("1", 1)],
)
def test_a_value_of_another_type_is_another_payload(files, client, metadata, before, after):
    metadata({"value": before})
    upload_run(files.root, client)
    assert upload_run(files.root, client).delivered.present == ROWS
    metadata({"value": after})
    done = upload_run(files.root, client)
    assert (done.delivered.replaced, done.delivered.present) == (1, ROWS - 1)
    point = list(open_done_run(files.root).points())[5].id
    there = client.engine.retrieve("run", [point])[0].payload["metadata"]["value"]
    assert json.dumps(there) == json.dumps(after)


def test_the_order_of_keys_is_no_difference(files, client, metadata):
    metadata({"a": 1, "b": {"c": 2, "d": 3}})
    upload_run(files.root, client)
    metadata({"b": {"d": 3, "c": 2}, "a": 1})
    assert upload_run(files.root, client).delivered.present == ROWS


@pytest.mark.parametrize("grpc", [True, False])
def test_a_chunk_beyond_a_request_is_named_and_the_others_arrive(files, client, metadata, grpc):
    quotes = '"\n' * 150_000  # 300,000 bytes as they are, twice as many in JSON
    metadata({"quotes": quotes})
    large = LargePoints(400_000, 4, grpc=grpc)
    done = upload_run(files.root, client, large=large)
    left = 0 if grpc else 1
    assert (done.points, len(done.left_out)) == (ROWS - left, left)
    if left:
        chunk = open_done_run(files.root)
        assert done.left_out == (list(chunk.ids())[5],)
        assert repr(done.left_out[0]) in done.notices[0]
        assert "--cut-payload" in done.notices[0]
        cut = upload_run(files.root, client, large=LargePoints(400_000, 4, grpc=grpc, cut=True))
        assert (cut.points, cut.left_out, cut.delivered.new) == (ROWS, (), 1)
        point = list(chunk.points())[5].id
        assert client.engine.retrieve("run", [point])[0].payload["metadata"] == {}
        again = upload_run(files.root, client, large=LargePoints(400_000, 4, grpc=grpc, cut=True))
        assert again.delivered.present == ROWS


@pytest.mark.parametrize(
    "error",
    [
        UnexpectedResponse(413, "Payload Too Large", b"", None),
        UnexpectedResponse(
            400, "Bad Request", b'{"status":{"error":"JSON payload (1 bytes) is larger than allowed"}}', None
        ),
        ResponseHandlingException(ConnectionResetError("closed by the peer")),
    ],
)
def test_a_request_that_a_server_finds_too_large_is_halved(files, client, error):
    victim = list(open_done_run(files.root).points())[17].id
    upsert = client.engine.upsert

    def refuse(name, points, **how):
        if any(one.id == victim for one in points) and (
            len(points) > 1 or not isinstance(error, ResponseHandlingException)
        ):
            raise error
        return upsert(name, points, **how)

    client.engine.upsert = refuse
    done = upload_run(files.root, client, limits=BatchLimits(points=16))
    if isinstance(error, ResponseHandlingException):  # alone it goes: it was the size of the request
        assert (done.points, done.left_out) == (ROWS, ())
    else:
        assert (done.points, len(done.left_out)) == (ROWS - 1, 1)


def test_a_message_above_grpcs_limit_is_halved_without_a_pause(files, client):
    """Its status, RESOURCE_EXHAUSTED, is also that of a busy server, which is asked again."""
    import grpc

    class Refused(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.RESOURCE_EXHAUSTED

        def details(self):
            return "SERVER: Received message larger than max (27000 vs. 20000)"

    client.failures = [Refused()]
    assert upload_run(files.root, client).points == ROWS
    sizes = [len(args[0]) for name, args in client.asked if name == "upsert"]
    assert sizes == [ROWS, ROWS // 2, ROWS // 2]


def numbered(files, texts):
    """Give the run made-up ids, and these texts."""
    row = 0
    for segment in (0, 1):
        names = [path for path in files.root.rglob(f"{segment:05d}.parquet") if "qdrant" not in path.parts]
        rows = pq.read_table(files.layout.chunk_segment(segment)).num_rows
        ids = [f"corpus.jsonl#{row + at + 1}" for at in range(rows)]
        for path in names:
            table = pq.read_table(path)
            columns = {"id": ids, **({"text": texts[row : row + rows]} if "text" in table.column_names else {})}
            for name, values in columns.items():
                place = table.schema.get_field_index(name)
                table = table.set_column(place, table.schema.field(place), pa.array(values))
            pq.write_table(table, path)
        row += rows
    files.layout.source.write_text('[{"path":"corpus.jsonl","size":1,"mtime_ns":1}]')


def test_made_up_ids_of_two_corpora_do_not_meet(files, client):
    numbered(files, [f"alpha {row}" for row in range(ROWS)])
    upload_run(files.root, client)
    assert upload_run(files.root, client).delivered.present == ROWS
    numbered(files, [f"beta {row}" for row in range(ROWS)])
    with pytest.raises(UsageError, match=r"'corpus.jsonl#1' is there with another text.*--replace"):
        upload_run(files.root, client)
    assert {one.payload["text"][:5] for one in client.engine.scroll("run", limit=ROWS)[0]} == {"alpha"}
    done = upload_run(files.root, client, replace=True)
    assert (done.delivered.replaced, done.points) == (ROWS, ROWS)


def test_points_of_an_earlier_state_are_counted_and_pruned(files, run_files, tmp_path, client):
    upload_run(files.root, client, "shared")
    client.engine.upsert("shared", [models.PointStruct(id=7, vector={}, payload={"of": "another program"})])
    fewer = run_files.RunFiles(
        tmp_path / "fewer", sizes=(30,), quarantined=(4,), sparse_quarantined=(7,), multivector=True
    ).write()
    done = upload_run(fewer.root, client, "shared")
    assert (done.others, done.pruned) == (ROWS - 30, 0)
    assert "30 more points" in done.notices[-1]
    assert "--prune" in done.notices[-1]
    done = upload_run(fewer.root, client, "shared", prune=True)
    assert (done.others, done.pruned, done.points) == (0, ROWS - 30, 31)
    ours = {one.id for one in open_done_run(fewer.root).points()}
    assert {str(one.id) for one in client.engine.scroll("shared", limit=100)[0]} == ours | {"7"}


def test_a_client_in_this_process_gets_one_stream(files):
    """Its engine takes one thread at a time: with more, points had the vectors of others."""

    threads: set[int] = set()

    class Engine(QdrantClient):
        def upsert(self, *args, **kwargs):
            threads.add(threading.get_ident())
            time.sleep(0.01)
            return super().upsert(*args, **kwargs)

    upload_run(files.root, Engine(":memory:"), "c", streams=4, limits=BatchLimits(points=5))
    assert len(threads) == 1
