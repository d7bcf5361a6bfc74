"""What the templates show: a job, its stages and its outputs, in words and numbers for people.

It reads models and live states and decides nothing.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import cached_property
from typing import Any

from jobs import pipelines
from jobs.dashboard.formatting import BETWEEN, about, ago, clock, glued, line, reach, size, span
from jobs.dashboard.time_axis import Axis, Segment
from jobs.live import Live
from jobs.models import Event, Job, link
from jobs.state import ACTIVE, JobState, Output, StageState, StageStatus
from mediapipe import storage

STATE_WORDS = {
    JobState.QUEUED: "Queued",
    JobState.RUNNING: "Running",
    JobState.ATTENTION: "Needs attention",
    JobState.SUCCEEDED: "Done",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
}
ICONS = {
    StageState.PENDING: "clock",
    StageState.RUNNING: "loader-circle",
    StageState.SUCCEEDED: "check",
    StageState.FAILED: "circle-x",
    StageState.SKIPPED: "circle-minus",
    StageState.CANCELLED: "ban",
}
NEXT_STEPS = {
    "damaged": "Export or upload the file again, then start a new job.",
    "invalid_input": "Check that the source is a video or audio file.",
    "protected": "Use a copy without copy protection.",
    "source_not_found": "Check the URL, or upload the file instead.",
    "source_unreachable": "Check that the source's server is up, then retry; or upload the file instead.",
    "source_refused": "Use another link, or upload the file instead.",
    "too_large": "Use a smaller file, or ask an admin about the limits.",
    "unsupported": "Convert the file to H.264 first.",
    "no_space": "Ask an admin to make room, then retry.",
    "refused": "Ask an admin to check the settings, then retry.",
}
STEP = 5  # seconds in which an unfinished time axis grows: it must not change with each poll
STORYBOARD_INTERVAL = float(pipelines.STORYBOARD.options["interval"])  # seconds


class StageView:
    """A stage on a page."""

    def __init__(self, status: StageStatus, live: Live | None) -> None:
        self.status = status
        self.name, self.label, self.state = status.name, status.label, str(status.state)
        self.wait = live.waits.get(status.name) if live else None
        self.retrying = bool(self.wait and self.wait.until)
        self.icon = "rotate-ccw" if self.retrying else ICONS[status.state]
        self.speed = live.speeds.get(status.name) if live else None
        self.left = live.time_left.get(status.name) if live else None

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        return self.status.state == StageState.RUNNING

    @property
    def turning(self) -> bool:
        """Whether its sign turns: it is at work and not between two attempts."""
        return self.running and not self.retrying

    @property
    def failed(self) -> bool:
        """Whether it waits for a person."""
        return self.status.state == StageState.FAILED

    @property
    def percent(self) -> int | None:
        """Whole percent while it runs; None where nobody knows."""
        known = self.running and self.status.progress is not None and not self.status.retry_at
        return int(self.status.progress or 0) if known else None

    @property
    def words(self) -> str:
        """What it is doing, or came to, in words."""
        status = self.status
        if self.running:
            if self.wait:
                text = f"{self.wait.text}: {self.wait.reason}" if self.wait.reason else self.wait.text
                return text[0].upper() + text[1:]
            parts = [f"attempt {status.attempt} of {status.max_attempts}"] if status.attempt > 1 else []
            parts += [f"{self.speed:.1f}× speed"] if self.speed else []
            parts += [f"{reach(self.left)} left"] if self.left and self.left > 1 else []
            text = ", ".join(parts) or ("working" if status.task_id else "starting")
            return text[0].upper() + text[1:]
        if status.state == StageState.SUCCEEDED:
            took = (status.finished_at or 0) - (status.started_at or 0)
            tries = f", on attempt {status.attempt}" if status.attempt > 1 else ""
            return (f"Done in {span(took)}" if status.started_at and status.finished_at else "Done") + tries
        if status.state == StageState.PENDING:
            return "Waiting for its turn"
        if status.state == StageState.FAILED:
            return f"Failed on attempt {status.attempt}" if status.attempt > 1 else "Failed"
        return f"Skipped: {status.error}" if status.state == StageState.SKIPPED else "Cancelled"

    @property
    def next_step(self) -> str:
        """What a person may do about its failure."""
        return NEXT_STEPS.get(self.status.error_kind or "", "Retry the stage; what is finished is kept.")


class Row:
    """A job in the list."""

    def __init__(self, job: Job, live: Live | None) -> None:
        self.job, self.live = job, live
        self.now = live.status if live else job.status()
        self.stages = [StageView(stage, live) for stage in self.now.stages]

    @property
    def state(self) -> str:
        """For the style sheet."""
        return "cancelling" if self.cancelling else str(self.now.state)

    @property
    def cancelling(self) -> bool:
        """A cancel was asked for and isn't done yet."""
        return (self.now.cancelling or self.job.cancelling) and self.now.state in ACTIVE

    @property
    def word(self) -> str:
        """The state in a word."""
        return "Cancelling" if self.cancelling else STATE_WORDS[self.now.state]

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.now.state in ACTIVE

    def output(self, stage: str) -> Output | None:
        """What a stage made, once it is there."""
        found = next((s for s in self.now.stages if s.name == stage), None)
        return found.output if found and found.state == StageState.SUCCEEDED else None

    @property
    def poster(self) -> str:
        """The thumbnail's address."""
        return link(self.output("thumbnails"))

    @property
    def when(self) -> str:
        """How long ago it was submitted."""
        return ago(self.job.created_at)

    @property
    def preview(self) -> str:
        """The animated preview's address."""
        return link(self.output("preview"))

    @property
    def facts(self) -> str:
        """Size and length in one line."""
        made = self.output("ingest")
        return line(size(self.job.source_size), clock(made.duration) if made else "")

    @property
    def can_cancel(self) -> bool:
        """Whether the cancel button makes sense."""
        return self.active and not self.cancelling

    @property
    def can_retry(self) -> bool:
        """Whether the retry button makes sense."""
        failed = any(stage.failed for stage in self.stages)
        return self.now.state in (JobState.ATTENTION, JobState.FAILED, JobState.CANCELLED) or (
            failed and not self.active
        )

    @property
    def waiting(self) -> StageView | None:
        """The stage that doesn't move, where one tells why."""
        return next((stage for stage in self.stages if stage.running and stage.wait), None)

    @property
    def error(self) -> str:
        """Why it isn't done, in a sentence."""
        failed = [stage for stage in self.stages if stage.failed]
        if failed:
            return f"{failed[0].label}: {failed[0].status.error}"
        return self.now.error


