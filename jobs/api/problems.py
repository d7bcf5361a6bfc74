"""An error of the API as RFC 9457 has it: application/problem+json with one sentence. It knows no jobs."""

from __future__ import annotations

from django.http import HttpResponse

from mediapipe.web.refusal import PROBLEM, problem


class ProblemError(Exception):
    """A request that can't be done: an HTTP status, a sentence for people, headers (with _ for -)."""

    def __init__(self, status: int, detail: str, **headers: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers

    def response(self) -> HttpResponse:
        """The problem as an answer."""
        return answer(self.status, self.detail, **self.headers)


def answer(status: int, detail: str, **headers: object) -> HttpResponse:
    """An answer that is a problem; header names with _ for -."""
    response = HttpResponse(problem(status, detail), status=status, content_type=PROBLEM)
    response["Cache-Control"] = "no-store"
    for name, value in headers.items():
        response[name.replace("_", "-")] = str(value)
    return response
