"""How many forward passes of a model overlap, and on how many threads each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from embedfleet.worker.device.streams import MOST_STREAMS, WORKING_BYTES, most_streams, streams_of


@pytest.mark.parametrize(
    ("threads", "most", "found"),
    [
        (1, 16, (1, 1)),
        (2, 16, (2, 1)),
        (16, 16, (16, 1)),
        (24, 16, (12, 2)),
        (64, 100, (16, 4)),
        (4, 1, (1, 4)),
        (16, 7, (5, 3)),
        (2, 7, (2, 1)),
    ],
)
def test_streams_are_as_many_as_possible(threads: int, most: int, found: tuple[int, int]) -> None:
    assert streams_of(threads, most) == found


@pytest.mark.parametrize("most", [1, 3, MOST_STREAMS])
def test_nearly_all_threads_have_work_and_none_is_shared(most: int) -> None:
    for threads in range(1, 200):
        streams, each = streams_of(threads, most)
        assert 1 <= streams <= most
        assert threads - each < streams * each <= threads


def made_in(package: str, **fields: Any) -> Any:
    return type("Module", (SimpleNamespace,), {"__module__": package})(**fields)


PLAIN = (made_in("torch.nn.modules.linear"), made_in("sentence_transformers.models.pooling"), made_in("transformers.x"))


def test_as_many_as_the_memory_holds() -> None:
    assert most_streams(PLAIN, WORKING_BYTES // 20) == 5
    assert most_streams(PLAIN, 10 * WORKING_BYTES) == 1


@pytest.mark.parametrize(
    "module",
    [
        made_in("transformers_modules.nomic.modeling"),
        made_in("transformers.x", rope_type="dynamic"),
        made_in("transformers.x", rope_type={"full": "default", "sliding": "longrope"}),
    ],
)
def test_a_module_that_may_keep_state_computes_one_text_after_the_other(module: Any) -> None:
    assert most_streams((*PLAIN, module), 1) == 1


@pytest.mark.parametrize("kind", ["default", "linear", "yarn", "llama3", {"full": "default"}])
def test_rotary_positions_that_never_change_are_shared(kind: Any) -> None:
    assert most_streams((*PLAIN, made_in("transformers.x", rope_type=kind)), WORKING_BYTES // 16) == 4
