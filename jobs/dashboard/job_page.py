"""A job as the templates show it on its own page.

It reads models and live states and decides nothing; it knows no request.
"""

from __future__ import annotations

import mimetypes
import time
from functools import cached_property
from urllib.parse import urlsplit

from jobs import remaking
from jobs.dashboard.check_view import CHECK, CheckView, view_check
from jobs.dashboard.formatting import nbsp
from jobs.dashboard.output_view import (
    OutputView,
    output_url,
    shape_of,
    view_output,
    view_place,
    view_source,
)
from jobs.dashboard.presenters import Row
from jobs.dashboard.stage_axis import TimeAxis, draw
from jobs.models import Event, Removal, wish
from jobs.pipelines import StageDefinition
from jobs.state import StageState
from mediapipe import storage

WISHES = {  # what a page says of those that wait; a cancel shows in the job's state
    wish.RETRY: "{}’s retry is waiting. It starts as soon as it can.",
    wish.FORCE_RESTART: "{}’s restart is waiting. It starts within a few seconds.",
    wish.DELETE_AT_END: "{} wants it deleted, which is done as soon as it has ended.",
    wish.DELETE: "{}’s delete is waiting for the storage.",
}
VERSIONS = {"transcode": "Web version", "ingest": "Original", "hls": "HLS stream"}


