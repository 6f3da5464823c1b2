"""SpanExport: sends spans over OTLP/HTTP. An unreachable collector delays the end by two seconds at most."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from ...protocol.errors import UsageError
from ...protocol.spec.run_spec import RunSpec
from ...protocol.version import __version__
from ...protocol.wire.control import StageDone
from .spans import RunSpans
from .tracing import add_stage

CLOSE_SECONDS = 2.0
MOST_SPANS = 2_048
"""Ended spans that wait to be sent; if the collector does not take them, the oldest are dropped."""
LATEST = 1e11
"""Unix seconds; a later time is a mistake."""
TRACES_PATH = "/v1/traces"
VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class SpanExport:
    """One tracer provider for all runs of a coordinator. `exporter` replaces OTLP in tests."""

    def __init__(self, endpoint: str, exporter: Any = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http import (  # pyright: ignore[reportMissingImports]
                trace_exporter,
            )
            from opentelemetry.sdk import resources, trace  # pyright: ignore[reportMissingImports]
            from opentelemetry.sdk.trace import export  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UsageError(
                f"spans for {endpoint} need OpenTelemetry ({error}): pip install 'embedfleet[otel]', or give no --otlp "
                f"and unset {' and '.join(VARIABLES)}"
            ) from None
        self.endpoint = endpoint
        self._logger, self._heard = logging.getLogger("opentelemetry"), _FirstOnly()
        self._logger.addHandler(self._heard)
        self._logger.propagate = False
        named = {"service.name": os.environ.get("OTEL_SERVICE_NAME", "embedfleet"), "service.version": __version__}
        provider: Any = trace.TracerProvider(resource=resources.Resource.create(named), shutdown_on_exit=False)
        target = exporter or trace_exporter.OTLPSpanExporter(endpoint=endpoint)
        provider.add_span_processor(export.BatchSpanProcessor(target, max_queue_size=MOST_SPANS))
        self._provider = provider
        self._tracer: Any = provider.get_tracer("embedfleet", __version__)

    def run(self, run: str, spec: RunSpec, traceparent: str = "") -> RunSpans:
        """The observer of a run that begins now, below the span `traceparent` if there is one."""
        return RunSpans(self._tracer, run, spec, time.time(), traceparent)

    def stage(self, stage: StageDone) -> None:
        """Add the span of a step of a client's command. UsageError if its times are invalid."""
        for when in (stage.begin, stage.end):
            if not 0 <= when <= LATEST:
                raise UsageError(f"stage {stage.name!r}: {when} is no time; give Unix seconds")
        add_stage(self._tracer, stage)

    def close(self) -> None:
        """Send the remaining spans, for two seconds at most."""
        thread = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        thread.start()
        thread.join(CLOSE_SECONDS)
        if thread.is_alive():
            _say(f"not all could be sent to {self.endpoint} within {CLOSE_SECONDS:.0f} s")
        self._logger.removeHandler(self._heard)


class _FirstOnly(logging.Handler):
    """Shows people the library's first warning; the later ones are like it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._shown = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._shown:
            self._shown = True
            _say(record.getMessage())


def traces_endpoint(flag: str | None, environment: Mapping[str, str]) -> str | None:
    """The URL for spans: from `--otlp`, else from OpenTelemetry's own variables; None: no spans are wanted.

    `--otlp` and OTEL_EXPORTER_OTLP_ENDPOINT are the collector's base address, as in http://localhost:4318.
    """
    if flag is None and environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exact, base = (environment.get(name, "").strip() for name in VARIABLES)
    if flag is None and exact:
        return exact
    if flag is None and not base:
        return None
    base = flag if flag is not None else base
    if not base.startswith(("http://", "https://")):
        where = "--otlp" if flag is not None else VARIABLES[1]
        raise UsageError(f"{where} {base!r}: give an http:// or https:// address, as in http://localhost:4318")
    base = base.rstrip("/")
    return base if base.endswith(TRACES_PATH) else base + TRACES_PATH


def _say(text: str) -> None:
    sys.stderr.write(f"embedfleet: spans: {text}\n")
    sys.stderr.flush()
