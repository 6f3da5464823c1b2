"""`python -m embedfleet.worker.converted.convert REQUEST`: convert a model. REQUEST is a ConvertRequest in JSON.

It runs in a separate process, since it needs the weights twice, and a runtime may crash. It ends with 0 once the conversion,
or its refusal, is stored; it ends with 2 and a message if another attempt may succeed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from ...protocol.errors import EXIT_DONE, EXIT_USAGE, EmbedfleetError
from ...protocol.process import lifeline
from ...protocol.process.child import ERROR_MARK
from ...protocol.process.standard_streams import guard_standard_error
from ...protocol.process.stop_signals import ignore_stop_signals
from ..encoders.base import OutOfMemory
from .cache import cannot_store
from .engines.onnx_runtime import import_onnxruntime
from .engines.openvino_runtime import import_openvino
from .record import ConvertRequest


def main() -> int:
    """Convert what the command line requests."""
    guard_standard_error()
    ignore_stop_signals()
    lifeline.hold()
    os.environ["HF_HUB_OFFLINE"] = "1"
    request = msgspec.json.decode(sys.argv[1], type=ConvertRequest)
    try:
        from .conversion import convert  # late: torch takes seconds, in which this process has to end with its parent

        import_onnxruntime() if request.spec.backend == "onnx" else import_openvino()
        convert(request)
    except (EmbedfleetError, OSError, MemoryError, OutOfMemory) as error:
        reason = cannot_store(Path(request.folder), error) if isinstance(error, OSError) else str(error)
        sys.stderr.write(f"{ERROR_MARK}{reason or type(error).__name__}\n")
        return EXIT_USAGE
    return EXIT_DONE


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # skip torch's slow teardown
