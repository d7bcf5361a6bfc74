"""The engine's OpenAPI description, generated from the validators that check requests. Pure."""

from __future__ import annotations

from typing import Any

from mediapipe.engine.kinds import KINDS, Kind

INPUT_SCHEMA = {"type": "string", "format": "uri", "pattern": "^https?://[a-z0-9.]+/"}


def _options(kind: Kind) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: option.schema() for name, option in kind.options.items()},
        "required": list(kind.required),
        "additionalProperties": False,
    }


def _request(kind: Kind, name: str) -> dict[str, Any]:
    external = {"type": "object", "required": ["url"], "properties": {"url": INPUT_SCHEMA}}
    return {
        "type": "object",
        "required": ["kind", "input", *(["options"] if kind.required else [])],
        "properties": {
            "kind": {"const": kind.name},
            "input": {"oneOf": [INPUT_SCHEMA, external]} if name == "task" else INPUT_SCHEMA,
            "options": _options(kind),
            "output": {"type": "null"},
            "metadata": {"type": "object"},
            "webhook_url": INPUT_SCHEMA,
        },
        "additionalProperties": False,
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


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name.capitalize()}"}


WRONG = {
    "400": _json(_ref("problem"), "wrong request"),
    "401": _json(_ref("problem"), "no valid key"),
}


def _collection(name: str) -> dict[str, Any]:
    """`/tasks` or `/jobs`, *name* being `task` or `job`."""
    key = {"type": "string", "pattern": "^[!-~]{1,300}$"}
    body = {"application/json": {"schema": {"oneOf": [_request(kind, name) for kind in KINDS.values()]}}}
    filters = {
        "limit": {"type": "integer", "minimum": 1, "maximum": 100},
        "page": {"type": "integer", "minimum": 1, "maximum": 10_000},
        "after": {"type": "string"},
        "before": {"type": "string"},
        "order": {"enum": ["asc", "desc"]},
        "kind": {"enum": list(KINDS)},
        "status": {"enum": TASK["properties"]["status"]["enum"]},
        "input": {"type": "string"},
    }
    listed = _json({"type": "array", "items": _ref(name)}, "the newest first")
    return {
        "post": {
            "parameters": [{"name": "Idempotency-Key", "in": "header", "schema": key}],
            "requestBody": {"required": True, "content": body},
            "responses": {
                "201": _json(_ref(name), "created"),
                "200": _json(_ref(name), "created before"),
                "503": _json(_ref("problem"), "no disk space, no queue or no database"),
                **WRONG,
            },
        },
        "get": {
            "parameters": [
                {"name": name, "in": "query", "schema": schema} for name, schema in filters.items()
            ],
            "responses": {"200": listed, **WRONG},
        },
    }


def _item(name: str) -> dict[str, Any]:
    """One task or job."""
    task_id = {"type": "string", "pattern": f"^{name}_[a-z0-9]+$"}
    missing = WRONG | {"404": _json(_ref("problem"), f"no such {name}")}
    return {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": task_id}],
        "get": {"responses": {"200": _json(_ref(name), "its state"), **missing}},
        "delete": {"responses": {"200": _json(_ref(name), "cancelled"), **missing}},
    }


def _by_key(name: str) -> dict[str, Any]:
    """The task or job of an Idempotency-Key, our extension: for who never got its id."""
    key = {"type": "string", "pattern": "^[A-Za-z0-9_/-]*[A-Za-z0-9_-]$", "maxLength": 300}
    cancelled = {"type": "object", "required": ["cancelled"]}
    answers = {"200": _json(cancelled, f"the {name}, cancelled, if there was one"), **WRONG}
    answers["404"] = _json(_ref("problem"), "no key")
    return {
        "parameters": [{"name": "key", "in": "path", "required": True, "schema": key}],
        "delete": {"responses": answers},
    }


def _probe() -> dict[str, Any]:
    """`/probe`, our extension: what a file of this installation holds."""
    found = {
        "type": "object",
        "required": ["object", "problem", "source", "unread"],
        "properties": {
            "object": {"const": "probe"},
            "problem": {"oneOf": [{"type": "null"}, PROBLEM]},
            "source": {"type": ["object", "null"]},
            "unread": {"type": ["string", "null"], "description": "where both are null: why, in a sentence"},
        },
    }
    body = {
        "type": "object",
        "required": ["input"],
        "properties": {"input": INPUT_SCHEMA},
        "additionalProperties": False,
    }
    return {
        "post": {
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": {
                "200": _json(found, "what is in the file"),
                **WRONG,
                "400": _json(_ref("problem"), "wrong request, or no file of this installation"),
                "404": _json(_ref("problem"), "no file behind this link any more"),
            },
        }
    }


def document(server: str) -> dict[str, Any]:
    """The whole description, for the engine at *server*."""
    title = "mediapipe’s embedded engine"
    about = "Ittybit’s tasks and jobs API on FFmpeg."
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": about},
        "servers": [{"url": server}],
        "security": [{"key": []}],
        "paths": {
            "/tasks": _collection("task"),
            "/tasks/{id}": _item("task"),
            "/tasks/keys/{key}": _by_key("task"),
            "/jobs": _collection("job"),
            "/jobs/{id}": _item("job"),
            "/jobs/keys/{key}": _by_key("job"),
            "/probe": _probe(),
        },
        "components": {
            "schemas": {"Task": TASK, "Job": JOB, "Problem": PROBLEM},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
