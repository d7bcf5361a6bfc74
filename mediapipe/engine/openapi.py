"""The engine's OpenAPI description, made from the validators that check requests. Pure."""

from __future__ import annotations

from typing import Any

from mediapipe.engine.kinds import KINDS, Kind

INPUT = {"type": "string", "format": "uri", "pattern": "^https?://[a-z0-9.]+/"}


def _options(kind: Kind) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: option.schema() for name, option in kind.options.items()},
        "required": list(kind.required),
        "additionalProperties": False,
    }


def _request(kind: Kind) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["kind", "input", *(["options"] if kind.required else [])],
        "properties": {
            "kind": {"const": kind.name},
            "input": INPUT,
            "options": _options(kind),
            "metadata": {"type": "object"},
            "webhook_url": INPUT,
        },
    }


PROBLEM = {
    "type": "object",
    "required": ["kind", "message"],
    "properties": {"kind": {"type": "string"}, "message": {"type": "string"}},
}
STAMP = {"type": ["integer", "null"]}
TASK: dict[str, Any] = {
    "type": "object",
    "required": [
        "id",
        "object",
        "kind",
        "input",
        "options",
        "metadata",
        "status",
        "progress",
        "output",
        "error",
    ],
    "properties": {
        "id": {"type": "string"},
        "object": {"enum": ["task", "job"]},
        "kind": {"enum": list(KINDS)},
        "status": {"enum": ["queued", "processing", "succeeded", "failed", "cancelled"]},
        "progress": {"type": ["number", "null"], "minimum": 0, "maximum": 100},
        "output": {"type": ["object", "null"]},
        "source": {"type": "object"},
        "error": {"oneOf": [{"type": "null"}, PROBLEM]},
        "created_at": STAMP,
        "started_at": STAMP,
        "finished_at": STAMP,
        "updated_at": STAMP,
    },
}


JOB = TASK | {
    "required": [*TASK["required"], "tasks"],
    "properties": TASK["properties"]
    | {"output": {"type": ["string", "null"]}, "tasks": {"type": "array", "items": {"type": "object"}}},
}


def _json(schema: dict[str, Any], about: str) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _paths(name: str) -> dict[str, Any]:
    """The paths of `task` or of `job`."""
    problem = {"$ref": "#/components/schemas/Problem"}
    task = {"$ref": f"#/components/schemas/{name.capitalize()}"}
    wrong = {
        str(code): _json(problem, about) for code, about in ((400, "wrong request"), (401, "no valid key"))
    }
    missing = wrong | {"404": _json(problem, f"no such {name}")}
    key_pattern = {"type": "string", "pattern": "^[!-~]{1,300}$"}
    statuses = {"enum": TASK["properties"]["status"]["enum"]}
    lists = {
        "limit": {"type": "integer", "minimum": 1, "maximum": 100},
        "order": {"enum": ["asc", "desc"]},
        "kind": {"enum": list(KINDS)},
        "status": statuses,
        "input": {"type": "string"},
    }
    body = {"application/json": {"schema": {"oneOf": [_request(kind) for kind in KINDS.values()]}}}
    task_id = {"type": "string", "pattern": f"^{name}_[a-z0-9]+$"}
    return {
        f"/{name}s": {
            "post": {
                "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": key_pattern}],
                "requestBody": {"required": True, "content": body},
                "responses": {
                    "201": _json(task, "created"),
                    "200": _json(task, "created before"),
                    "503": _json(problem, "no disk space, or no queue"),
                    **wrong,
                },
            },
            "get": {
                "parameters": [
                    {"name": name, "in": "query", "schema": schema} for name, schema in lists.items()
                ],
                "responses": {"200": _json({"type": "array", "items": task}, "the newest first"), **wrong},
            },
        },
        f"/{name}s/{{id}}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": task_id}],
            "get": {"responses": {"200": _json(task, "as it stands"), **missing}},
            "delete": {"responses": {"200": _json(task, "stopped"), **missing}},
        },
    }


def _probe() -> dict[str, Any]:
    """Our extension: what a file of this installation holds."""
    problem = {"$ref": "#/components/schemas/Problem"}
    found = {
        "type": "object",
        "required": ["object", "problem", "source"],
        "properties": {
            "object": {"const": "probe"},
            "problem": {"oneOf": [{"type": "null"}, PROBLEM]},
            "source": {"type": ["object", "null"]},
        },
    }
    body = {
        "type": "object",
        "required": ["input"],
        "properties": {"input": INPUT},
        "additionalProperties": False,
    }
    return {
        "/probe": {
            "post": {
                "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
                "responses": {
                    "200": _json(found, "what is in the file"),
                    "400": _json(problem, "wrong request, or no file of this installation"),
                    "401": _json(problem, "no valid key"),
                    "404": _json(problem, "no file behind this link any more"),
                },
            }
        }
    }


def document(server: str) -> dict[str, Any]:
    """The whole description, for the engine at *server*."""
    title = "mediapipe's embedded engine"
    about = "Ittybit's tasks and jobs API on FFmpeg."
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": about},
        "servers": [{"url": server}],
        "security": [{"key": []}],
        "paths": _paths("task") | _paths("job") | _probe(),
        "components": {
            "schemas": {"Task": TASK, "Job": JOB, "Problem": PROBLEM},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
