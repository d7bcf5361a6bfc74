"""The API as the product reaches it: a stand-in whose tasks cost nothing, in front of the embedded engine.

A source that ends in .mkv goes on to the engine, with all that is asked for afterwards about its job; every
other job is the stand-in's. Both kinds pass the same faults.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import httpx

from jobs.state import workflow_id
from tests.support.faulty_api import FaultyApi

KEYS = "/tasks/keys/"
PASSED_ON = ("content-type", "retry-after")
LONG = ["processing"] * 25  # reads, whose interval grows: some ten seconds
BROKEN = {"kind": "damaged", "message": "The file is damaged."}  # no retry by itself can help
FLAKY = {"kind": "internal_error", "message": "The encoder crashed."}


async def unheard(message) -> None:
    """Sends an answer to nobody."""


class Gateway(FaultyApi):
    """The server. *engine*: where the embedded engine is now, `http://…/ittybit`."""

    def __init__(self, engine: Callable[[], str]) -> None:
        super().__init__()
        self.engine = engine
        self.can_cancel = True
        self.real: set[str] = set()  # jobs
        self.fates: dict[str, str] = {}  # by job

    def of_job(self, body: dict) -> str:
        """The job that a request for a task is for; what its source says of it is remembered."""
        job = body["metadata"]["job"]
        source = urlsplit(body["input"])
        if source.path.endswith(".mkv"):
            self.real.add(job)
        if fate := parse_qs(source.query).get("fate"):
            self.fates[job] = fate[0]
        return job

    async def __call__(self, scope, receive, send):
        """Stands in front: hands on what is the engine's."""
        message = await receive()
        body = message.get("body", b"")
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        theirs = self.is_theirs(scope["method"], scope["path"], body)
        fault = self.faults.pop(0) if self.faults else self.always.get(scope["method"])
        if fault == "drop" and scope["method"] == "POST":  # what is lost is the answer: the task is made
            made = self.pass_on if theirs else self.take
            await made(scope, body, unheard)
        if theirs and not fault:
            return await self.pass_on(scope, body, send)
        if fault:
            return await self.misbehave(fault, send)
        await self.take(scope, body, send)

    def is_theirs(self, method: str, path: str, body: bytes) -> bool:
        """Whether a request is the engine's: by the job of a new task or of a key, else by the task."""
        if method == "POST":
            return self.of_job(json.loads(body)) in self.real
        if path.startswith(KEYS):
            job = path.removeprefix(KEYS).partition("/")[0].removeprefix(workflow_id(""))
            return job in self.real
        known = (f"/tasks/{task['id']}" for task in self.tasks.values())
        return path.startswith("/tasks/") and path not in known

    async def take(self, scope, body, send):
        """As the stand-in takes it, which is never told of a fault."""

        async def again():
            return {"type": "http.request", "body": body}

        await super().__call__(scope, again, send)

    async def pass_on(self, scope, body, send):
        """The engine's own answer, or what a proxy says where there is none."""
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        headers.pop("host", None)
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
                url = self.engine() + scope["path"]
                reply = await http.request(scope["method"], url, content=body, headers=headers)
        except httpx.HTTPError:
            return await self.reply(send, 502, b"<html>Bad Gateway</html>", "text/html")
        kept = {name: reply.headers[name] for name in PASSED_ON if name in reply.headers}
        kind = kept.pop("content-type", "application/json")
        await self.reply(send, reply.status_code, reply.content, kind, **kept)

    async def create(self, send, body, key):
        """A task that goes as its job's fate has it."""
        new = key not in self.tasks
        fate = self.fates.get(body["metadata"]["job"], "")
        before = sum(known.rsplit("/", 1)[0] == key.rsplit("/", 1)[0] for known in self.tasks)
        stage = body["metadata"]["stage"]
        self.life = ["queued", "processing", "succeeded"]
        if before == 0 and (fate, stage) in (("flaky", "audio"), ("broken", "audio"), ("broken", "ingest")):
            self.life = ["processing", "failed"]
        if (fate, stage) in (("long", "transcode"), ("slow", "ingest")):
            self.life = ["queued", *LONG, "succeeded"]
        await super().create(send, body, key)
        if new:
            self.tasks[key]["created_at"] = time.time()
            self.tasks[key]["error"] = BROKEN if fate == "broken" else FLAKY

    def shown(self, task):
        """Each task has its own error."""
        self.error = task.get("error", FLAKY)
        return super().shown(task)
