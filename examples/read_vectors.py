"""Read a run back with `open_run`: for one chunk, the chunks whose dense vectors are nearest, by numpy alone.

    python examples/read_vectors.py RUN_DIR [CHUNK_ID]

Vectors are L2-normalized, so a dot product is the cosine. A quarantined row has NaN for a vector and is never a neighbour.
"""

from __future__ import annotations

import sys
from pathlib import Path

import embedfleet
import numpy as np


def nearest(folder: Path, chunk: str | None, count: int = 5) -> list[tuple[float, str]]:
    """Cosines and ids of the `count` chunks nearest to `chunk` (None: the first one) in its run's first dense vector.

    Ends the program with a message where the run has neither.
    """
    run = embedfleet.open_run(folder)
    name = next((one.vector for one in run.spec.outputs if one.form == "dense"), None)
    if name is None:
        sys.exit(f"{folder}: no dense vector in it; it has {', '.join(run.vector_names)}")
    if chunk is not None and chunk not in run.ids:
        sys.exit(f"{folder}: no chunk has the id {chunk!r}; {folder / 'chunks'} has the ids")
    vectors = np.asarray(run.vectors(name))  # float32, (rows, dimensions), in row order
    row = run.ids.index(chunk) if chunk is not None else 0
    cosines = np.nan_to_num(vectors @ vectors[row], nan=-1.0)
    cosines[row] = -1.0
    return [(float(cosines[other]), run.ids[other]) for other in np.argsort(-cosines)[:count].tolist()]


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    for cosine, name in nearest(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) == 3 else None):
        print(f"{cosine:.4f}  {name}")


if __name__ == "__main__":
    main()
