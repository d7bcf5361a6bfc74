"""Traces by OpenTelemetry, from a browser's request through workflow and activities to FFmpeg.

Off, and not even loaded, unless OTEL_EXPORTER_OTLP_ENDPOINT is set; the SDK reads its other OTEL_* variables.
No path, query or file name is in a trace: some hold what opens them. Pure: it knows neither Django nor jobs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
Value = str | int | float | bool


def is_on() -> bool:
    """Whether traces are sent somewhere."""
    return any(os.environ.get(name) for name in ENDPOINTS)


def begin(process: str) -> None:
    """Sends the spans of this process, which is called *process* (`web`, `worker`), from now on."""
    if not is_on():
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ.setdefault("OTEL_SERVICE_NAME", f"mediapipe-{process}")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def end(seconds: float = 2.0) -> None:
    """Sends what is left, for *seconds* at most: before a process ends at once."""
    if is_on():
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        provider = trace.get_tracer_provider()
        if isinstance(provider, TracerProvider):
            provider.force_flush(int(seconds * 1000))


def interceptors() -> list[Any]:
    """What Temporal's clients and workers take: a span for each start, workflow and activity."""
    if not is_on():
        return []
    from temporalio.contrib.opentelemetry import TracingInterceptor

    return [TracingInterceptor()]


@contextlib.contextmanager
def span(name: str, **attributes: Value) -> Iterator[Span | None]:
    """A span within the present one; None where traces are off."""
    if not is_on():
        yield None
        return
    from opentelemetry import trace

    tracer = trace.get_tracer("mediapipe")
    with tracer.start_as_current_span(name, attributes=_named(attributes)) as begun:
        yield begun


@contextlib.contextmanager
def request(headers: Mapping[str, str]) -> Iterator[Span | None]:
    """The span of a request that came in, within its sender's where *headers* say so (W3C Trace Context)."""
    if not is_on():
        yield None
        return
    from opentelemetry import propagate, trace

    sender = propagate.extract({name.lower(): value for name, value in headers.items()})
    tracer = trace.get_tracer("mediapipe")
    with tracer.start_as_current_span("request", context=sender, kind=trace.SpanKind.SERVER) as begun:
        yield begun


def answered(begun: Span | None, method: str, route: str, status: int) -> None:
    """What became of a request; *route* is a pattern, without what was put into it."""
    if begun is None:
        return
    from opentelemetry.trace import StatusCode

    begun.update_name(f"{method} {route}")
    begun.set_attribute("http.request.method", method)
    begun.set_attribute("http.route", route)
    begun.set_attribute("http.response.status_code", status)
    if status >= 500:
        begun.set_status(StatusCode.ERROR)


def note(**attributes: Value) -> None:
    """Says more about the present span."""
    if is_on():
        from opentelemetry import trace

        trace.get_current_span().set_attributes(_named(attributes))


def headers() -> dict[str, str]:
    """What a request that goes out takes along, so that its receiver's spans are within ours."""
    given: dict[str, str] = {}
    if is_on():
        from opentelemetry import propagate

        propagate.inject(given)
    return given


def _named(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {f"mediapipe.{name}": value for name, value in attributes.items()}
