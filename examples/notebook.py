"""The steps of a notebook: load chunks, generate embeddings, rank, export, search, and see what happened.

    python examples/notebook.py SOURCE OUT_DIR [MODEL [RERANKER]]

Each `# %%` begins a cell for editors that know them. Without models the fake encoders are used, which need no weights.
"""

# %%
import json
import sys
from pathlib import Path

from embedfleet import Embedder

if len(sys.argv) < 3:
    sys.exit("usage: notebook.py SOURCE OUT_DIR [MODEL [RERANKER]]")
source, out, *models = sys.argv[1:]
model, reranker = (*models, *["fake:64", "fake:8"][len(models) :])
embedder = Embedder(out, dense=[model], sparse=["bm25"], rerank=reranker)
print(embedder.load_chunks(source))

# %%
ending = embedder.generate_embeddings(lambda progress: print(f"{progress.rows:,} rows read", end="\r"))
for one in ending.passes:
    print(f"{one.vector}: {one.chunks:,} rows, {one.chunks_per_second:,.0f}/s, {one.coverage:.1%} have their vector")

# %%
queries = Path(out).with_name(f"{Path(out).name}-queries.jsonl")
queries.write_text(json.dumps({"_id": "q1", "text": "compare two sequences of lines"}) + "\n")
for chunk in embedder.rank(queries, top_k=3):  # with a file of judgements too: .evaluation and .report
    print(chunk.query, chunk.rank, chunk.id, chunk.scores)

# %%
for name, path in embedder.export_for_local_qdrant(formats=["jsonl", "upload-script"]).items():
    print(f"{name}: {path}")

# %%
for hit in embedder.search("compare two sequences of lines", top_k=3, rerank=reranker):
    print(f"{hit.score:.3f}  {hit.id}  {hit.text[:80]}")

# %%
for event in embedder.telemetry.gpu_lease_events:
    print(event["phase"], event["device"], event["vector"], event["memory"])
print(embedder.processing_stats["passes"])
