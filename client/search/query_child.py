"""A process that encodes queries with one model: `python -m embedfleet.worker.query`. The client itself loads none.

Requests and answers are lines of JSON on the child's standard streams. Neither side ever waits for the other to read: what
does not fit into a pipe is sent when the child has read on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgspec

from ...protocol.errors import error_from_name
from ...protocol.process.child import ChildProcess
from ...protocol.run_directory.records.passes import PassRecord
from ...protocol.spec.run_spec import PassSpec
from ...protocol.wire.query import QueryAnswer

MODULE = "embedfleet.worker.query"
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy's threads wait busily for each other, which takes longer than a query on a processor that others use too."""
MOST_TAIL = 2_000
"""Most characters of a child's standard error in a message."""
READ_BYTES = 1 << 20
END_SECONDS = 5.0
"""How long a child that has closed its output may take to end."""


class ChildLost(Exception):
    """The child has ended or sends invalid answers, so that another one has to be started."""


class Question(msgspec.Struct, frozen=True):
    """Texts for the model of a pass. The child checks its model against `fingerprint`, from the record of the pass."""

    pass_: PassSpec
    fingerprint: PassRecord | None
    texts: Sequence[str]

    def encode(self, number: int) -> bytes:
        """A QueryRequest, as one line."""
        about = {"pass": self.pass_, "fingerprint": self.fingerprint, "texts": list(self.texts), "number": number}
        return msgspec.json.encode(about) + b"\n"


class QueryChild:
    """One child, and what goes to and comes from it. Start it from the main thread, and close it."""

    def __init__(self, vector: str) -> None:
        self._vector = vector
        theirs, self.to_fd = os.pipe()
        self.from_fd, also_theirs = os.pipe()
        try:
            self._process = ChildProcess(MODULE, [], environment=ONE_THREAD, stdin=theirs, stdout=also_theirs)
        except BaseException:
            os.close(self.to_fd)
            os.close(self.from_fd)
            raise
        finally:
            os.close(theirs)
            os.close(also_theirs)
        os.set_blocking(self.to_fd, False)
        os.set_blocking(self.from_fd, False)
        self._unsent, self._unread = bytearray(), bytearray()
        self.number = 0
        """The number of the last request; answers to earlier ones are dropped."""

    def send(self, question: Question) -> None:
        """Ask. `flush` sends what the pipe does not take now."""
        self.number += 1
        self._unsent += question.encode(self.number)
        self.flush()

    @property
    def is_sending(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._unsent)

    def flush(self) -> None:
        """Send what the pipe takes."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self.to_fd, self._unsent)]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent.clear()  # the child has ended, which the next read reports

    def receive(self) -> QueryAnswer | None:
        """The answer to the last request, if it is there. ChildLost if there will be none; another error is the model's."""
        try:
            while block := os.read(self.from_fd, READ_BYTES):
                self._unread += block
            has_ended = True
        except BlockingIOError:
            has_ended = False
        while (end := self._unread.find(b"\n")) >= 0:
            line = bytes(self._unread[:end])
            del self._unread[: end + 1]
            answer = self._decoded(line)
            if answer.number in (self.number, 0):  # 0 for a request that could not be read
                if answer.error is not None:
                    raise error_from_name(answer.error.kind, answer.error.message)
                return answer
        if has_ended:
            self._process.wait(END_SECONDS)
            raise ChildLost(
                f"{self._vector}: the query encoder ended with status {self._process.exit_code()}{self.last_words()}"
            )
        return None

    def last_words(self) -> str:
        """The end of what the child wrote to stderr, as lines to append to a message."""
        text = self._process.tail()[-MOST_TAIL:].strip()
        return f"; its last words:\n{text}" if text else "; it wrote nothing"

    def close(self) -> None:
        """End it."""
        for fd in (self.to_fd, self.from_fd):
            os.close(fd)
        self._process.close()

    def _decoded(self, line: bytes) -> QueryAnswer:
        try:
            return msgspec.json.decode(line, type=QueryAnswer)
        except msgspec.MsgspecError as error:
            raise ChildLost(
                f"{self._vector}: the query encoder answered what is no query vector ({error}){self.last_words()}"
            ) from None
