"""Whether what FFmpeg wrote is what was wanted: its exit status alone lies (docs/engine.md).

The read_… functions read an output back, one way for each kind of output; `verified` judges it by its plan.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mediapipe.engine import compare, encode, prober, segments
from mediapipe.engine.arguments import HEAD, Plan
from mediapipe.engine.compare import Difference, Part
from mediapipe.engine.encode import FfmpegExit, Progress
from mediapipe.engine.errors import NOTHING_READABLE, SoundDamaged, TaskError
from mediapipe.engine.media import Media
from mediapipe.engine.timecode import timecode
from mediapipe.validators import Options

LOOK_SECONDS = 0.08  # seconds of the processor that the pictures of one file may take to look at,
LOOKS_SHARE = 0.006  # and the share of the encode's beside it
OF_SOURCE = 0.5  # of that: the output is looked at around each moment, so it takes more to get there
FROM_START_SECONDS = 5.0  # the same where a source has to be decoded from its beginning
SURELY_SHARE = 0.5
NOT_DECODED = "The file’s video can’t be decoded."
SHORT_SECONDS = 10.0  # of a film whose source is looked at beside its encode, and by keyframes
SEVERAL_KEYS = 0.75  # of a film's length, within which one keyframe follows another
COUNTED_BY_TRACK = ("mpegts", "mpeg")  # FFmpeg counts from the beginning of the tracks that it takes

Read = Callable[[Path, bool], Awaitable[Media]]  # the output, and whether its picture was copied


async def verified(
    read: Read, plan: Plan, source: Media, target: Path, ended: FfmpegExit, *, copied: bool
) -> tuple[Media, list[str]]:
    """The output as it was read back, and warnings for a person.

    Raises TaskError where it is not what the plan wants. *copied*: whether this try copied the picture.
    """
    empty = not target.exists() or not target.stat().st_size
    if empty or (plan.wants_video and not ended.frames):
        raise TaskError("damaged", NOTHING_READABLE, ended.last_lines)
    if plan.muxer == "null":  # a measurement, as text
        return Media(duration=ended.seconds or plan.seconds), []
    output = await read(target, copied)
    if plan.wants_video and not (output.video and output.video.decodes):
        raise TaskError("damaged", NOT_DECODED, ended.last_lines)
    if output.audio and not output.audio.whole:
        raise SoundDamaged("damaged", "The file’s audio can’t be decoded.", ended.last_lines)
    if plan.wants_audio and not plan.wants_video and output.audio is None:
        raise TaskError("damaged", "The file’s audio can’t be decoded.", ended.last_lines)
    warnings = []
    if plan.wants_audio and plan.wants_video and output.audio is None:
        warnings.append("The audio couldn’t be decoded and is missing.")
    missing = plan.seconds - output.duration
    if plan.seconds and output.duration and missing > source.leeway(plan.seconds) and not source.guessed:
        warnings.append(
            f"This file stops or is damaged at {timecode(output.duration)}, probably because recording or "
            "upload was interrupted. We processed everything up to there."
        )
    return output, warnings


class Looks:
    """Looks that begin before they are needed, asked as if the output were what its plan says.

    *by_keys*: keyframes will do, where the source has several.
    """

    def __init__(
        self, options: Options, plan: Plan, files: tuple[Path, Path], source: Media, *, by_keys: bool = False
    ) -> None:
        video = source.video if plan.wants_video else None
        audio = source.audio if plan.wants_audio else None
        self.files = files
        self.source = source
        self.by_keys = by_keys
        self.part = Part(_start(options, source), plan.seconds)
        expected = Media(duration=plan.seconds, video=video, audio=audio)
        self.asked = _asked(options, self.part, source, expected, by_keys=by_keys)  # of the source
        self.looking: asyncio.Task[dict[str, Any] | None] | None = None
        self.following: asyncio.Task[tuple[dict[str, Any], dict[str, Any] | None]] | None = None
        self.decoding: asyncio.Task[Media] | None = None

    def decode(self, read: Read) -> bool:
        """Tries the source's packets beside their copy, where they come out as they are. Whether it does."""
        if self.source.is_mp4 and read is read_video:
            self.decoding = asyncio.create_task(prober.probe(self.files[0], "--gap", "--whole"))
        return self.decoding is not None

    async def decoded(self) -> None:
        """Raises TaskError where the packets that it has tried can't be decoded."""
        tried = await self.decoding if self.decoding else None
        if tried and tried.video and not tried.video.whole:
            raise TaskError("damaged", NOT_DECODED)

    def begin(self, budget: float = LOOK_SECONDS) -> None:
        """Looks at the source, beside its encode."""
        self.looking = asyncio.create_task(_looks(self.files[0], self.asked, OF_SOURCE * budget))

    def follow(self, took: float, *, copied: bool) -> None:
        """Looks at the output, after the source, while it is read back; *took*: as for differences()."""
        if not self.looking and self.part.seconds:
            self.begin(_budget(took))
        if self.looking and self.asked["video"] is not None:  # a sound alone begins where only its file says
            self.following = asyncio.create_task(self._follow(self.looking, _budget(took), copied=copied))

    async def _follow(
        self, looking: asyncio.Task[dict[str, Any] | None], budget: float, *, copied: bool
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        seen = await looking
        video = self.source.video
        audio = self.source.audio
        if seen is None or video is None:
            return {}, None
        film = replace(video, index=0, crop=[], late=0.0, rotation=video.rotation if copied else 0)
        output = Media(video=film, audio=replace(audio, index=1) if audio else None)
        start = _counted_from(self.part.start, self.source, seen)
        moments = [each[0][0] - start for each in compare.distinct(seen["pictures"])]
        asked = _asked_of_output(self.asked, self.part, output, moments)
        return asked, await _looks(self.files[1], asked, budget, output=True)

    def cancel(self) -> None:
        """Ends what still goes on."""
        for each in filter(None, (self.looking, self.following, self.decoding)):
            each.cancel()


def _start(options: Options, source: Media) -> float:
    return source.start + float(options.get("start", 0))


def _counted_from(start: float, source: Media, seen: dict[str, Any]) -> float:
    """What the source's clock shows where its output begins."""
    by_track = source.format in COUNTED_BY_TRACK and seen["begins"] is not None
    return start + seen["begins"] - source.start if by_track else start


async def differences(
    options: Options,
    plan: Plan,
    files: tuple[Path, Path],
    medias: tuple[Media, Media],
    took: float,
    *,
    copied: bool,
    begun: Looks | None = None,
) -> list[Difference]:
    """How the output isn’t what its source is; nothing where they can’t be compared.

    *files* and *medias*: of the source and of the output; *took*: the processor's seconds for the
    encode, which say how long the looks may take; *begun*: the looks that have begun.
    """
    source, output = medias
    start = _start(options, source)
    part = Part(start, plan.seconds or output.duration)
    asked = _asked(options, part, source, output, by_keys=begun.by_keys if begun else copied)
    budget = _budget(took)
    known = begun.looking if begun and begun.asked == asked else None
    seen = await (known or _looks(files[0], asked, OF_SOURCE * budget))
    if seen is None:
        return compare.form(options, source, output, copied=copied, first=None)
    start = _counted_from(start, source, seen)
    surely = partial(_in_order, files[0], source, budget=FROM_START_SECONDS + SURELY_SHARE * took)
    misled = asked["video"] is not None and seen["misled"]
    seen |= await surely(part.moments()) if misled else {}
    seen["pictures"] = compare.distinct(seen["pictures"])
    moments = [each[0][0] for each in seen["pictures"]]
    ours = _asked_of_output(asked, part, output, [at - start for at in moments])
    early, made = await begun.following if begun and begun.following else ({}, None)
    made = made if early == ours else await _looks(files[1], ours, budget, output=True)
    if made is None:
        return [Difference("The result can’t be read.", grave=True)]
    judge = partial(compare.verdict, options, medias, part=part, offset=start, copied=copied)
    found = judge((seen, made))
    if misled or not any(each.of_pictures for each in found):
        return found
    return judge((seen | await surely(moments), made))  # it may mislead in a way that doesn't show


def _budget(took: float) -> float:
    """Seconds of the processor that the pictures of one file may take to look at, after such an encode."""
    return LOOK_SECONDS + LOOKS_SHARE * took


def _asked_of_output(
    asked: dict[str, Any], part: Part, output: Media, moments: list[float]
) -> dict[str, Any]:
    """What an output is asked, where its source was *asked* that."""
    places = part.places(0.0 if output.video else output.start)  # an MP3's encoder puts something before it
    films = asked["video"] is not None
    sounds = asked["audio"] is not None
    looked = _look(output, moments, places, 0.0, films=films, sounds=sounds)
    return looked | {"around": compare.SEARCH_WINDOW, "keys": asked["keys"]}


def _asked(options: Options, part: Part, source: Media, output: Media, *, by_keys: bool) -> dict[str, Any]:
    """What the source is asked, to compare with such an output.

    Keyframes will do of a short film, whose encode is over before pictures far behind one are decoded.
    """
    films = compare.can_compare_pictures(options, source, output, part.seconds)
    sounds = bool(source.audio and output.audio and not source.audio.counted)
    several = source.video is not None and 0 < source.video.gap < SEVERAL_KEYS * part.seconds
    asked = _look(source, part.moments(), part.places(part.start), part.start, films=films, sounds=sounds)
    return asked | {"keys": several and (by_keys or part.seconds <= SHORT_SECONDS)}


async def _in_order(file: Path, source: Media, moments: list[float], *, budget: float) -> dict[str, Any]:
    """The source's pictures at these moments, without a seek; none where that takes too long."""
    assert source.video is not None
    film = source.video
    about = {"video": film.index, "crop": film.crop, "turn": film.rotation, "late": film.late}
    found = await prober.looks(file, in_order=True, moments=moments, budget=budget, **about)
    return found or {"pictures": []}


def _look(
    media: Media,
    moments: list[float],
    places: list[tuple[float, float]],
    start: float,
    *,
    films: bool,
    sounds: bool,
) -> dict[str, Any]:
    return {
        "video": media.video.index if films and media.video else None,
        "audio": media.audio.index if sounds and media.audio else None,
        "moments": moments,
        "places": places,
        "around": 0.0,
        "keys": False,
        "start": start,
        "crop": media.video.crop if media.video else [],
        "late": media.video.late if media.video else 0.0,
        "turn": media.video.rotation if media.video else 0,
    }


async def _looks(
    file: Path, asked: dict[str, Any], budget: float, *, output: bool = False
) -> dict[str, Any] | None:
    """What a file shows and lets hear; None where it can't be read, or nothing is asked.

    An *output* may be a stream; a source is one file, whatever its name ends in.
    """
    if asked["video"] is None and asked["audio"] is None:
        return None
    look = segments.look if output and file.suffix == segments.PLAYLIST else prober.looks
    return await look(file, **asked, budget=budget)


async def read_file(target: Path, copied: bool) -> Media:
    """One file, as the prober sees it. Raises TaskError."""
    return await prober.probe(target)


async def read_video(target: Path, copied: bool) -> Media:
    """One film; a copy counts as decodable only where it is all over. Raises TaskError."""
    # its keyframes, too: the next task on it needs to know them
    media = await prober.probe(target, "--gap", "--heard", *(["--whole"] if copied else []))
    video = media.video
    if video is not None and not video.whole:
        return replace(media, video=replace(video, decodes=False))
    return media


async def read_animation(target: Path, copied: bool) -> Media:
    """An animation; a moving WebP is decoded by FFmpeg itself, as the prober reads only its chunks."""
    media = await prober.probe(target)
    if media.format != "webp_anim":
        return media
    check = [*HEAD, "-protocol_whitelist", "file", "-f", "webp_anim", "-i", f"file:{target}"]
    null = target.with_name("null")
    ended = await encode.ffmpeg(
        check, null, ["-f", "null"], source=target, progress=Progress(0, 0, lambda *_: None)
    )
    encode.check_exit(ended)
    return media if ended.frames else replace(media, video=None)
