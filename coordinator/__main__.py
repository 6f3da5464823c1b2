"""`python -m embedfleet.coordinator`: started by `embedfleet run` and `embedfleet serve`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..protocol.errors import EmbedfleetError
from ..protocol.process import lifeline
from ..protocol.process.standard_streams import guard_standard_error
from ..protocol.process.stop_signals import catch_stop_signals
from ..protocol.process.system_refusals import describe_system_error
from ..protocol.text.terminal_text import printable


def main() -> int:
    """Bind, then serve until a signal arrives. Writes `ready` to the descriptor of --ready-fd once clients can connect."""
    guard_standard_error(patient=False)  # a stopped terminal must not block the loop
    lifeline.hold()
    parser = argparse.ArgumentParser(prog="python -m embedfleet.coordinator")
    parser.add_argument("--bind", required=True)
    parser.add_argument("--devices")
    parser.add_argument("--no-devices", action="store_true", help="offer none of this host: agents will attach")
    parser.add_argument("--otlp", help="send OpenTelemetry spans to the collector at this address")
    parser.add_argument("--host-silence", type=float, help="seconds after which a silent host agent has left")
    parser.add_argument("--grace", type=float, help="seconds for the drain after a signal")
    parser.add_argument("--ready-fd", type=int)
    options = parser.parse_args()
    sys.setswitchinterval(0.0005)  # the intake thread must not hold up the loop for Python's default of 5 ms
    try:
        return _serve(options)
    except EmbedfleetError as error:
        sys.stderr.write(f"embedfleet: {printable(str(error))}\n")
        return error.exit_code


def _serve(options: Any) -> int:
    from ..protocol.host.free_cores import CoreLoad

    load = CoreLoad()  # before the imports, so that their time need not be waited for
    import zmq

    from ..protocol.process.arrow import set_up_arrow
    from ..protocol.process.socket_folder import PREFIX, make_socket_folder, take_socket_folder
    from ..protocol.wire.channels import parse_address
    from .hosts.agent import HostAgent
    from .hosts.connection_cap import raise_file_limit
    from .hosts.discovery import discover
    from .hosts.registry import SILENCE_SECONDS, Hosts
    from .loop import DRAIN_SECONDS, Coordinator
    from .telemetry.otlp import SpanExport, traces_endpoint

    set_up_arrow()
    raise_file_limit()
    address = parse_address(options.bind, "--bind")
    endpoint = traces_endpoint(options.otlp, os.environ)
    spans = SpanExport(endpoint) if endpoint is not None else None
    host = f"{socket.gethostname()}-{os.getpid()}"
    devices = () if options.no_devices else discover(options.devices, host, load)
    if address.folder is not None:
        make_socket_folder(address.folder)

    def hosts(context: zmq.Context[Any]) -> Hosts:
        local = HostAgent(host, devices, address.work) if devices else None
        return Hosts(context, address.hosts, local, options.host_silence or SILENCE_SECONDS)

    with ExitStack() as stack:
        folder = address.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX)))
        take_socket_folder(folder)  # until this process ends
        say = _say if options.ready_fd is None else _keep_quiet
        grace = DRAIN_SECONDS if options.grace is None else options.grace
        try:
            shared = options.ready_fd is None
            coordinator = Coordinator(address, hosts, folder, say, spans, grace, shared=shared)
        except (OSError, zmq.ZMQError) as error:
            raise EmbedfleetError(describe_system_error(error) or str(error)) from error
        catch_stop_signals(lambda received, _frame: coordinator.signals.append(received))
        signal.set_wakeup_fd(coordinator.wake_fd, warn_on_full_buffer=False)
        if options.ready_fd is not None:
            os.write(options.ready_fd, b"ready")
            os.close(options.ready_fd)
        else:
            _say(f"listening on {options.bind}; Ctrl-C drains and ends")
        try:
            coordinator.run()
        finally:
            signal.set_wakeup_fd(-1)
            coordinator.close()
            if spans is not None:
                spans.close()
    return 128 + coordinator.signals[0] if coordinator.signals else 0


def _say(text: str) -> None:
    sys.stderr.write(f"embedfleet serve: {printable(text)}\n")


def _keep_quiet(_text: str) -> None:
    """For a private coordinator: its client shows the messages."""


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # an intake that waits on standard input holds its lock: the interpreter's own end would abort
