"""The error of an upload request: a status and a sentence. It knows neither tus nor files."""

from __future__ import annotations


class UploadError(Exception):
    """An upload that can't be accepted: HTTP status, a sentence for people, headers (with _ for -)."""

    def __init__(self, status: int, text: str = "", **headers: object) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers
