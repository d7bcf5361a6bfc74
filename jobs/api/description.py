"""The API's OpenAPI description: ninja's, with problems named as what they are. It knows no operation."""

from __future__ import annotations

from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from jobs.api.schemas import Problem
from mediapipe.web.refusal import PROBLEM

ABOUT = (
    "Submit media, follow it and act on it, as on the dashboard’s own pages. "
    "Files come in by tus 1.0 at /uploads/ with the same token."
)
PREFIX = "/api/v1/"
ALWAYS = (401, 403, 422, 429)  # answers of every operation
RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}


def answers(ok: Any, *problems: int, status: int = 200) -> dict[int, Any]:
    """What an operation answers: *ok*, and the problems that it may have."""
    return {status: ok, **dict.fromkeys((*ALWAYS, *problems), Problem)}


class Described(NinjaAPI):
    """A NinjaAPI whose errors are problem+json in its description too."""

    def get_openapi_schema(self, **arguments: Any) -> OpenAPISchema:
        """The description."""
        schema = super().get_openapi_schema(path_prefix=PREFIX)
        for operations in schema["paths"].values():
            for operation in operations.values():
                for status, reply in operation["responses"].items():
                    if int(status) >= 400 and "application/json" in reply.get("content", {}):
                        reply["content"] = {PROBLEM: reply["content"]["application/json"]}
                    if int(status) == 429:
                        reply["headers"] = RETRY_AFTER
        return schema
