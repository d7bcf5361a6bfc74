"""Traces: one for a job, from the request that submits it to FFmpeg, with nothing in it that opens files."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.dashboard import settled
from tests.support.product import Product, make_clip, token, until

ANSWERS = """
import os, httpx, sys, asyncio
import django
django.setup()
from django.test import Client
from mediapipe import tracing
from jobs.ittybit.client import open_http
assert "opentelemetry" not in sys.modules
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(provider)
sender = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
page = "/jobs/8d4c5d2e-0000-4000-8000-000000000001/?also=this"
Client(HTTP_HOST="localhost").get(page, headers={"traceparent": sender})
span = kept.get_finished_spans()[-1]
assert f"{span.context.trace_id:032x}" == sender.split("-")[1] and span.parent.span_id == 0xB7AD6B7169203331
print(span.name, dict(span.attributes))
sent = []
async def ask():
    http = open_http("http://engine", "key")
    http._transport = httpx.MockTransport(lambda request: sent.append(request) or httpx.Response(200))
    with tracing.span("stage", attempt=1):
        await http.get("/tasks")
asyncio.run(ask())
print(f"{kept.get_finished_spans()[-1].context.trace_id:032x}" in sent[0].headers["traceparent"])
"""


@pytest.mark.whole
def test_a_request_is_a_span_within_its_senders_by_its_pattern_and_ours_go_along_and_off_it_is_not_loaded(
    tmp_path,
):
    environment = {
        **os.environ,
        "MEDIAPIPE_HOME": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "mediapipe.settings",
    }
    done = subprocess.run([sys.executable, "-c", ANSWERS], capture_output=True, text=True, env=environment)
    said = (
        "GET jobs/<uuid:pk>/ {'http.request.method': 'GET', 'http.route': 'jobs/<uuid:pk>/',"
        " 'http.response.status_code': 302}\nTrue\n"
    )
    assert done.stdout == said, done.stderr


class Collector:
    """Who takes spans, by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = [
                        at.value.string_value for at in each.resource.attributes if at.key == "service.name"
                    ]
                    collector.spans += [
                        (names[0], span) for scope in each.scope_spans for span in scope.spans
                    ]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.mark.whole
@pytest.mark.release
def test_a_jobs_spans_are_one_trace_from_the_upload_to_ffmpeg_and_name_no_file(tmp_path):
    collector = Collector()
    wanted = {
        ("mediapipe-web", "POST jobs/new/"),
        ("mediapipe-worker", "RunWorkflow:MediaPipeline"),
        ("mediapipe-worker", "RunActivity:transcode"),
        ("mediapipe-worker", "POST to the engine"),
        ("mediapipe-web", "POST ittybit/<resource:resource>"),
        ("mediapipe-worker", "RunActivity:run_task"),
        ("mediapipe-worker", "FFmpeg"),
        ("mediapipe-worker", "compare"),
    }
    product = Product(
        tmp_path / "home", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="200"
    ).start()
    try:
        ada = product.editor("ada")
        form = {"csrfmiddlewaretoken": token(ada.get("/jobs/new/"))}
        film = ("secret-film.mp4", make_clip(tmp_path / "a.mp4", 2).read_bytes())
        job = ada.post("/jobs/new/", data=form, files={"file": film}).url.path.split("/")[-2]
        assert settled(ada, job)["status"] == "succeeded"

        def whole() -> bool:
            begun = [span.trace_id for name, span in collector.spans if span.name == "POST jobs/new/"]
            found = {(name, span.name) for name, span in collector.spans if span.trace_id in begun}
            return wanted <= found or not print(wanted - found)

        until(whole)
    finally:
        product.stop()
        collector.server.shutdown()
        collector.server.server_close()
    text = "".join(str(span) for _, span in collector.spans)
    assert job in text
    for secret in ("secret-film", "/media/", "signature", "Bearer"):
        assert secret not in text
