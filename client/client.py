"""Client: a connection to a coordinator, to submit, watch and cancel runs and to read its status."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import zmq

from ..protocol.errors import Unreachable, UsageError, error_from_name
from ..protocol.spec.local_paths import check_local
from ..protocol.spec.run_spec import PassSpec, RunSpec
from ..protocol.version import PROTOCOL, __version__
from ..protocol.wire import channels
from ..protocol.wire.codec import Decoder, encode
from ..protocol.wire.control import (
    Accepted,
    Cancel,
    ClientHello,
    GetStatus,
    Progress,
    Refused,
    RunEnded,
    StageDone,
    Status,
    Submit,
    ToClient,
    ToCoordinator,
    Watch,
)
from ..protocol.wire.run_options import DEFAULTS, RunOptions

ASK_AGAIN_SECONDS = 5.0
SILENCE_SECONDS = 30.0
"""A coordinator sends progress twice a second. After this time without a message it counts as gone."""


class Client:
    """A connection to the coordinator at `address` (`ipc:///folder` or `tcp://127.0.0.1:PORT`).

    Every call raises Unreachable if there is no answer within `timeout` seconds, or else the error that the coordinator
    reports. Not safe for several threads at once. Use it as a context manager, or call `close`.
    """

    def __init__(self, address: str, *, timeout: float = 10.0) -> None:
        self.address = channels.parse_address(address, "address")
        self._timeout = timeout
        self._numbers = itertools.count(1)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = channels.connect(self._context, self.address.control)
        self._decoder: Decoder[ToClient] = Decoder(ToClient)
        self._received: list[Progress | RunEnded] = []
        self._watched, self._heard = "", 0.0
        self.traceparent = ""
        """The span of the run that was submitted last; empty without tracing."""
        try:
            self._request(ClientHello(next(self._numbers), PROTOCOL, __version__))
        except BaseException:
            self.close()
            raise

    def submit(
        self,
        spec: RunSpec,
        out: str | os.PathLike[str],
        *,
        restart: bool = False,
        options: RunOptions = DEFAULTS,
        later: Sequence[PassSpec] = (),
        traceparent: str = "",
    ) -> str:
        """Queue a run into the folder `out` on the coordinator's host, and return the run's name.

        `later` are passes that later runs will need: their models are checked together with those of this run.
        `traceparent` is the parent of the run's span, in the form of W3C's header.
        """
        if not os.fspath(out):  # Path("") would be the current folder
            raise UsageError("out '': is empty; give a folder")
        check_local(out, "out")
        where = str(Path(out).absolute())
        answer = self._request(Submit(next(self._numbers), spec, where, restart, options, tuple(later), traceparent))
        assert isinstance(answer, Accepted), answer
        self.traceparent = answer.traceparent
        return answer.run

    def watch(self, run: str) -> Iterator[Progress | RunEnded]:
        """Yield the run's progress about twice a second, and finally its end."""
        self.start_watch(run)
        heard = time.monotonic()
        while True:
            message = self.receive(1.0)
            if message is None:
                if time.monotonic() - heard > SILENCE_SECONDS:
                    raise Unreachable(f"{self.address.base}: no word from the coordinator for {SILENCE_SECONDS:.0f} s")
                continue
            heard = time.monotonic()
            if message.run == run:
                yield message
                if isinstance(message, RunEnded):
                    return

    def cancel(self, run: str) -> None:
        """Stop the run once its batches in flight are finished and committed. The same submission resumes it."""
        self._request(Cancel(next(self._numbers), run))

    def stage_done(
        self, name: str, begin: float, end: float, fields: dict[str, int | float | str], error: str, traceparent: str
    ) -> None:
        """Report a step of this process, which the coordinator exports as a span below `traceparent`. Unix times in seconds."""
        self._request(
            StageDone(
                request=next(self._numbers),
                name=name,
                begin=begin,
                end=end,
                fields=fields,
                error=error,
                traceparent=traceparent,
            )
        )

    def status(self) -> Status:
        """The runs and devices of the coordinator."""
        answer = self._request(GetStatus(next(self._numbers)))
        assert isinstance(answer, Status), answer
        return answer

    def start_watch(self, run: str) -> None:
        """Subscribe to the run's progress; `receive` returns it."""
        self._watched, self._heard = run, time.monotonic()
        self._request(Watch(next(self._numbers), run))

    def receive(self, timeout: float) -> Progress | RunEnded | None:
        """The next message about the watched run; None after `timeout` seconds without one."""
        if self._received:
            return self._received.pop(0)
        if not self._socket.poll(int(timeout * 1000)):
            if self._watched and time.monotonic() - self._heard > ASK_AGAIN_SECONDS:
                # Messages are lost while this side does not read, the end of the run perhaps among them.
                self._heard = time.monotonic()
                self._socket.send(encode(Watch(next(self._numbers), self._watched)))
            return None
        self._heard = time.monotonic()
        message = self._decoder.decode(self._socket.recv())
        if isinstance(message, Refused):
            raise Unreachable(
                f"{self.address.base}: the coordinator no longer knows run {self._watched}; it was restarted, perhaps. "
                "Submit the same run again: it resumes"
            )
        return message if isinstance(message, Progress | RunEnded) else None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close(linger=500)
        self._context.term()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, message: ToCoordinator) -> ToClient:
        try:
            data = encode(message)
        except UnicodeEncodeError as error:
            raise UsageError(
                f"{error.object[:80]!r}: is not UTF-8, which no message could hold; give another name or text"
            ) from None
        self._socket.send(data)
        give_up = time.monotonic() + self._timeout
        while (left := give_up - time.monotonic()) > 0:
            if not self._socket.poll(int(left * 1000) + 1):
                continue
            answer = self._decoder.decode(self._socket.recv())
            if isinstance(answer, Progress | RunEnded):
                self._received.append(answer)
            elif answer.request in (message.request, 0):  # 0: the coordinator could not even read the request
                if isinstance(answer, Refused):
                    raise error_from_name(answer.kind, answer.message)
                return answer
        raise Unreachable(
            f"no coordinator answers at {self.address.base}; start one with: embedfleet serve --bind {self.address.base}"
        )
