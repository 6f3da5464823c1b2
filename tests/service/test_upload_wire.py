"""`embedfleet upload` over real gRPC on loopback, to a server that keeps the messages as they came (`tests/qdrant_server`).

Most uploads are made in this process, where pauses can be left out; those with `cli` and `start` are processes of their own.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from embedfleet.client.cli.app import app
from embedfleet.client.upload import retry, server, target
from embedfleet.client.upload.payloads import BigIntegersAsText
from embedfleet.protocol.errors import EmbedfleetError, Unreachable, UsageError
from embedfleet.protocol.finished_run.done_run import open_done_run
from embedfleet.protocol.finished_run.points import as_lists

pytest.importorskip("qdrant_client")
pytest.importorskip("tenacity")

from ..qdrant_server.collection import DEFAULT_M, DEFAULT_THRESHOLD
from ..qdrant_server.cut_proxy import passing
from ..qdrant_server.faults import ALWAYS, late, refusal, silence, wait_until_given_up
from ..qdrant_server.server import QdrantServer, serving

ROWS, BATCH = 60, 16


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "POLL_SECONDS", 0)
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0)


@pytest.fixture
def qdrant() -> Iterator[QdrantServer]:
    with serving() as store:
        yield store


@pytest.fixture
def files(run_files: Any, tmp_path: Path) -> Any:
    return run_files.RunFiles(
        tmp_path / "run", sizes=(40, 20), quarantined=(4,), sparse_quarantined=(7,), multivector=True
    ).write()


@pytest.fixture(scope="module")
def command() -> Any:
    """`embedfleet`, as a function of its arguments; made once, since Typer takes some time for it."""
    return typer.main.get_command(app)


@pytest.fixture
def upload(command: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `embedfleet upload` in this process; what it prints as JSON. An error is raised as it is."""

    def call(root: Path, port: int, *flags: str, code: int = 0) -> Any:
        where = ("--url", "http://127.0.0.1", "--grpc-port", str(port))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            command(["upload", str(root), *where, "--json", "--streams", "1", "--batch", str(BATCH), *flags])
        assert (end.value.code or 0) == code
        return json.loads(capsys.readouterr().out)

    return call


def assert_same(store: QdrantServer, root: Path) -> None:
    """The collection has the run's points, all of their payload and every number of their vectors."""
    ours = {point.id: point for point in BigIntegersAsText().take(open_done_run(root).points())}
    theirs = store.collections[root.name].rows()
    assert theirs.keys() == ours.keys()
    for key, (payload, vectors) in theirs.items():
        mine = json.dumps(ours[key].payload, sort_keys=True)  # text, since 1, 1.0 and true are equal in Python
        assert json.dumps(payload, sort_keys=True) == mine
        assert vectors == as_lists(ours[key].vectors, lambda indices, values: (indices, values))
    assert store.collections[root.name].threshold == DEFAULT_THRESHOLD, "the index is on"


METADATA: tuple[dict[str, Any], ...] = (
    {"nothing": None, "yes": True, "no": False, "lang": "de", "day": "2024-02-29"},
    {"zero": 0, "one": 1, "most": (1 << 63) - 1, "least": -(1 << 63), "lang": "en", "day": "2024-03-01T10:00:00Z"},
    {"float": 1.0, "minus": -0.0, "small": 5e-324, "large": 1.7976931348623157e308, "third": 1 / 3, "exact": 2.0**53},
    {"empty": "", "signs": "Grüße, 世界, 👩‍💻", "controls": "a\tb\nc\x00\x7f", "quotes": '"\\"', "long": "x" * 70_000},
    {"list": [], "object": {}, "nested": {"a": [1, 1.0, True, None, "1", [], {}, {"b": [[2], [[3.5]]]}]}},
    {"": "a key without letters", "a.b": 1, "a b": 2, "[0]": 3, "clé": 4, '"': 5},
    {"beyond": 1 << 63, "far": [(1 << 64) - 1, {"deep": 10**30}], "words": 3},
    {},
)


