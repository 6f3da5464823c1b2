"""Retry requests with exponential backoff and jitter, by tenacity."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

ATTEMPTS = 7
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0


def with_retries(work: Callable[[], T], passing: Callable[[BaseException], bool], stop: threading.Event) -> T:
    """The result of `work`, called up to ATTEMPTS times while its error is `passing`. Raises its last error.

    A pause is a random time up to a limit that doubles from FIRST_SECONDS to LONGEST_SECONDS (full jitter), so that streams
    do not retry all at once; at least `retry_after_s` if the error has it. Setting `stop` ends a pause and further attempts.

    Source of the jitter: Brooker 2015, "Exponential Backoff And Jitter".
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    jitter = wait_random_exponential(multiplier=FIRST_SECONDS, max=LONGEST_SECONDS)

    def pause(state: RetryCallState) -> float:
        return max(float(getattr(_error(state), "retry_after_s", 0)), jitter(state))

    def rest(state: RetryCallState) -> None:
        if stop.wait(state.upcoming_sleep):
            raise _error(state)

    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        retry=retry_if_exception(passing),
        wait=pause,
        before_sleep=rest,
        sleep=lambda _seconds: None,  # `rest` has waited: tenacity's own sleep cannot end the attempts
        reraise=True,
    )
    return retrying(work)


def _error(state: RetryCallState) -> BaseException:
    """The error of the last attempt."""
    error = state.outcome.exception() if state.outcome is not None else None
    assert error is not None, "only a failed attempt is followed by a pause"
    return error
