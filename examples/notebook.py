"""The steps of a notebook: load chunks, generate embeddings, export, search, and see what happened.

    python examples/notebook.py SOURCE OUT_DIR [MODEL]

Each `# %%` begins a cell for editors that know them. Without MODEL the fake encoder is used, which needs no weights.
"""

# %%
import sys

from embedfleet import Embedder

source, out, *models = sys.argv[1:]
embedder = Embedder(out, dense=models or ["fake:64"], sparse=["bm25"])
print(embedder.load_chunks(source))

# %%
ending = embedder.generate_embeddings(lambda progress: print(f"{progress.rows:,} rows read", end="\r"))
for one in ending.passes:
    print(f"{one.vector}: {one.chunks:,} rows, {one.chunks_per_second:,.0f}/s, {one.coverage:.1%} have their vector")

# %%
for name, path in embedder.export_for_local_qdrant(formats=["jsonl", "upload-script"]).items():
    print(f"{name}: {path}")

# %%
for hit in embedder.search("compare two sequences of lines", top_k=3):
    print(f"{hit.score:.3f}  {hit.id}  {hit.text[:80]}")

# %%
for event in embedder.telemetry.gpu_lease_events:
    print(event["phase"], event["device"], event["vector"], event["memory"])
print(embedder.processing_stats["passes"])