class JobPage(Row):
    """A job's page."""

    @property
    def banner(self) -> str:
        """What is missing, where something is."""
        return self.live.banner if self.live else ""

    @property
    def temporal_url(self) -> str:
        """The workflow in Temporal's own UI."""
        return self.live.temporal_url if self.live else ""

    @cached_property
    def events(self) -> list[Event]:
        """The timeline, the newest first."""
        return list(self.job.events.order_by("-at", "-id")[:200])

    @cached_property
    def outputs(self) -> list[dict[str, Any]]:
        """Everything that was made, to look at and to save."""
        stem = self.job.title.rsplit(".", 1)[0][:80] or "output"
        found = []
        for stage in self.stages:
            if made := self.output(stage.name):
                path = link(made)
                form = (made.format or "bin").lower()
                name = f"{stem} - {stage.label.lower()}.{'m3u8' if form == 'hls' else form}"
                found.append(
                    {
                        "name": stage.name,
                        "label": stage.label,
                        "url": path,
                        "about": about(made),
                        "id": "thumbnail" if stage.name == "thumbnails" else f"picture-{stage.name}",
                        "picture": made.kind == "image" and stage.name != "storyboard",
                        "save": storage.link(made.name, save_as=name) if made.name else path,
                        "warnings": " ".join(made.warnings),
                    }
                )
        return found

    @property
    def pictures(self) -> list[dict[str, Any]]:
        """The outputs to look at."""
        return [each for each in self.outputs if each["picture"]]

    @property
    def files(self) -> list[dict[str, Any]]:
        """The source and every output, with its facts."""
        job = self.job
        name, film = job.source_filename or job.source_url, self.output("ingest")
        probed = film.source if film else None
        known = about(replace(probed, filesize=job.source_size)) if probed else glued(size(job.source_size))
        source = {"label": "Source", "about": BETWEEN.join(filter(None, (name, known)))}
        if job.source_name:
            save = storage.link(job.source_name, save_as=job.source_filename or job.title)
            source |= {"url": storage.link(job.source_name), "save": save}
        return [source, *self.outputs]

    def _made_by(self, stage: str) -> dict[str, Any] | None:
        """One of the outputs."""
        return next((each for each in self.outputs if each["name"] == stage), None)

    @property
    def player(self) -> dict[str, Any] | None:
        """The best thing to play: the transcode, else the ingested original."""
        return self._made_by("transcode") or self._made_by("ingest")

    @property
    def original(self) -> dict[str, Any] | None:
        """The ingested original, where the transcode is what plays first."""
        return self._made_by("ingest") if self._made_by("transcode") else None

    @property
    def stream(self) -> dict[str, Any] | None:
        """The HLS stream, whose renditions suit fast and slow lines."""
        return self._made_by("hls")

    @property
    def sound(self) -> dict[str, Any] | None:
        """The extracted audio."""
        return self._made_by("audio")

    @property
    def filmstrip(self) -> dict[str, str | int | float] | None:
        """The storyboard's picture and how to read it: ten frames to a row, so many seconds each."""
        made, film = self.output("storyboard"), self.output("ingest")
        if not made or not film or not film.duration:
            return None
        interval = max(STORYBOARD_INTERVAL, film.duration / 100)
        return {
            "url": link(made),
            "interval": round(interval, 3),
            "count": math.ceil(film.duration / interval),
        }

    @property
    def waveform(self) -> str:
        """Where the audio's peaks are."""
        return link(self.output("waveform"))

    @property
    def saving(self) -> str:
        """How much smaller the transcode is than the source."""
        made, before = self.output("transcode"), self.job.source_size
        if not made or not made.filesize or not before or made.filesize >= before:
            return ""
        return f"{(1 - made.filesize / before) * 100:.0f}\u00a0% smaller than the source"

    @cached_property
    def axis(self) -> tuple[list[Segment], list[tuple[StageView, list[Segment]]]]:
        """The folds of the time axis, and each stage with its segments on it."""
        attempts = [attempt for stage in self.stages for attempt in stage.status.attempts]
        axis = Axis(attempts, (time.time() // STEP + 1) * STEP)
        return axis.marks(), [(each, list(axis.segments(each.status.attempts))) for each in self.stages]

    @property
    def pace(self) -> str:
        """How often the page asks: each second while something moves, else every three."""
        return "1s" if any(stage.percent is not None for stage in self.stages) else "3s"

    @property
    def length(self) -> str:
        """How long the job took, or has been at it."""
        if not self.now.started_at:
            return ""
        if self.now.finished_at:
            return glued(f"took {span(self.now.finished_at - self.now.started_at)}")
        minutes = int((time.time() - self.now.started_at) / 60)  # a word that changes each second jumps
        return glued(f"at it for {minutes} min") if minutes else ""