def test_every_kind_of_payload_arrives(cli: Any, tmp_path: Path, qdrant: QdrantServer) -> None:
    from qdrant_client import QdrantClient

    corpus, out = tmp_path / "corpus.jsonl", tmp_path / "run"
    records = [{"id": f"c{row}", "text": f"text {row}", "metadata": one} for row, one in enumerate(METADATA)]
    corpus.write_text("".join(json.dumps(one) + "\n" for one in records))
    cli("run", corpus, "--out", out, "--dense", "fake:8", "--sparse", "bm25", "--multivector", "fake:4", "--json")
    flags = ("--url", "http://127.0.0.1", "--grpc-port", str(qdrant.port), "--json", "--payload-index", "lang,day")
    done = cli("upload", out, *flags).json
    assert (done["points"], done["new"], done["spelled"]) == (len(METADATA), len(METADATA), 1)
    assert_same(qdrant, out)
    assert qdrant.collections["run"].indexes == {"metadata.lang": "Keyword", "metadata.day": "Datetime"}
    there = {payload["id"]: payload["metadata"] for payload, _ in qdrant.collections["run"].rows().values()}
    assert there["c6"] == {"beyond": str(1 << 63), "far": [str((1 << 64) - 1), {"deep": 1e30}], "words": 3}
    client = QdrantClient("127.0.0.1", grpc_port=qdrant.port, prefer_grpc=True, check_compatibility=False)
    records, _ = client.scroll("run", limit=100)
    client.close()
    assert {one.payload["id"]: one.payload["metadata"] for one in records} == there, "as a user reads it back"
    again = cli("upload", out, *flags).json
    assert (again["present"], again["new"], qdrant.times("Upsert"), qdrant.times("CreateFieldIndex")) == (8, 0, 1, 2)


@pytest.mark.parametrize("storage", ["float32", "float16", "int8", "binary"])
def test_every_kind_of_vector_arrives(
    storage: str, run_files: Any, tmp_path: Path, qdrant: QdrantServer, upload: Any
) -> None:
    files = run_files.RunFiles(
        tmp_path / "run", (20,), (4,), (7,), dim=16, multivector=True, storage=storage, ensemble=True
    ).write()
    assert upload(files.root, qdrant.port)["new"] == 20
    assert_same(qdrant, files.root)
    made = qdrant.collections["run"]
    dense = made.config.params.vectors_config.params_map.map
    assert {name: one.size for name, one in dense.items()} == {
        run_files.DENSE: 16, run_files.HALF: 8, run_files.CONCAT: 24, run_files.MULTI: 16,
    }  # fmt: skip
    assert dense[run_files.MULTI].HasField("multivector_config")
    assert dense[run_files.MULTI].hnsw_config.m == 0
    assert dense[run_files.DENSE].HasField("datatype") == (storage == "float16")
    assert list(made.config.params.sparse_vectors_config.map) == [run_files.SPARSE]
    forms = {name: type(one).__name__ for _, row in made.rows().values() for name, one in row.items()}
    assert forms == {**dict.fromkeys(dense, "list"), run_files.SPARSE: "tuple"}


def test_quantization_is_switched_on_and_off(files: Any, qdrant: QdrantServer, upload: Any) -> None:
    upload(files.root, qdrant.port, "--quantization", "scalar")
    made = qdrant.collections["run"]
    assert (made.quantization, made.config.quantization_config.scalar.always_ram) == ("scalar", True)
    before = qdrant.times("Update")
    upload(files.root, qdrant.port, "--quantization", "scalar")
    upload(files.root, qdrant.port)
    assert (made.quantization, qdrant.times("Update")) == ("scalar", before + 4), "the index off and on, twice"
    upload(files.root, qdrant.port, "--quantization", "none")
    assert made.quantization is None
    upload(files.root, qdrant.port, "--quantization", "scalar")
    assert made.quantization == "scalar"
    assert_same(qdrant, files.root)


