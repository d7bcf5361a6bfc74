"""The commands about one job against another installation, by its API: MEDIAPIPE_URL and MEDIAPIPE_TOKEN.

It knows the API's JSON and no rows. A connection that drops costs time: requests are repeated, and a file
goes on where the server says that it stopped.
"""

from __future__ import annotations

import base64
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
from django.core.management.base import CommandError, OutputWrapper

from jobs.management.verbs import end_with, find_key, no_job
from mediapipe.management.process import exit_now

GIVE_UP_AFTER = 120.0  # seconds without any answer, or any progress of a file, after which a command gives up
TIMEOUT = httpx.Timeout(120, connect=10)
BLOCK = 1 << 20
RETRYABLE_STATUSES = (408, 409, 423, 460, 502, 503, 504, 507)  # a part of a file that may be sent once more
SETTLED = ("succeeded", "failed", "attention", "cancelled")
TUS = {"Tus-Resumable": "1.0.0"}


class NoAnswer(Exception):
    """The other installation doesn't answer; the sentence says so."""


class ErrorAnswer(Exception):
    """The other installation refuses; its status, and its sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def from_environment() -> Installation | None:
    """The installation that the environment names, if any. Raises CommandError where it does by halves."""
    url = os.environ.get("MEDIAPIPE_URL", "").rstrip("/")
    token = os.environ.get("MEDIAPIPE_TOKEN", "")
    if not url and not token:
        return None
    if not (_is_address(url) and re.fullmatch(r"[!-~]+", token)):
        raise CommandError(
            "For another installation set MEDIAPIPE_URL (http:// or https://) and MEDIAPIPE_TOKEN,"
            " a token from its “API tokens” page; for this one, neither.",
            returncode=2,
        )
    return Installation(url, token)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


def _sentence(answer: httpx.Response) -> str:
    """What an answer that isn't a success says."""
    if answer.headers.get("Content-Type", "").startswith("application/problem+json"):
        return str(answer.json()["detail"])
    if answer.headers.get("Content-Type", "").startswith("text/plain") and answer.text:
        return answer.text[:500]
    said = answer.headers.get("Mediapipe-Says", "")
    return said or f"{answer.url.host} answered {answer.status_code}. Check MEDIAPIPE_URL."


