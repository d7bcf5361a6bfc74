"""An Ittybit API that misbehaves on demand: a real HTTP server with fault switches.

with FaultyApi() as api:
    api.faults = ["503", "html"]        # the next replies, one each; then it behaves
    api.always = {"GET": "503"}         # every reply to that method
    api.life = ["waiting", "processing", "succeeded"]   # statuses a task goes through, one per read
    api.documented = True               # Ittybit's reference to the letter: tests.support.cloud_api
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import uvicorn

from tests.support import cloud_api


class FaultyApi:
    """The server; `tasks` maps each idempotency key to the task that was made for it."""

    def __init__(self):
        self.tasks: dict[str, dict] = {}
        self.requests: list[tuple[str, str, float]] = []
        self.deleted: list[str] = []
        self.behave()

    def behave(self):
        """No faults; the tasks so far are remembered."""
        self.resource, self.documented = "tasks", False
        self.faults, self.life = [], ["queued", "processing", "succeeded"]
        self.always: dict[str, str] = {}  # by method
        self.lives: dict[str, list[str]] = {}  # by kind or by stage, where they differ
        self.output: object = "default"
        self.extra: dict[str, object] = {}
        self.error: object = {"kind": "internal_error", "message": "The encoder crashed."}
        self.can_cancel = False
        self.files: dict[str, bytes] = {}  # what an output holds, by kind

    def __enter__(self):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self.address: tuple[str, int] = sock.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        # a line for each request would stand in the log of whichever test looks at its own
        config = uvicorn.Config(
            self, lifespan="off", log_level="critical", access_log=False, timeout_graceful_shutdown=1
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [sock]}, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *problem):
        self.server.should_exit = True
        self.thread.join(5)

    def made(self, kind):
        """The tasks that were asked for, of one kind."""
        return [task for task in self.tasks.values() if task["kind"] == kind]

    def asked(self, job, stage=""):
        """The tasks that a job asked for, by its id; of one stage, of one try ("audio/2")."""
        return [task for key, task in self.tasks.items() if key.startswith(f"media-{job}/{stage}")]

    async def __call__(self, scope, receive, send):
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.requests.append((scope["method"], scope["path"], time.monotonic()))
        fault = self.faults.pop(0) if self.faults else self.always.get(scope["method"])
        if fault:
            return await self.misbehave(fault, send)
        headers = dict(scope["headers"])
        if scope["path"].startswith("/files/"):
            kind = next((t["kind"] for t in self.tasks.values() if f"/{t['id']}." in scope["path"]), "")
            data = self.files.get(kind, b"bytes of the output")
            return await self.reply(send, 200, data, "video/mp4")
        if self.documented and (refused := cloud_api.refusal(scope, body)):
            return await self.answer(send, *refused)
        if scope["method"] == "POST" and (self.documented or scope["path"] == f"/{self.resource}"):
            return await self.create(send, json.loads(body), headers[b"idempotency-key"].decode())
        resource = "jobs" if self.documented else self.resource
        keys = f"/{resource}/keys/"
        if self.can_cancel and scope["method"] == "DELETE" and scope["path"].startswith(keys):
            task = self.tasks.get(scope["path"].removeprefix(keys))
            return await (self.cancel(send, task) if task else self.answer(send, 200, {"cancelled": {}}))
        task = next((t for t in self.tasks.values() if scope["path"] == f"/{resource}/{t['id']}"), None)
        if task is None:
            return await self.answer(send, 404, {"kind": "task_not_found", "message": "No such task"})
        if scope["method"] == "DELETE":
            if not self.can_cancel:
                return await self.answer(send, 405, {"kind": "method_not_allowed", "message": "No"})
            return await self.cancel(send, task)
        if task["left"]:
            task["status"] = task["left"].pop(0)
        return await self.answer(send, 200, self.shown(task))

    async def create(self, send, body, key):
        if known := self.tasks.get(key):
            return await self.answer(send, 200, self.shown(known))
        stage = (body.get("metadata") or {}).get("stage")
        left = list(self.lives.get(stage) or self.lives.get(body["kind"]) or self.life)
        number = len(self.tasks) + 1
        made = {**body, "id": f"task_{number}", "status": left.pop(0), "left": left, "key": key}
        self.tasks = {**self.tasks, key: made}  # a test may be going through those that there were
        await self.answer(send, 201, self.shown(made))

    async def cancel(self, send, task):
        self.deleted.append(task["id"])
        task["status"], task["left"] = "cancelled", []
        await self.answer(send, 200, {**self.shown(task), "cancelled": {"encoder_stopped": True}})

    def shown(self, task):
        body = {
            "id": task["id"],
            "object": "task",
            "kind": task["kind"],
            "status": task["status"],
            **self.extra,
        }
        if task["status"] in ("succeeded", "completed", "ready"):
            output = {"url": f"{self.url}/files/{task['id']}.mp4", "format": "mp4", "duration": 10}
            body["output"] = output if self.output == "default" else self.output
        if task["status"] in ("failed", "error"):
            body["error"] = self.error
        return cloud_api.job(task, body) if self.documented else body

    async def answer(self, send, status, body, **headers):
        await self.reply(send, status, json.dumps(body).encode(), "application/json", **headers)

    async def reply(self, send, status, body, content_type, **headers):
        pairs = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        pairs += [(key.replace("_", "-").encode(), str(value).encode()) for key, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    async def misbehave(self, fault, send):
        name, _, value = fault.partition(" ")
        if name == "drop":  # the headers promise more than comes
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]}
            )
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            raise ConnectionResetError
        if name == "slow":
            await asyncio.sleep(float(value))
            return await self.answer(send, 503, {"kind": "internal_error", "message": "Slow"})
        if name == "drip":  # an answer that never comes to its end, a byte at a time
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9999")]}
            )
            for _ in range(int(value) * 10):
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.sleep(0.1)
            raise ConnectionResetError
        if name == "html":
            return await self.reply(send, 200, b"<html>Welcome</html>", "text/html")
        if name == "proxy":
            return await self.reply(send, int(value), b"<html>nginx</html>", "text/html")
        if name == "nostatus":
            return await self.answer(send, 200, {"id": "task_1"})
        if name == "envelope":
            return await self.answer(send, 200, {"data": {"id": "task_1", "status": "processing"}})
        headers = {"retry_after": value} if value else {}
        await self.answer(send, int(name), {"kind": "fault", "message": "On purpose"}, **headers)
