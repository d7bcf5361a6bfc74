"""EngineTask: a task's row, and the guarded verbs that change it. It knows neither HTTP nor FFmpeg."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Literal
from urllib.parse import urlsplit

from django.db import models, transaction
from django.db.models import functions
from django.utils import timezone

from mediapipe import storage
from mediapipe.engine.course import PieceCourse as PieceCourse
from mediapipe.engine.kinds import KINDS, LIGHT

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32
KEY_LIFETIME = timedelta(hours=24)  # that an Idempotency-Key leads to the same task
STALE_AFTER = timedelta(seconds=6)  # without a write by the worker that runs a task
LOST_AFTER = timedelta(seconds=30)  # without one, after which its download counts as under way no more
IMPORTS_EACH = 3  # sources of one person that come at once, or lie here and wait for their encode
OF_A_MOMENT = models.Q(kind__in=LIGHT) | models.Q(copies=True)
DOWNLOADING = ~models.Q(fetch_for="") & models.Q(fetched=False)
PIECES = "pieces"  # among a task's steps: where its pieces are kept
WAITS_IN_SLOT = ("space", "storage")  # what a task waits for in its slot

Lane = Literal["import", "light", "heavy"]


def _storable(text: str) -> str:
    """A text that any database takes: without NUL, and without halves of characters."""
    return text.replace("\0", "").encode(errors="replace").decode()


def fetch_for(kept: str, metadata: dict[str, Any]) -> str:
    """Whose turn an input's download takes: its owner's, its host's where nobody is named; "" for ours."""
    if storage.kept_name(kept) is not None:
        return ""
    owner = _storable(str(metadata.get("owner", "")))
    return (f"owner {owner}" if owner else f"host {urlsplit(kept).hostname}")[:200]


def _each_link(kind: str, options: dict[str, Any], turn: Callable[[str], str]) -> dict[str, Any]:
    """The *options* of a task with each link in them turned."""
    named = (
        {name for name in KINDS[kind].links if isinstance(options.get(name), dict)} if kind in KINDS else ()
    )
    return options | {name: {key: turn(link) for key, link in options[name].items()} for name in named}


