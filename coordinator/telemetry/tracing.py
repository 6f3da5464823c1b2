"""Spans in OpenTelemetry's terms. Times are Unix time, in seconds; the library is the extra `otel`, so it is imported late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...protocol.wire.control import StageDone

PREFIX = "embedfleet."


class Trace:
    """Starts the spans of one run; those without a parent go below the span `traceparent`, if there is one."""

    def __init__(self, tracer: Any, traceparent: str = "") -> None:
        self._tracer = tracer
        self._above = _context(traceparent)

    def start(self, name: str, parent: Any, when: float, attributes: Mapping[str, Any]) -> Any:
        """A span that begins at `when`."""
        from opentelemetry import trace  # pyright: ignore[reportMissingImports]

        context = trace.set_span_in_context(parent) if parent is not None else self._above
        return self._tracer.start_span(name, context=context, start_time=_ns(when), attributes=_plain(attributes))


def traceparent_of(span: Any) -> str:
    """A span as a W3C `traceparent` header."""
    from opentelemetry import trace  # pyright: ignore[reportMissingImports]

    carrier: dict[str, str] = {}
    _propagator().inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", "")


def add_event(span: Any, name: str, when: float, fields: Mapping[str, Any]) -> None:
    """Add an event to a span."""
    span.add_event(name, _plain(fields), timestamp=_ns(when))


def set_attributes(span: Any, fields: Mapping[str, Any]) -> None:
    """Set attributes of a span."""
    span.set_attributes(_plain(fields))


def end_span(span: Any, when: float, failure: str | None = None) -> None:
    """End a span, with the status ERROR if there is a `failure`."""
    if failure is not None:
        from opentelemetry.trace import Status, StatusCode  # pyright: ignore[reportMissingImports]

        span.set_status(Status(StatusCode.ERROR, failure))
    span.end(end_time=_ns(when))


def add_stage(tracer: Any, stage: StageDone) -> None:
    """Add the span of a step of a client's command that has ended."""
    span = Trace(tracer, stage.traceparent).start(stage.name, None, stage.begin, stage.fields)
    end_span(span, stage.end, stage.error or None)


def _context(traceparent: str) -> Any:
    """The context for spans below `traceparent`; None if it is empty or cannot be read."""
    return _propagator().extract({"traceparent": traceparent}) if traceparent else None


def _propagator() -> Any:
    from opentelemetry.trace.propagation import tracecontext  # pyright: ignore[reportMissingImports]

    return tracecontext.TraceContextTextMapPropagator()


def _plain(fields: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Fields as attributes, which are numbers or text; None and empty values are left out."""
    known = {name: value for name, value in fields.items() if value is not None and value not in ("", [])}
    return {
        PREFIX + name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in known.items()
    }


def _ns(when: float) -> int:
    return int(when * 1e9)
