"""What an engine kind is, in one place: light or heavy, how it is planned and verified.

A new kind is a new entry of KINDS, and its options one of mediapipe.task_options: requests, plans, the
task's run, its verification, the queues and the OpenAPI description all read it here. Pure: it names the
functions that do the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from mediapipe.engine import plan, previews, segments, sound, stills, verify
from mediapipe.engine.arguments import Plan
from mediapipe.engine.media import Media
from mediapipe.task_options import ASKED
from mediapipe.validators import Links, Options, Validator


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    *plan* builds the Plan from checked options, the probed source and its path (None: nothing is made,
    check.py looks through what there is); *verify* reads an output (*copied*: its picture was not encoded);
    *finish* writes what FFmpeg doesn't. All raise TaskError.
    """

    name: str
    plan: Callable[[Options, Media, str], Plan] | None
    verify: Callable[[Path, bool], Awaitable[Media]] = verify.read_file
    finish: Callable[[previews.Encoded], previews.Finished] = previews.as_encoded
    light: bool = False  # whether it goes beside the heavy encodes, because it takes a moment
    # whether a plan for these options depends on what packets alone show: keyframes, a clock that jumps
    needs_packets: Callable[[Options], bool] = lambda options: False
    # whether a task with these options may turn out to be a copy
    may_copy: Callable[[Options], bool] = lambda options: False
    divides: bool = False  # whether a long film is encoded in pieces
    compared: bool = False  # whether an output is compared with its source before it is published
    output_kind: str = ""  # what its output is called in the API's File; "" where as the kind
    has_duration: bool = True
    has_frame_rate: bool = False

    @property
    def options(self) -> dict[str, Validator]:
        """Its options, with their ranges."""
        return ASKED[self.name].options

    @property
    def required(self) -> dict[str, str]:
        """The options that a request must have, and what each says."""
        return ASKED[self.name].required

    @property
    def links(self) -> list[str]:
        """The options that hold links to files."""
        return [name for name, option in self.options.items() if isinstance(option, Links)]


_KINDS = (
    Kind(
        "video",
        plan.video_plan,
        verify=verify.read_video,
        compared=True,
        needs_packets=lambda options: True,
        may_copy=plan.may_copy_video,
        divides=True,
        has_frame_rate=True,
    ),
    Kind(
        "audio",
        sound.audio_plan,
        finish=previews.waveform,
        compared=True,
        light=True,
        needs_packets=lambda options: True,
    ),
    Kind(
        "image",
        stills.image_plan,  # without a format: the source's own where that is a photo, else jpeg
        finish=previews.storyboard,
        light=True,
        needs_packets=lambda options: "interval" in options,
        has_duration=False,
    ),
    Kind(
        "animation",
        stills.animation_plan,
        verify=verify.read_animation,
        output_kind="image",
    ),
    Kind(
        "adaptive_video",
        plan.hls_plan,
        verify=segments.read_stream,
        compared=True,
        needs_packets=lambda options: True,
        divides=True,
        output_kind="video",
    ),
    Kind(
        "check",
        None,
        has_duration=False,
    ),
)
KINDS = {kind.name: kind for kind in _KINDS}
LIGHT = tuple(kind.name for kind in _KINDS if kind.light)
