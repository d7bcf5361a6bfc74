"""A job as the templates show it in a line of a list.

It reads models and live states and decides nothing; it knows no request.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import cached_property

from jobs.dashboard.formatting import ago, duration, eta, filesize, join_facts, nbsp, timecode
from jobs.dashboard.output_view import OutputView, output_url, view_output
from jobs.dashboard.stage_view import StageView, view_stages
from jobs.dashboard.time_axis import SURVIVED, busy_times
from jobs.live import Live
from jobs.models import Job, wish
from jobs.state import ACTIVE, Attempt, JobState, Output, StageState

STATE_LABELS = {
    JobState.QUEUED: "Queued",
    JobState.RUNNING: "Running",
    JobState.ATTENTION: "Needs attention",
    JobState.SUCCEEDED: "Done",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
}
QUICK = ("thumbnails", "audio", "storyboard", "waveform", "preview")  # seconds, whatever the film's length


class Row:
    """A job in the list."""

    def __init__(self, job: Job, live: Live | None) -> None:
        self.job = job
        self.live = live
        self.status = live.status if live else job.status()
        self.stages = view_stages(job, self.status, live)

    @property
    def state(self) -> str:
        """For the style sheet: the job's state, or "cancelling"."""
        return "cancelling" if self.cancelling else str(self.status.state)

    @property
    def cancelling(self) -> bool:
        """Whether a cancel was requested and isn't done yet."""
        return (self.status.cancelling or self.job.cancelling) and self.active

    @property
    def state_label(self) -> str:
        """The state for people."""
        return "Cancelling" if self.cancelling else STATE_LABELS[self.status.state]

    @property
    def active(self) -> bool:
        """Whether it may still change."""
        return self.status.state in ACTIVE

    @cached_property
    def _outputs(self) -> dict[str, Output | None]:
        return {each.name: each.output for each in self.status.stages if each.state == StageState.SUCCEEDED}

    def output(self, stage: str) -> Output | None:
        """The output of a stage that has succeeded."""
        return self._outputs.get(stage)

    @cached_property
    def poster(self) -> str:
        """The thumbnail's address."""
        return output_url(self.job, self.output("thumbnails"))

    @property
    def icon(self) -> str:
        """What stands in the poster's place: a note where there is sound and no picture."""
        ingested = self.output("ingest")
        return "music" if ingested and ingested.has("video") is False else "film"

    @property
    def preview(self) -> str:
        """The animated preview's address."""
        return output_url(self.job, self.output("preview"))

    @property
    def _main(self) -> str:
        """The stage that made what a person came for: the transcode, or the sound where no picture is."""
        return next((name for name in ("transcode", "audio", "ingest") if self.output(name)), "")

    @cached_property
    def main_output(self) -> OutputView | None:
        """What that stage made, with all that is said of it."""
        made = next((each.status for each in self.stages if each.name == self._main), None)
        return view_output(self.job, made, made.output) if made and made.output else None

    @cached_property
    def main_url(self) -> str:
        """Its address alone."""
        return output_url(self.job, self.output(self._main))

    @property
    def submitted(self) -> str:
        """How long ago it was submitted."""
        return ago(self.job.created_at)

    @property
    def facts(self) -> str:
        """The source's bytes and length in one line."""
        ingested = self.output("ingest")
        return join_facts(filesize(self.job.source_size), timecode(ingested.duration) if ingested else "")

    @cached_property
    def seconds_left(self) -> float | None:
        """Until the whole job is expected to be done; None while a long stage can't be estimated yet."""
        stuck = self.cancelling or any(each.failed for each in self.stages)
        if stuck or self.status.state != JobState.RUNNING:
            return None
        long = [each for each in self.stages if not each.settled and each.name not in QUICK]
        lefts = [each.left for each in self.stages if each.left is not None]
        return None if any(each.left is None for each in long) else max(lefts, default=None)

    @property
    def ready_at(self) -> datetime | None:
        """The minute in which the whole job is expected to be done."""
        if self.seconds_left is None:
            return None
        return datetime.fromtimestamp((time.time() + self.seconds_left) // 60 * 60 + 60, UTC)

    @property
    def left(self) -> str:
        """How long the whole job may yet take, like "about 3 min left"."""
        return "" if self.seconds_left is None else eta(self.seconds_left)

    @property
    def _attempts(self) -> list[Attempt]:
        return [attempt for each in self.status.stages for attempt in each.attempts]

    @property
    def took(self) -> str:
        """How long was worked on a done job, in all its runs, like "Done in 52 s"; "" for any other."""
        if self.status.state != JobState.SUCCEEDED:
            return ""
        started = self.status.started_at or 0
        finished = self.status.finished_at or 0
        busy = busy_times(self._attempts, finished) or ([[started, finished]] if started and finished else [])
        return nbsp(f"Done in {duration(sum(end - start for start, end in busy))}") if busy else "Done"

    @property
    def survived(self) -> str:
        """How often an encoder stopped under the job, which went on all the same; "" for never."""
        lost = sum(attempt.outcome in SURVIVED for attempt in self._attempts)
        if lost and self.active:
            times = {1: "once", 2: "twice"}.get(lost, f"{lost} times")
            return f"the encoder was interrupted {times}, and went on by itself"
        return f"survived {lost} crash{'es' if lost > 1 else ''}" if lost else ""

    @property
    def can_cancel(self) -> bool:
        """Whether to show the cancel button."""
        return self.active and not self.cancelling

    @property
    def can_retry(self) -> bool:
        """Whether to show the retry button."""
        if any(each.kind == wish.DELETE for each in self.job.wishes):
            return False
        failed = any(stage.failed for stage in self.stages)
        return self.status.state in (JobState.ATTENTION, JobState.FAILED, JobState.CANCELLED) or (
            failed and not self.active
        )

    @property
    def waiting_stage(self) -> StageView | None:
        """The first stage that waits for a reason that is known."""
        return next((stage for stage in self.stages if stage.running and stage.wait), None)

    @property
    def error(self) -> str:
        """Why it isn't done, in a sentence."""
        failed = [stage for stage in self.stages if stage.failed]
        if failed:
            return f"{failed[0].label}: {failed[0].status.error}"
        return self.status.error