def kept_options(kind: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Options as they were asked for and checked, as they are kept. Raises storage.Forbidden."""
    return _each_link(kind, asked, storage.to_kept)


def new_id(resource: str = "task") -> str:
    """An opaque id such as task_01h…"""
    return f"{resource}_" + "".join(secrets.choice(ALPHABET) for _ in range(26))


class EngineTask(models.Model):
    """A task of the Ittybit API."""

    class Status(models.TextChoices):
        """The statuses by the API's names."""

        QUEUED = "queued"
        PROCESSING = "processing"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.CharField(primary_key=True, max_length=40, default=new_id)
    kind = models.CharField(max_length=20)
    input = models.TextField()  # as storage.to_kept keeps it: a URL, or the name of a file of ours
    options = models.JSONField(default=dict)  # as in the request, links as kept_options() keeps them
    metadata = models.JSONField(default=dict)
    webhook_url = models.TextField(blank=True)  # a path where it leads to this installation
    key = models.CharField(max_length=310, null=True, blank=True, unique=True)  # "tasks/…" or "jobs/…"
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    progress = models.FloatField(null=True)
    speed = models.FloatField(null=True)
    time_left = models.FloatField(null=True)
    waiting_for = models.CharField(max_length=20, blank=True)
    output = models.JSONField(null=True)  # with the file's "name" in place of its URL
    warnings = models.JSONField(default=list)
    error = models.JSONField(null=True)
    freed_bytes = models.BigIntegerField(null=True)  # of partial files, when it was cancelled while it ran
    created_at = models.DateTimeField(default=timezone.now)
    steps = models.JSONField(default=dict)  # when each began (unix ms), and the source's "file"
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    fetch_for = models.CharField(max_length=200, blank=True, default="", db_default="")  # see fetch_for()
    fetched = models.BooleanField(default=False, db_default=False)  # a foreign source lies in the store
    copies = models.BooleanField(default=False, db_default=False)  # it may be a copy: a moment's work
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["-created_at", "id"]), models.Index(fields=["status", "created_at"])]

    ACTIVE = (Status.QUEUED, Status.PROCESSING)
    WITHOUT_OUTPUT = (Status.FAILED, Status.CANCELLED)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def light(self) -> bool:
        """Whether it takes the light queue: work of a moment, beside the heavy encodes."""
        return self.kind in LIGHT

    @property
    def lane(self) -> Lane:
        """Which queue it stands in now: that of downloads until its foreign source has arrived."""
        if self.fetch_for and not self.fetched:
            return "import"
        return "light" if self.light or self.copies else "heavy"

    @classmethod
    def in_lane(cls, lane: Lane) -> models.QuerySet[EngineTask]:
        """All tasks of that queue."""
        if lane == "import":
            return cls.objects.filter(DOWNLOADING)
        others = cls.objects.exclude(DOWNLOADING)
        return others.filter(OF_A_MOMENT) if lane == "light" else others.exclude(OF_A_MOMENT)

    @property
    def source(self) -> str:
        """Its input as a worker reads it: a foreign one from where it was downloaded to."""
        return f"{storage.OWN_FILE_PREFIX}{storage.fetched(self.pk)}" if self.fetched else self.input

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.status in self.ACTIVE

    @property
    def owner(self) -> str:
        """Whose task it is: the queue is fair to different owners."""
        return str(self.metadata.get("owner", ""))

    @property
    def input_url(self) -> str:
        """The input as a URL that works now."""
        return storage.kept_url(self.input)

    @property
    def asked(self) -> dict[str, Any]:
        """Its options as in the request, with links that work now."""
        return _each_link(self.kind, self.options, storage.kept_url)

    @property
    def is_later(self) -> bool:
        """Whether it is a later stage of a job that has begun: it works on what another task has made."""
        return self.input.startswith(storage.MADE_HERE)

    @property
    def is_stale(self) -> bool:
        """Whether the worker that runs it has stopped writing; another one takes over soon."""
        return self.status == self.Status.PROCESSING and timezone.now() - self.updated_at > STALE_AFTER

    @classmethod
    def of_key(cls, key: str) -> EngineTask | None:
        """The task created with this Idempotency-Key in the last 24 hours, None where there is none."""
        cls.objects.filter(key=key, created_at__lt=timezone.now() - KEY_LIFETIME).update(key=None)
        return cls.objects.filter(key=key).first()

    def update(self, **fields: Any) -> bool:
        """Changes these columns of a task that is still active; False where it is over."""
        changed = EngineTask.objects.filter(pk=self.pk, status__in=self.ACTIVE).update(
            **fields, updated_at=timezone.now()
        )
        return bool(changed)

    def begin(self) -> bool:
        """A worker runs it now; False where it is over."""
        return self.update(
            status=self.Status.PROCESSING, started_at=self.started_at or timezone.now(), waiting_for=""
        )

    def wait(self, waiting_for: str = "", progress: float | None = None) -> bool:
        """Back in the queue: for its next piece, a worker, or a full disk ("space"). False if over."""
        queued = {"status": self.Status.QUEUED, "waiting_for": waiting_for, "progress": progress}
        return self.update(**queued, speed=None, time_left=None)

    def needs_encode(self) -> bool:
        """It is no copy after all: back in line, among the encodes. False where it is over."""
        return self.update(status=self.Status.QUEUED, progress=None, started_at=None, copies=False)

    def begin_import(self) -> int | None:
        """Its download begins; else it waits for its turn, and the answer is how many stand before it."""
        with transaction.atomic():  # of a person's downloads one at a time asks
            theirs = EngineTask.objects.select_for_update().filter(
                fetch_for=self.fetch_for, status__in=self.ACTIVE
            )
            others = [each for each in theirs.order_by("pk") if each.pk != self.pk]
            now = timezone.now()
            if sum(each.takes_room(now) for each in others) < IMPORTS_EACH:
                self.begin()
                return None
            self.wait("turn")
            return sum(not each.fetched and each.created_at < self.created_at for each in others)

    def takes_room(self, now: datetime) -> bool:
        """Whether its foreign source comes at the moment, or lies here and waits for its encode."""
        if self.fetched:
            return self.status == self.Status.QUEUED
        at_it = self.status == self.Status.PROCESSING or self.waiting_for in WAITS_IN_SLOT
        return at_it and now - self.updated_at < LOST_AFTER

    def imported(self, steps: dict[str, Any]) -> bool:
        """Its foreign source has arrived, and it stands in line for its encode; False where it is over."""
        return self.update(status=self.Status.QUEUED, waiting_for="", fetched=True, steps=steps)

    def succeed(self, output: dict[str, Any], warnings: list[str], **fields: Any) -> bool:
        """Stores the output (a File, with names instead of URLs); False where the task was over before."""
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
        """Stores why there is no output; False where the task was over before."""
        error = {"kind": kind, "message": _storable(message)}
        error |= {"details": _storable(details)} if details else {}
        over = {"time_left": None, "finished_at": timezone.now()}
        return self.update(**fields, **over, status=self.Status.FAILED, error=error)

    def add_freed(self, size: int) -> None:
        """Adds bytes that were freed when it was cancelled while it ran."""
        freed = functions.Coalesce("freed_bytes", 0) + size
        EngineTask.objects.filter(pk=self.pk).update(freed_bytes=freed)

    def cancel(self) -> bool:
        """Marks it as cancelled; False where it was over before. Its workflow must be cancelled as well."""
        error = {"kind": "cancelled", "message": "The task was cancelled."}
        return self.update(
            status=self.Status.CANCELLED, error=error, time_left=None, finished_at=timezone.now()
        )

    def remove_output(self) -> None:
        """Removes what its workers have stored of an output that nobody will have, and its foreign source.

        Each does that itself; this is for one that died, or handed over, between that and the task's end.
        What a storage that is away keeps, nobody refers to.
        """
        if self.status in self.WITHOUT_OUTPUT and self.started_at:
            with contextlib.suppress(OSError):
                if self.fetch_for:
                    storage.remove(storage.fetched(self.pk))
                for name in storage.beginning_with(f"outputs/{self.pk}"):
                    storage.remove(name)

    def realtime_factor(self) -> float | None:
        """Seconds of work per second of media: the median of recent tasks like this one, None without any."""
        alike = EngineTask.objects.filter(
            kind=self.kind, options=self.options, status=self.Status.SUCCEEDED, started_at__isnull=False
        )
        factors = [
            (task.finished_at - task.encode_began).total_seconds() / task.output["duration"]
            for task in alike.order_by("-created_at")[:20]
            if task.encode_began and task.finished_at and task.output and task.output.get("duration")
        ]
        return median(factors) if factors else None

    @property
    def encode_began(self) -> datetime | None:
        """When it began to encode, without its download; tasks of earlier versions: when it began at all."""
        at = self.steps.get("encode")
        return datetime.fromtimestamp(at / 1000, UTC) if at else self.started_at

    @classmethod
    def is_any_running(cls, lane: Lane) -> bool:
        """Whether a live worker has a task of that queue: it runs it, or waits midway."""
        held = models.Q(status=cls.Status.PROCESSING) | models.Q(status=cls.Status.QUEUED) & ~models.Q(
            waiting_for=""
        )
        return cls.in_lane(lane).filter(held, updated_at__gt=timezone.now() - STALE_AFTER).exists()

    def queue_position(self) -> int | None:
        """Its place in the line for an encode, 1 being next; None when it doesn't stand there."""
        if self.status != self.Status.QUEUED or self.lane == "import":
            return None
        line = self.in_lane(self.lane).filter(status=self.Status.QUEUED)
        return line.filter(created_at__lt=self.created_at).count() + 1

    @property
    def resource(self) -> str:
        """`task` or `job`: under which name it was requested."""
        return str(self.pk).split("_", 1)[0]