KEPT = ("--hnsw-m", "32", "--on-disk", "--shards", "3", "--replicas", "2", "--payload-index", "n,text,row,id")


def test_a_collection_is_kept_as_it_was_asked_for(
    files: Any, run_files: Any, qdrant: QdrantServer, upload: Any
) -> None:
    fields = {"metadata.n": "integer", "text": "text", "row": "integer", "id": "keyword"}
    side_by_side = ("--streams", "4", "--batch", "5")
    assert upload(files.root, qdrant.port, *KEPT, *side_by_side)["payload_indexes"] == fields
    made = qdrant.collections["run"]
    params = made.config.params
    assert (params.shard_number, params.replication_factor, made.config.hnsw_config.m) == (3, 2, 32)
    assert all(one.on_disk for one in params.vectors_config.params_map.map.values())
    assert params.sparse_vectors_config.map[run_files.SPARSE].index.on_disk
    assert made.indexes == {field: kind.capitalize() for field, kind in fields.items()}
    methods = [method for method, _ in qdrant.asked]
    assert methods.index("CreateFieldIndex") < methods.index("Upsert"), "the graph is built with it"
    assert upload(files.root, qdrant.port, *KEPT)["present"] == ROWS
    assert (qdrant.times("CreateFieldIndex"), qdrant.times("Create")) == (4, 1)
    assert_same(qdrant, files.root)


def test_a_collection_that_is_kept_otherwise_is_left_alone(files: Any, qdrant: QdrantServer, upload: Any) -> None:
    upload(files.root, qdrant.port, "--payload-index", "n:float")
    assert qdrant.collections["run"].config.hnsw_config.m == DEFAULT_M
    qdrant.asked.clear()
    with pytest.raises(UsageError) as caught:
        upload(files.root, qdrant.port, *KEPT)
    message = str(caught.value)
    for part in (
        "--collection run: it is there and does not follow --hnsw-m 32 (there 16); --shards 3 (there 1); "
        "--replicas 2 (there 1); --on-disk (there in memory: ",
        "; --payload-index metadata.n:integer (there float). Leave these flags out, name another collection",
    ):
        assert part in message
    assert {method for method, _ in qdrant.asked} == {"List", "CollectionExists", "Describe"}


def test_flags_are_checked_before_a_server_is_asked(files: Any, cli: Any, command: Any, capsys: Any) -> None:
    nobody = ("--url", "http://127.0.0.1", "--grpc-port", "1")
    wrong = cli("upload", files.root, *nobody, "--payload-index", "lang", code=2)
    assert wrong.error.endswith("--payload-index lang: no chunk has a value of metadata.lang; fields: n")
    for flag in ("--hnsw-m", "--shards", "--replicas"):
        with pytest.raises(SystemExit) as end:
            command(["upload", str(files.root), *nobody, flag, "-1"])
        assert end.value.code == 2
        assert f"Invalid value for '{flag}'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "fault",
    [
        refusal("UNAVAILABLE", "The service is currently unavailable"),
        refusal("DEADLINE_EXCEEDED", "Timeout 60000ms reached"),
        refusal("RESOURCE_EXHAUSTED", "Rate limit exceeded"),
        refusal("RESOURCE_EXHAUSTED", "Write rate limit exceeded", retry_after="1"),
        refusal("INTERNAL", "Service internal error"),
        refusal("ABORTED", "try again"),
    ],
    ids=["unavailable", "deadline", "exhausted", "exhausted for a second", "internal", "aborted"],
)
def test_a_failure_that_passes_is_outlasted(fault: Any, files: Any, qdrant: QdrantServer, upload: Any) -> None:
    qdrant.faults.plan("Upsert", fault, times=2, spare=1)
    done = upload(files.root, qdrant.port)
    assert (done["points"], done["new"], qdrant.times("Upsert") >= 6) == (ROWS, ROWS, True)
    assert_same(qdrant, files.root)
    assert upload(files.root, qdrant.port)["present"] == ROWS