class Installation:
    """Another installation, as a token lets one use it."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}", "User-Agent": "mediapipe"}
        self.url = url
        self.http = httpx.Client(headers=headers, timeout=TIMEOUT)

    def request(self, method: str, path: str, **about: Any) -> Any:
        """The JSON of an answer, repeated while there is none. Raises NoAnswer, ErrorAnswer."""
        return self._send(method, f"{self.url}/api/v1{path}", **about).json()

    def _send(self, method: str, url: str, **about: Any) -> httpx.Response:
        until = time.monotonic() + GIVE_UP_AFTER
        pause = 0.25
        said = False
        while True:
            try:
                answer = self.http.request(method, url, **about)
            except httpx.TransportError as error:
                if time.monotonic() > until:
                    raise NoAnswer(f"{self.url} can’t be reached: {error}. Check MEDIAPIPE_URL.") from None
                if not said:
                    print(f"{self.url} can’t be reached yet: {error}. Trying again.", file=sys.stderr)
                said = True
            else:
                if answer.is_success:
                    return answer
                if answer.status_code not in (429, 502, 504) or time.monotonic() > until:
                    raise ErrorAnswer(answer.status_code, _sentence(answer))
            time.sleep(pause)
            pause = min(pause * 2, 5)

    def submit(self, source: dict[str, Any], title: str, pipeline: str) -> dict[str, Any]:
        """A new job; the key makes a request that is repeated one job. Raises NoAnswer, ErrorAnswer."""
        body = {**source, "title": title, "pipeline": pipeline}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        job: dict[str, Any] = self.request("POST", "/jobs", json=body, headers=headers)
        return job

    def settled(self, job: dict[str, Any], show: Any) -> dict[str, Any]:
        """The job once it settles; *show* is called with each change until then."""
        while True:
            show(job)
            if job["status"] in SETTLED:
                return job
            about = {"wait": 30, "since": job["version"]}
            job = self.request("GET", f"/jobs/{job['id']}", params=about)
            time.sleep(0.2)

    def send(self, path: Path, err: OutputWrapper) -> str:
        """The id of an upload, its file sent whole. Raises NoAnswer, ErrorAnswer, OSError."""
        size = path.stat().st_size
        about = {"filename": path.name, "job": "later"}
        pairs = (f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in about.items())
        headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": ",".join(pairs)}
        created = self._send("POST", f"{self.url}/uploads/", headers=headers)
        url = (
            self.url + urlsplit(created.headers["Location"]).path
        )  # as we reach it, whatever it calls itself
        offset = 0
        until = time.monotonic() + GIVE_UP_AFTER
        while offset < size:
            before = offset
            self._part(url, path, offset, size, err)
            offset = int(self._send("HEAD", url, headers=TUS).headers["Upload-Offset"])
            if offset > before:
                until = time.monotonic() + GIVE_UP_AFTER
            elif time.monotonic() > until:
                raise NoAnswer(f"{self.url} takes no more of {path.name}. Try again later.")
            else:
                time.sleep(0.5)
        return url.rstrip("/").rpartition("/")[2]

    def _part(self, url: str, path: Path, offset: int, size: int, err: OutputWrapper) -> None:
        """Sends the file from *offset*, as far as the connection lasts. Raises ErrorAnswer, OSError."""
        headers = {
            **TUS,
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(size - offset),
            "Upload-Offset": str(offset),
        }
        try:
            answer = self.http.patch(url, headers=headers, content=_blocks(path, offset, size, err))
        except httpx.TransportError:
            err.write(f"\n{path.name}: the connection dropped; looking where it stopped.")
            return
        if not answer.is_success and answer.status_code not in (*RETRYABLE_STATUSES, 429):
            raise ErrorAnswer(answer.status_code, _sentence(answer))


def _blocks(path: Path, offset: int, size: int, err: OutputWrapper) -> Iterator[bytes]:
    """The file from *offset*; how far it is stands on *err*: on a terminal a bar, else every tenth."""
    terminal = err.isatty()
    shown = -1
    with open(path, "rb") as file:
        file.seek(offset)
        while offset < size and (block := file.read(min(BLOCK, size - offset))):
            yield block
            offset += len(block)
            percent = offset * 100 // size
            if terminal and percent != shown:
                bar = "#" * (percent * 30 // 100)
                err.write(f"\r{path.name} [{bar:30}] {percent} %", ending="" if percent < 100 else "\n")
            elif not terminal and percent // 10 != shown // 10:
                err.write(f"{path.name}: {percent} %")
            shown = percent


def lines(job: dict[str, Any]) -> dict[str, str]:
    """A job's stages as lines of progress; under "" why it waits."""
    found = {"": job["note"] or ""}
    for stage in job["stages"]:
        percent = "" if stage["progress"] is None else f" {stage['progress']:.0f}%"
        error = f": {stage['error']}" if stage["error"] else ""
        running = stage["state"] == "running"
        found[stage["name"]] = f"running{percent}" if running else f"{stage['state']}{error}"
    return found


def find(remote: Installation, text: str) -> dict[str, Any]:
    """The job of this id. Raises CommandError, exit status 2; ends the process with 1 where it can't say."""
    key = find_key(text)
    try:
        job: dict[str, Any] = remote.request("GET", f"/jobs/{key}")
    except ErrorAnswer as error:
        raise (no_job(text) if error.status == 404 else CommandError(str(error), returncode=2)) from None
    except NoAnswer as error:
        raise CommandError(str(error), returncode=1) from None
    return job


def perform(
    remote: Installation,
    path: str,
    text: str,
    body: dict[str, Any],
    out: OutputWrapper,
    err: OutputWrapper,
    *,
    method: str = "POST",
) -> NoReturn:
    """Does what a button does to the job *text*, and ends the process as the command does here."""
    key = find_key(text)
    about = {} if method == "DELETE" else {"json": body}
    try:
        done = remote.request(method, f"/jobs/{key}/{path}", **about)
    except ErrorAnswer as error:
        if error.status == 404:
            raise no_job(text) from None
        if error.status in (401, 403, 422):
            raise CommandError(str(error), returncode=2) from None
        end_with(str(error), err)
    except NoAnswer as error:
        end_with(str(error), err)
    out.write(done["link"] if "link" in done else done["message"])
    exit_now()
