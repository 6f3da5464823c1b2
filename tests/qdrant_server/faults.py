"""What may become of a request on its way: planned by a test, met by the next requests of a method."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

SECONDS = 30.0
"""How long a request waits for the client to give it up, at most."""

ALWAYS = 1 << 30

Answer = Callable[[], Any]
"""Obeys the request; its result is the response."""

Fault = Callable[[grpc.ServicerContext, Answer], Any]
"""Given a request's context and its answer: the response, or an abort."""


@dataclass
class Plan:
    """Of `spare` + `times` requests of a method, the last `times` meet the fault."""

    method: str
    fault: Fault
    times: int
    spare: int


class Faults:
    """The plans of a server, met in the order in which they were made; from any number of threads."""

    def __init__(self) -> None:
        self._plans: list[Plan] = []
        self._lock = threading.Lock()

    def plan(self, method: str, fault: Fault, *, times: int = 1, spare: int = 0) -> None:
        """Let `spare` requests pass; then `times` of them meet the fault."""
        self._plans.append(Plan(method, fault, times, spare))

    def clear(self) -> None:
        self._plans.clear()

    def meet(self, method: str, context: grpc.ServicerContext, answer: Answer) -> Any:
        """The response to a request, or what the fault makes of it."""
        fault = self._next(method)
        return answer() if fault is None else fault(context, answer)

    def _next(self, method: str) -> Fault | None:
        with self._lock:
            for plan in self._plans:
                if plan.method != method or not plan.times:
                    continue
                if plan.spare:
                    plan.spare -= 1
                    return None
                plan.times -= 1
                return plan.fault
        return None


def refusal(code: str, details: str = "", **trailing: str) -> Fault:
    """The request is not obeyed, and the client gets this status with these trailing headers (`_` for `-`)."""

    def refuse(context: grpc.ServicerContext, _answer: Answer) -> Any:
        context.set_trailing_metadata([(name.replace("_", "-"), value) for name, value in trailing.items()])
        context.abort(grpc.StatusCode[code], details)

    return refuse


def late(context: grpc.ServicerContext, answer: Answer) -> Any:
    """The request is obeyed, and acknowledged after the client has given up."""
    response = answer()
    wait_until_given_up(context)
    return response


def silence(context: grpc.ServicerContext, _answer: Answer) -> Any:
    """The request is not obeyed, and never answered."""
    wait_until_given_up(context)
    context.abort(grpc.StatusCode.CANCELLED, "nobody waits for it")


def wait_until_given_up(context: grpc.ServicerContext) -> None:
    gone = threading.Event()
    if context.add_callback(gone.set) and not gone.wait(SECONDS):
        raise TimeoutError("the client still waits")