class JobPage(Row):
    """A job on its own page."""

    @property
    def banner(self) -> str:
        """What keeps the page from being live, or the job from running."""
        return self.live.banner if self.live else ""

    @property
    def wishes(self) -> list[str]:
        """What people asked for and the workflow hasn't taken yet, in sentences."""
        return [WISHES[each.kind].format(each.actor) for each in self.job.wishes if each.kind in WISHES]

    @property
    def removed(self) -> str:
        """What was removed since it was kept for its days, in sentences."""
        return "" if self.active else " ".join(Removal.sentences(self.job))

    @property
    def retries_all(self) -> bool:
        """Whether the head offers a retry: not where one stage has failed, which has its own button."""
        one = sum(stage.failed for stage in self.stages) == 1
        return self.can_retry and not (self.active and one)

    @property
    def troubled(self) -> bool:
        """Whether nothing helps but to end the workflow and start the job again."""
        return bool(self.live and self.live.troubled)

    @cached_property
    def events(self) -> list[Event]:
        """The timeline, oldest first: what is new comes last, and moves nothing."""
        return list(self.job.events.order_by("-at", "-id")[:200])[::-1]

    @cached_property
    def outputs(self) -> list[OutputView]:
        """The output of each stage that has one."""
        return [
            view_output(self.job, stage.status, output)
            for stage in self.stages
            if (output := self.output(stage.name))
        ]

    @cached_property
    def places(self) -> list[OutputView]:
        """A place for the output of each stage, from the first second on; its stage's words fill it first."""
        made = {each.stage: each for each in self.outputs}
        return [made.get(s.name) or view_place(s.status, s.summary) for s in self.stages if s.name != CHECK]

    @cached_property
    def check(self) -> CheckView | None:
        """What its check says; None where it has none."""
        return view_check(self.stages, self.outputs, self.files[0])

    @property
    def images(self) -> list[OutputView]:
        """The places of what is shown as an image."""
        return [each for each in self.places if each.is_image and (each.url or self.keeps_places)]

    @property
    def files(self) -> list[OutputView]:
        """The source, and the place of every output."""
        ingested = self.output("ingest")
        return [view_source(self.job, ingested.source if ingested else None), *self.places]

    @property
    def planned(self) -> set[str]:
        """The names of its stages that aren't skipped: each has a place on the page.

        Of sound alone those of pictures have one, too: it shows (the style sheet) only on a page that was
        watched before anybody knew, so that nothing moves there.
        """
        sound = self.shape == "sound"
        return {each.name for each in self.stages if sound or each.status.state != StageState.SKIPPED}

    @property
    def keeps_places(self) -> bool:
        """Whether places stay that nothing has filled: in a job that has ended nothing will."""
        return self.active or self.shape == "sound"

    def _output_of(self, stage: str) -> OutputView | None:
        return next((each for each in self.outputs if each.stage == stage), None)

    @property
    def player(self) -> OutputView | None:
        """What plays first: the transcode, else the ingested original; None for sound alone."""
        ingested = self.output("ingest")
        if ingested and ingested.has("video") is False:
            return None
        return self._output_of("transcode") or self._output_of("ingest")

    @cached_property
    def shape(self) -> str:
        """How much room the player has: "sound" little, "tall" more than a film has (""), which is wide.

        Until the first stage knows, a name tells sound; a page that is watched keeps what it began with.
        """
        ingested = self.output("ingest")
        if ingested is None:
            name = self.job.source_filename or urlsplit(self.job.source_url).path
            return "sound" if (mimetypes.guess_type(name)[0] or "").startswith("audio/") else ""
        return "sound" if ingested.has("video") is False else shape_of(ingested)

    @property
    def listens(self) -> OutputView | None:
        """What the page's player of sound plays: where there is no film, what comes first."""
        return self.audio or (self._output_of("ingest") if self.shape == "sound" else None)

    @property
    def versions(self) -> list[tuple[str, OutputView]]:
        """What the player can play, and the places of what it will: label and output."""
        return [(VERSIONS[each.stage], each) for each in self.places if each.stage in VERSIONS][::-1]

    @property
    def audio(self) -> OutputView | None:
        """The extracted audio."""
        return self._output_of("audio")

    @property
    def has_sound(self) -> bool:
        """Whether there is a place for its sound: where there is some, or may yet be."""
        return "audio" in self.planned and (self.active or self.audio is not None)

    @property
    def has_frames(self) -> bool:
        """Whether there is a place to choose the thumbnail's frame: where something plays, or may yet."""
        return "thumbnails" in self.planned and (self.keeps_places or self.player is not None)

    @property
    def storyboard_vtt(self) -> str:
        """The storyboard's WebVTT; "" for one elsewhere: our content security policy loads nothing there."""
        sprite = self.output("storyboard")
        name = sprite.extras.get("vtt", "") if sprite else ""
        return storage.page_link(name, self.job.owner_id) if name and "://" not in name else ""

    @property
    def waveform(self) -> str:
        """The address of the audio's peaks."""
        return output_url(self.job, self.output("waveform"))

    @property
    def size_saving(self) -> str:
        """How much smaller the transcode is than the source; "" where it isn't."""
        transcode = self.output("transcode")
        before = self.job.source_size
        if not transcode or not transcode.filesize or not before or transcode.filesize >= before:
            return ""
        return nbsp(f"{(1 - transcode.filesize / before) * 100:.0f}% smaller than the original")

    @cached_property
    def remakable(self) -> set[str]:
        """The names of its stages that can be made again by themselves."""
        return {stage["name"] for stage in self.job.plan if remaking.can_be_made_again(stage)}

    @cached_property
    def addable(self) -> list[StageDefinition]:
        """The stages of other pipelines that may be added."""
        return remaking.addable(self.job)

    @cached_property
    def axis(self) -> TimeAxis:
        """The time axis with the job's stages on it."""
        return draw(self.stages)

    @property
    def poll_interval(self) -> str:
        """For hx-trigger: each second while there is progress, else every three."""
        return "1s" if any(stage.percent is not None for stage in self.stages) else "3s"

    @property
    def stands_still(self) -> bool:
        """Whether whatever has begun waits for something."""
        begun = [stage for stage in self.stages if stage.running]
        return self.state == "running" and bool(begun) and not any(stage.spinning for stage in begun)

    @property
    def elapsed(self) -> str:
        """How long it has been running, to the minute: seconds would change each poll."""
        started = self.status.started_at
        minutes = int((time.time() - started) / 60) if started and self.active else 0
        return nbsp(f"Running for {minutes} min") if minutes else ""