@pytest.mark.parametrize(
    "method", ["List", "CollectionExists", "Create", "Describe", "Count", "Update", "CreateFieldIndex"]
)
def test_a_second_upload_completes_one_that_failed_before_its_points(
    method: str, files: Any, qdrant: QdrantServer, upload: Any
) -> None:
    qdrant.faults.plan(method, refusal("UNAVAILABLE", "gone"), times=ALWAYS)
    with pytest.raises(Unreachable, match=r"no Qdrant server answers \(gone\); "):
        upload(files.root, qdrant.port, "--payload-index", "n")
    assert qdrant.times("Upsert") == 0
    qdrant.faults.clear()
    assert upload(files.root, qdrant.port, "--payload-index", "n")["new"] == ROWS
    assert qdrant.collections["run"].indexes == {"metadata.n": "Integer"}
    assert_same(qdrant, files.root)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (
            "UNAVAILABLE",
            Unreachable,
            r"run: no Qdrant server answers \(why\); once it does, the same command sends what",
        ),
        ("DEADLINE_EXCEEDED", Unreachable, r"run: no Qdrant server answers \(why\); once it does, the same command"),
        (
            "RESOURCE_EXHAUSTED",
            EmbedfleetError,
            r"run: the server stayed busy \(why\); run the same command again later",
        ),
        ("INVALID_ARGUMENT", EmbedfleetError, r"run: the server refused \(why\)"),
        ("PERMISSION_DENIED", UsageError, r"run: the server does not accept the API key \(why\).*--api-key-env"),
    ],
)
def test_a_second_upload_completes_one_that_failed_amid_its_points(
    code: str, kind: type[Exception], message: str, files: Any, qdrant: QdrantServer, upload: Any
) -> None:
    qdrant.faults.plan("Upsert", refusal(code, "why"), times=ALWAYS, spare=1)
    with pytest.raises(kind, match=message):
        upload(files.root, qdrant.port)
    made = qdrant.collections["run"]
    assert (len(made.points), made.threshold) == (BATCH, DEFAULT_THRESHOLD)
    qdrant.faults.clear()
    done = upload(files.root, qdrant.port)
    assert (done["present"], done["new"], done["points"]) == (BATCH, ROWS - BATCH, ROWS)
    assert_same(qdrant, files.root)


