"""Ittybit's API as its reference documents it today, to the letter: what it refuses, and how a job looks.

`POST /jobs` takes the URL of a file, `POST /tasks` an object; only jobs can be listed and read by their id,
and none cancelled; an output is a URL, and no progress is told.
"""

from __future__ import annotations

import json

SHAPE = {"format", "quality", "width", "height", "fit", "position", "background", "start"}
OPTIONS = {
    "video": SHAPE | {"codec", "fps", "bitrate", "end"},
    "audio": {"format", "quality", "bitrate", "start", "end"},
    "image": SHAPE,
    "animation": SHAPE | {"end", "fps"},
    "adaptive_video": SHAPE | {"end"},
}
FIELDS = {"input", "kind", "options", "output", "metadata", "webhook_url"}
STEPS = ("probe", "import", "encode", "export")


def refusal(scope, body: bytes) -> tuple[int, dict] | None:
    """The status and the error of a request that the reference doesn't know; None for a good one."""
    method, (_, resource, *item) = scope["method"], scope["path"].split("/")
    key = dict(scope["headers"]).get(b"authorization", b"")
    if not key.startswith(b"Bearer "):
        return 401, error("token_missing", "An API key is required")
    if key == b"Bearer wrong":
        return 401, error("token_invalid", "Invalid API key")
    allowed = {("jobs", False): ("GET", "POST"), ("jobs", True): ("GET",), ("tasks", False): ("POST",)}
    methods = allowed.get((resource, bool(item)))
    if methods is None:
        return 404, error("not_found", "Not found")
    if method not in methods:
        return 405, error("method_not_allowed", "Method not allowed")
    if method == "GET" and not item:
        return 200, []  # type: ignore[return-value]
    return wrong_body(resource, json.loads(body)) if method == "POST" else None


def wrong_body(resource: str, asked: dict) -> tuple[int, dict] | None:
    """What the reference finds wrong with the body of a create."""
    source = asked.get("input")
    if resource == "tasks":
        if not isinstance(source, dict):
            return 400, error("request_invalid", "input must be an object")
        return 400, error("request_invalid", "This stand-in creates jobs only")
    if not isinstance(source, str) or not source.startswith(("http://", "https://", "s3://")):
        return 400, error("invalid_input", "input must be a http, https or s3 URL")
    options = OPTIONS.get(asked.get("kind", ""))
    if options is None or not asked.keys() <= FIELDS:
        return 400, error("request_invalid", "Unknown kind or field")
    if not (asked.get("options") or {}).keys() <= options:
        return 400, error("request_invalid", "Unknown option")
    return None


def error(kind: str, message: str) -> dict:
    return {"kind": kind, "message": message}


def job(task: dict, body: dict) -> dict:
    """The job of a task: its output is a URL, the facts of the file are its last step's."""
    output = body.get("output")
    done = body["status"] == "succeeded"
    status = {"queued": "waiting", "failed": "cancelled"}.get(body["status"], body["status"])
    steps = [{"object": "task", "kind": step, "status": status, "progress": None} for step in STEPS]
    steps[-1]["output"] = {"object": "file", "kind": task["kind"], **output} if done else None
    told = {"object": "job", "input": task["input"], "metadata": task.get("metadata"), "tasks": steps}
    return {"error": None, **body, **told, "output": output["url"] if done else None}
