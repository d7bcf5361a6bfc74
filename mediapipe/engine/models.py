"""EngineTask: what the API tells of a task, and the guarded verbs that change it."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from django.db import models
from django.utils import timezone

from mediapipe import storage

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32
IDEMPOTENT = timedelta(hours=24)
LIGHT = ("image", "audio")
STEPS = ("probe", "import", "encode", "export")  # a job's tasks, in the reference's order
SILENT = timedelta(seconds=6)


def new_id(resource: str = "task") -> str:
    """An opaque id such as task_01h…"""
    return f"{resource}_" + "".join(secrets.choice(ALPHABET) for _ in range(26))


def milliseconds(at: datetime | None) -> int | None:
    """Unix milliseconds, as the API counts."""
    return None if at is None else round(at.timestamp() * 1000)


class EngineTask(models.Model):
    """A task of the Ittybit API."""

    class Status(models.TextChoices):
        """The API's own words."""

        QUEUED = "queued"
        PROCESSING = "processing"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.CharField(primary_key=True, max_length=40, default=new_id)
    kind = models.CharField(max_length=20)
    input = models.TextField()
    options = models.JSONField(default=dict)  # as they were asked for
    metadata = models.JSONField(default=dict)
    webhook_url = models.TextField(blank=True)
    key = models.CharField(max_length=310, null=True, blank=True, unique=True)  # "tasks/…" or "jobs/…"
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    progress = models.FloatField(null=True)
    speed = models.FloatField(null=True)
    time_left = models.FloatField(null=True)
    waiting_for = models.CharField(max_length=20, blank=True)
    output = models.JSONField(null=True)  # with the file's "name" in place of its URL
    warnings = models.JSONField(default=list)
    error = models.JSONField(null=True)
    freed_bytes = models.BigIntegerField(null=True)  # of partial files, when it was cancelled at work
    created_at = models.DateTimeField(default=timezone.now)
    steps = models.JSONField(default=dict)  # when each began (unix ms), and the source's "file"
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["-created_at", "id"]), models.Index(fields=["status", "created_at"])]

    ACTIVE = (Status.QUEUED, Status.PROCESSING)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def light(self) -> bool:
        """Whether it takes the light lane: an encode that nobody waits long for."""
        return self.kind in LIGHT

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.status in self.ACTIVE

    @property
    def owner(self) -> str:
        """Whose task it is: tasks of different owners take turns."""
        return str(self.metadata.get("owner", ""))

    @property
    def silent(self) -> bool:
        """Whether the worker that is at it gives no sign of life; another takes over by itself."""
        return self.status == self.Status.PROCESSING and timezone.now() - self.updated_at > SILENT

    @classmethod
    def of_key(cls, key: str) -> EngineTask | None:
        """The task that was made with this Idempotency-Key in the last 24 hours."""
        cls.objects.filter(key=key, created_at__lt=timezone.now() - IDEMPOTENT).update(key=None)
        return cls.objects.filter(key=key).first()

    def update(self, **fields: Any) -> bool:
        """Changes a task that is still active; False where it is over."""
        changed = EngineTask.objects.filter(pk=self.pk, status__in=self.ACTIVE).update(
            **fields, updated_at=timezone.now()
        )
        return bool(changed)

    def begin(self) -> bool:
        """It is being worked on."""
        return self.update(
            status=self.Status.PROCESSING, started_at=self.started_at or timezone.now(), waiting_for=""
        )

    def wait(self, waiting_for: str = "") -> bool:
        """Back in the queue: its worker hands over, or the disk has no room."""
        return self.update(
            status=self.Status.QUEUED, progress=None, speed=None, time_left=None, waiting_for=waiting_for
        )

    def succeed(self, output: dict[str, Any], warnings: list[str], **fields: Any) -> bool:
        """It is done."""
        return self.update(
            **fields,
            status=self.Status.SUCCEEDED,
            progress=100,
            speed=None,
            time_left=None,
            output=output,
            warnings=warnings,
            finished_at=timezone.now(),
        )

    def fail(self, kind: str, message: str, details: str = "", **fields: Any) -> bool:
        """It came to nothing."""
        error = {"kind": kind, "message": message} | ({"details": details} if details else {})
        over = {"time_left": None, "finished_at": timezone.now()}
        return self.update(**fields, **over, status=self.Status.FAILED, error=error)

    def cancel(self) -> bool:
        """Somebody stopped it."""
        error = {"kind": "cancelled", "message": "The task was cancelled."}
        return self.update(
            status=self.Status.CANCELLED, error=error, time_left=None, finished_at=timezone.now()
        )

    def pace(self) -> float | None:
        """Seconds of work per second of film, as tasks like this one took lately; None where none did."""
        alike = EngineTask.objects.filter(
            kind=self.kind, options=self.options, status=self.Status.SUCCEEDED, started_at__isnull=False
        )
        paces = [
            (task.finished_at - task.started_at).total_seconds() / task.output["duration"]
            for task in alike.order_by("-created_at")[:20]
            if task.started_at and task.finished_at and task.output and task.output.get("duration")
        ]
        return median(paces) if paces else None

    @classmethod
    def at_work(cls, light: bool) -> bool:
        """Whether a worker is at a task of that lane, and alive."""
        fresh = cls.objects.filter(status=cls.Status.PROCESSING, updated_at__gt=timezone.now() - SILENT)
        return (fresh.filter(kind__in=LIGHT) if light else fresh.exclude(kind__in=LIGHT)).exists()

    def place(self) -> int | None:
        """Its place in the queue, 1 being next; None when it isn't queued."""
        if self.status != self.Status.QUEUED:
            return None
        lane = EngineTask.objects.filter(status=self.Status.QUEUED, created_at__lt=self.created_at)
        return (lane.filter(kind__in=LIGHT) if self.light else lane.exclude(kind__in=LIGHT)).count() + 1

    def file(self) -> dict[str, Any] | None:
        """The output as the API's File; URLs are signed anew."""
        if not self.output:
            return None
        output = {key: value for key, value in self.output.items() if not key.endswith("name")}
        for key, value in self.output.items():
            if key.endswith("name"):
                output[key.removesuffix("name") + "url"] = storage.signed_url(value)
        return output

    @property
    def resource(self) -> str:
        """`task` or `job`: what it was asked for as."""
        return str(self.pk).split("_", 1)[0]

    def as_json(self) -> dict[str, Any]:
        """The task, or the job, as the API tells it."""
        output = self.file()
        body: dict[str, Any] = {
            "id": self.pk,
            "object": self.resource,
            "kind": self.kind,
            "input": self.input,
            "options": self.options,
            "metadata": self.metadata,
            "status": self.status,
            "progress": self.progress,
            "output": output["url"] if output and self.resource == "job" else output,
            "error": self.error,
            "warnings": self.warnings,
            "created_at": milliseconds(self.created_at),
            "started_at": milliseconds(self.started_at),
            "finished_at": milliseconds(self.finished_at),
            "updated_at": milliseconds(self.updated_at),
        }
        if self.resource == "job":
            body["tasks"] = [self._part(at, step, output) for at, step in enumerate(STEPS)]
        elif file := self.steps.get("file"):
            body["source"] = {"object": "file", "url": self.input, **file}
        if self.active:
            body |= {"speed": self.speed, "time_left": self.time_left, "queue_position": self.place()}
            waiting_for = "worker" if self.silent else self.waiting_for
            body |= {"waiting_for": waiting_for} if waiting_for else {}
        return body

    def _part(self, at: int, step: str, output: dict[str, Any] | None) -> dict[str, Any]:
        """One task of a job: its own times and status; the one that was at work has the job's error."""
        begun = {name: when for name, when in self.steps.items() if name in STEPS}
        last = max(begun, key=lambda name: begun[name], default="import")
        started = begun.get(step)
        later = [when for when in begun.values() if started is not None and when > started]
        finished = min(later, default=None if self.active else milliseconds(self.finished_at))
        status = "succeeded"
        if step == last and self.status != self.Status.SUCCEEDED:
            status = "waiting" if self.status == self.Status.QUEUED else self.status
        elif started is None and self.status != self.Status.SUCCEEDED:
            status = "waiting" if self.active else "cancelled"
        external = {"object": "external_file", "url": self.input}
        source = {"object": "file", "url": self.input, **self.steps.get("file", {})}
        result = output if step in ("encode", "export") else source
        return {
            "id": f"task_{self.pk.split('_', 1)[1]}{at}",
            "object": "task",
            "kind": self.kind if step == "encode" else step,
            "step": step,
            "input": external if step in ("probe", "import") else source if step == "encode" else output,
            "options": self.options if step == "encode" else {},
            "status": status,
            "progress": self.progress if step == "encode" else None,
            "output": result if status == "succeeded" else None,
            "error": self.error if status == "failed" else None,
            "created_at": milliseconds(self.created_at),
            "started_at": started,
            "finished_at": finished if started is not None else None,
            "updated_at": finished or started or milliseconds(self.created_at),
        }
