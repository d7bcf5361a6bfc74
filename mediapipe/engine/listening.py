"""Runs FFmpeg for what its filters say of files, and reports how much of the whole work is done.

It knows files and FFmpeg, and not what is looked for (lookthrough.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mediapipe.engine import encode
from mediapipe.engine.arguments import HEAD, input_arguments
from mediapipe.engine.encode import Progress, ReportProgress
from mediapipe.engine.measures import Measures
from mediapipe.engine.media import Audio, Media, Video


@dataclass(frozen=True)
class File:
    """A file that is looked through, by the *name* that findings give it."""

    name: str
    path: Path
    media: Media

    @property
    def film(self) -> Video | None:
        """Its moving picture; None where there is none."""
        return self.media.video if not self.media.is_still else None

    @property
    def sound(self) -> Audio | None:
        """Its sound."""
        return self.media.audio

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.media.duration

    def opened(self, seek: float = 0.0) -> list[str]:
        """The arguments that open it, from *seek* on."""
        return input_arguments(str(self.path), self.media, seek or None)


class Listening:
    """The runs of one task in its *folder*; *whole*: all of its work, as seconds of film that are read."""

    def __init__(self, folder: Path, whole: float, report: ReportProgress) -> None:
        self.folder = folder
        self.whole = whole
        self.report = report
        self.done = 0.0  # seconds of film

    async def measured(
        self, arguments: list[str], files: Sequence[File], seconds: float, share: float = 0.0
    ) -> Measures:
        """What the filters say of *seconds*, of which a *share* counts as work. Raises TaskError."""
        found = Measures()
        null = self.folder / "null"
        ended = await self.run(arguments, null, ["-f", "null"], files, seconds, share=share, found=found)
        found.ended = ended.seconds
        found.close(found.ended or seconds)
        return found

    async def run(
        self,
        arguments: list[str],
        target: Path,
        muxer: list[str],
        files: Sequence[File],
        seconds: float,
        *,
        share: float = 0.0,
        found: Measures | None = None,
    ) -> encode.FfmpegExit:
        """One run of FFmpeg on *files* into *target*; *found* hears its log. Raises TaskError."""

        def report(percent: float | None, speed: float | None, left: float | None) -> None:
            worked = self.done + share * seconds * (percent or 0) / 100
            self.report(min(99.0, 100 * worked / self.whole), None, None)

        ended = await encode.ffmpeg(
            [*HEAD, "-v", "level+info", *arguments],
            target,
            muxer,
            source=files[0].path,
            beside=[each.path for each in files[1:]],
            progress=Progress(seconds, 0, report),
            hear=(found or Measures()).line,
        )
        encode.check_exit(ended)
        return ended
