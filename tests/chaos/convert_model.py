"""A model made in FOLDER and converted for OpenVINO into the cache of XDG_CACHE_HOME: `python -m …convert_model FOLDER`.

In a process of its own: those that load torch are slow to fork. Without `--convert`, the model is made alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from embedfleet.protocol.spec.run_spec import PassSpec

from ..tiny_models import bert


def convert(folder: Path) -> None:
    """Store the conversion, as a worker's child does."""
    from embedfleet.worker.converted.cache import key_of, open_conversions
    from embedfleet.worker.converted.child import request_of
    from embedfleet.worker.converted.conversion import convert
    from embedfleet.worker.converted.engines.openvino_runtime import import_openvino
    from embedfleet.worker.models.locate import find_model

    import_openvino()
    spec = PassSpec(vector="v", kind="dense", model=str(folder), backend="openvino")
    files, conversions = find_model(spec), open_conversions()
    assert conversions is not None, "XDG_CACHE_HOME is set"
    key = key_of(spec, files)
    with conversions.locked(key):
        convert(request_of(conversions, key, spec, files, 1))


if __name__ == "__main__":
    bert(Path(sys.argv[1]))
    if "--convert" in sys.argv:
        convert(Path(sys.argv[1]))
