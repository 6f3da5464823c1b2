"""Doing something again that a server had no time for.

Of our own: tenacity is neither installed with qdrant-client nor worth a dependency for one loop.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ATTEMPTS = 7
FIRST_SECONDS = 0.5
LONGEST_SECONDS = 20.0


def with_retries(work: Callable[[], T], passing: Callable[[Exception], bool], stop: threading.Event) -> T:
    """The result of `work`, which is called up to ATTEMPTS times as long as what it raises is `passing`.

    The pause doubles from FIRST_SECONDS, times a random 0.5 to 1.5 so that streams do not come back all at once; it is
    longer where the error carries `retry_after_s`. Once `stop` is set there is no further attempt.
    """
    pause = FIRST_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except Exception as error:
            if attempt == ATTEMPTS or not passing(error):
                raise
            asked = float(getattr(error, "retry_after_s", 0))
            if stop.wait(max(asked, pause * random.uniform(0.5, 1.5))):
                raise
        pause = min(2 * pause, LONGEST_SECONDS)
    raise AssertionError("the last attempt returns or raises")