def test_points_that_are_acknowledged_late_are_counted_once(
    files: Any, qdrant: QdrantServer, upload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TIMEOUT", 1)
    qdrant.faults.plan("Upsert", late, spare=1)
    done = upload(files.root, qdrant.port)
    assert (done["new"], done["points"], qdrant.times("Upsert")) == (ROWS, ROWS, 6), "the second one again, in halves"
    assert_same(qdrant, files.root)


def test_a_second_upload_finds_points_that_were_acknowledged_too_late(
    files: Any, qdrant: QdrantServer, upload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TIMEOUT", 1)
    monkeypatch.setattr(retry, "ATTEMPTS", 1)
    qdrant.faults.plan("Upsert", late, times=ALWAYS, spare=1)
    with pytest.raises(Unreachable, match=r"no Qdrant server answers \(Deadline Exceeded\)"):
        upload(files.root, qdrant.port, "--batch", "1")
    there = len(qdrant.collections["run"].points)
    assert there in (2, 3), "the second one is there, though nobody knows; the third was on its way"
    qdrant.faults.clear()
    done = upload(files.root, qdrant.port)
    assert (done["present"], done["new"]) == (there, ROWS - there)
    assert_same(qdrant, files.root)


def test_a_server_that_says_nothing_is_given_up(
    files: Any, qdrant: QdrantServer, upload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TIMEOUT", 1)
    qdrant.faults.plan("List", silence)
    with pytest.raises(Unreachable, match=r"--url http://127.0.0.1 .*no Qdrant server answers \(Deadline Exceeded\)"):
        upload(files.root, qdrant.port)
    assert upload(files.root, qdrant.port)["new"] == ROWS


def test_a_wrong_key(files: Any, upload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(key="right") as store:
        for flags, key in (((), "right"), (("--api-key-env", "QDRANT_KEY"), "wrong")):
            monkeypatch.setenv("QDRANT_KEY", key)
            with pytest.raises(
                UsageError, match=r"does not accept the API key \(Invalid API key or JWT\).*--api-key-env"
            ):
                upload(files.root, store.port, *flags)
        assert store.asked == []
        monkeypatch.setenv("QDRANT_KEY", "right")
        assert upload(files.root, store.port, "--api-key-env", "QDRANT_KEY")["new"] == ROWS
        assert_same(store, files.root)


@pytest.fixture
def wide(run_files: Any, tmp_path: Path) -> Any:
    """A run of which a request with all points has about 50 kilobytes."""
    return run_files.RunFiles(tmp_path / "run", sizes=(100,), dim=64).write()


def test_a_request_above_the_limit_of_grpc_is_halved(wide: Any, upload: Any) -> None:
    with serving(most_bytes=20_000) as store:
        assert upload(wide.root, store.port, "--batch", "100")["new"] == 100
        assert store.times("Upsert") == 4
        assert_same(store, wide.root)


def test_a_chunk_above_the_limit_of_qdrant_is_named_and_the_others_arrive(
    wide: Any, qdrant: QdrantServer, upload: Any
) -> None:
    wide.chunk_segment(0, metadata=[json.dumps({"blob": "x" * (50_000 if row == 17 else 1)}) for row in range(100)])
    qdrant.most_bytes = 30_000
    done = upload(wide.root, qdrant.port, "--batch", "100", code=3)
    assert (done["new"], done["left_out"]) == (99, ["c17"])
    qdrant.most_bytes = 1 << 20
    done = upload(wide.root, qdrant.port)
    assert (done["present"], done["new"], done["left_out"]) == (99, 1, [])
    assert_same(qdrant, wide.root)


def test_a_connection_that_is_cut_amid_an_upsert(wide: Any, qdrant: QdrantServer, upload: Any) -> None:
    with passing(qdrant.port) as proxy:
        proxy.cut_after(30_000)
        done = upload(wide.root, proxy.port, "--batch", "100")
    assert (proxy.cuts, done["new"]) == (1, 100)
    assert qdrant.times("Upsert") in (1, 2), (
        "the server may have heard of the call that was cut; its points never arrived"
    )
    assert_same(qdrant, wide.root)
    assert upload(wide.root, qdrant.port)["present"] == 100


def test_a_connection_that_is_cut_before_the_acknowledgement(wide: Any, qdrant: QdrantServer, upload: Any) -> None:
    with passing(qdrant.port) as proxy:

        def cut(context: Any, answer: Any) -> Any:
            response = answer()
            proxy.cut_all()
            wait_until_given_up(context)
            return response

        qdrant.faults.plan("Upsert", cut, spare=1)
        done = upload(wide.root, proxy.port)
    assert (done["new"], done["points"]) == (100, 100)
    assert_same(qdrant, wide.root)
    assert upload(wide.root, qdrant.port)["present"] == 100


def test_a_second_upload_completes_one_that_was_killed(
    files: Any, qdrant: QdrantServer, upload: Any, start: Any, waiting: Any
) -> None:
    qdrant.faults.plan("Upsert", silence, spare=1)
    where = ("--url", "http://127.0.0.1", "--grpc-port", str(qdrant.port))
    killed = start("upload", files.root, *where, "--batch", str(BATCH), "--streams", "1")
    waiting.eventually(lambda: qdrant.times("Upsert") == 2, seconds=60, what="the second request")
    killed.signal(signal.SIGKILL)
    killed.wait(-signal.SIGKILL)
    assert qdrant.collections["run"].threshold == 0, "nobody switched the index on"
    done = upload(files.root, qdrant.port)
    assert (done["present"], done["new"]) == (BATCH, ROWS - BATCH)
    assert_same(qdrant, files.root)
