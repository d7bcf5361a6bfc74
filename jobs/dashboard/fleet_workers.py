"""A worker as the page of the fleet shows it: its state in words, and what it is at.

It reads rows and decides nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from jobs.dashboard.formatting import ago, duration, filesize
from jobs.fleet import pausing
from jobs.models import FleetWorker, Stage

WORDS = {"import_source": "Download", "join_pieces": "Join of pieces", "encode_piece": "Piece"}
STATE_LABELS = {  # a worker's state, for people, by the job's state of the same colour
    "failed": "No sign",
    "cancelled": "Stopped",
    "attention": "Paused",
    "running": "At work",
    "succeeded": "Free",
}


class Work(NamedTuple):
    """Something that a worker is at: in words, of which job, and for how long."""

    words: str
    title: str
    url: str
    took: str


class Worker:
    """A worker as the page shows it."""

    def __init__(self, row: FleetWorker, works: list[Work], now: datetime) -> None:
        self.row = row
        self.works = works
        self.now = now

    @property
    def state(self) -> str:
        """For the style sheet: what a job of that colour would be."""
        if self.row.is_silent(self.now):
            return "failed"
        if self.row.stopped_at:
            return "cancelled"
        return "attention" if self.row.paused_at else "running" if self.works else "succeeded"

    @property
    def says(self) -> str:
        """In a word or two."""
        return STATE_LABELS[self.state]

    @property
    def can_be_paused(self) -> bool:
        """Whether it takes work of the engine."""
        return self.row.paused_at is None and pausing.ENCODES in self.row.slots

    @property
    def pause(self) -> str:
        """What its pause means at the moment; "" where nobody has paused it."""
        if self.row.paused_at is None:
            return ""
        if self.row.stopped_at:
            return "It takes nothing when it’s started again."
        if self.row.is_silent(self.now):
            return "It takes nothing when it’s back."
        if self.row.takes:
            return "It is about to hear of it."
        return (
            "It finishes what it has." if self.works else "It has finished what it had, and can be stopped."
        )

    @property
    def seen(self) -> str:
        """When it gave its last sign."""
        return ago(self.row.seen_at)

    @property
    def free(self) -> str:
        """What is free where it encodes."""
        return filesize(self.row.disk_free)

    @property
    def slots(self) -> list[tuple[str, int, int]]:
        """The engine's work it takes: the kind, how many places are taken, and how many there are."""
        kinds = zip(("encodes", "short work", "downloads"), pausing.QUEUES, strict=True)
        busy = [queue for queue, *_ in self.row.doing]
        return [
            (words, busy.count(queue), self.row.slots[queue])
            for words, queue in kinds
            if queue in self.row.slots
        ]

    @property
    def watches(self) -> int | None:
        """How many stages it watches over; None for a worker of the engine alone."""
        if "media-pipeline" not in self.row.slots:
            return None
        return sum(str(queue) == "media-pipeline" for queue, *_ in self.row.doing)


def works_of(workers: list[FleetWorker], now: float) -> dict[str, list[Work]]:
    """What each engine's worker is at, by its name: a task is a stage of a job."""
    tasks = {whose for worker in workers for queue, _, whose, _ in worker.doing if queue in pausing.QUEUES}
    stages = Stage.objects.filter(task_id__in=tasks).select_related("job")
    by_task = {stage.task_id: stage for stage in stages} if tasks else {}

    def work(name: str, whose: str, since: float) -> Work:
        took = duration(max(0.0, now - since))
        if (stage := by_task.get(whose)) is None:
            return Work(WORDS.get(name, "Task"), whose, "", took)
        words = f"{stage.label} ({WORDS[name].lower()})" if name in WORDS else stage.label
        return Work(words, stage.job.title, stage.job.get_absolute_url(), took)

    return {
        worker.name: [work(*rest) for queue, *rest in worker.doing if queue in pausing.QUEUES]
        for worker in workers
    }
