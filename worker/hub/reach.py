"""Whether the hub answers, asked as its client asks: through its proxy, certificates, mirror and token.

    python -m embedfleet.worker.hub.reach

ends with 0 if it does, else with 1 and the reason on standard output.
"""

from __future__ import annotations

import sys

from ...protocol.errors import EXIT_DONE, EXIT_FAILED
from ...protocol.process import lifeline
from ...protocol.spec.catalog import catalog
from ..models.folder_check import one_line
from ..models.locate import HUB_SECONDS

SERVER_ERROR = 500
"""HTTP statuses from here on, and PROXY_WANTS_LOGIN, are no answer of the hub about a model."""
PROXY_WANTS_LOGIN = 407


def refusal() -> str:
    """Why the hub cannot be asked; empty if it answers."""
    try:
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers, get_session
    except ImportError:
        return "its client is not installed (huggingface_hub, of the extra torch)"
    known = f"{constants.ENDPOINT}/api/models/{next(iter(catalog().values())).hub}"
    try:  # not by a function for models: those try again for half a minute
        status = int(get_session().get(known, headers=build_hf_headers(), timeout=HUB_SECONDS).status_code)
    except Exception as error:  # noqa: BLE001 - the client may use any of several HTTP libraries, each with its own errors
        return f"{type(error).__name__}: {one_line(error)[:200]}"
    return f"HTTP status {status}" if status >= SERVER_ERROR or status == PROXY_WANTS_LOGIN else ""


def main() -> int:
    """Ask the hub for a model that it has."""
    lifeline.hold()
    reason = refusal()
    sys.stdout.write(reason)
    return EXIT_FAILED if reason else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
