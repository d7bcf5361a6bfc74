"""What a probe found, as types: tracks, sizes, lengths. Pure: it knows no file and no process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mediapipe.engine import tracks
from mediapipe.engine.containers import READING
from mediapipe.engine.errors import (
    CONSTANT_HDR,
    CONVERT,
    DOLBY_ALONE,
    GOES_ON,
    NO_AUDIO,
    NO_VIDEO,
    PARTS,
    PICTURE_BROKEN,
    PICTURE_UNKNOWN,
    SOUND_UNKNOWN,
    TOO_MANY_PIXELS,
    UNKNOWN_CODEC,
    TaskError,
    from_reader,
)
from mediapipe.engine.probe import MAX_PIXELS

OF_THE_WHOLE = {"parts": PARTS, "goes_on": GOES_ON}  # what probe.py notes, and what is said of it
LONGEST_TURN = 10.0  # seconds of a picture that is one of many
MAX_DURATION = 24 * 3600
HDR = (16, 18)  # PQ, HLG
BT709 = 1  # of a colour matrix, as H.273 counts
CONSTANT = (10, 13)  # with constant luminance: zscale knows BT.709’s transfer in them alone
UNSPECIFIED = 2
UNSPECIFIED_VALUES = (0, UNSPECIFIED, 3)  # and reserved; as a matrix 0 is RGB's


@dataclass(frozen=True)
class Video:
    """A picture track. *width* and *height* as stored, without what is cropped; *rotation* in degrees."""

    index: int
    codec: str
    width: int
    height: int
    profile: str = ""
    sar: float = 1.0
    rotation: int = 0
    mirrored: bool = False
    slanted: bool = False  # whether its file wants it turned by less than a quarter, which nobody does
    says_turn: bool = False  # whether its pictures say themselves how they are turned
    pix_fmt: str = "yuv420p"
    fps: float = 0.0
    uneven: bool = False  # whether pictures follow each other faster than that in places,
    pace: float = 0.0  # and at which rate they do there; 0 where nobody knows
    stands: float = 0.0  # seconds between two pictures, the longest
    missing: float = 0.0  # seconds in which others would have come at its rate
    steady: float = 0.0  # pictures a second of an encode; 0: as they come
    misrated: bool = False  # whether its file says a rate that no film has, and that each stands so short
    frames: int = 0
    duration: float = 0.0
    transfer: int = 0
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    interlaced: bool = False
    fields: str = ""  # whose lines come first, tff or bff, where its container says it and its pictures don't
    alpha: bool = False
    gap: float = 86400.0
    cover: bool = False
    tiled: bool = False  # a HEIF picture: FFmpeg puts its tiles together when no track is named
    decodes: bool = False
    whole: bool = True  # whether what was tried of it all over decodes
    begins: float = 0.0  # in seconds from the file's start; 0 where the file doesn't say
    end: float = 0.0  # as well
    waits: bool = False  # whether its first picture is to be shown from the file's start on
    level: int = 0
    reorders: bool = False  # whether its pictures are stored in another order than shown
    discarded: int = 0  # packets that an edit list cuts out
    held: float = 0.0  # seconds that its last picture stays beyond its turn,
    lost: float = 0.0  # and those of them that decoders don’t know
    stays: float = 0.0  # seconds that it is shown, where it is held,
    unheld: bool = False  # and whether its packets' own word for that is not to be taken
    outlasted: float = 0.0  # seconds for which it is to be held besides, because its sound goes on
    # seconds that decoders show its pictures late, where nothing says but how they are stored
    late: float = 0.0
    # which take its clock's jumps out: packets, by storing and by showing, and ticks
    shifts: list[list[int]] = field(default_factory=list)
    far: int = 0  # ticks between storing and showing that are a mistake; 0 where none makes it
    crop: list[int] = field(
        default_factory=list
    )  # pixels that the container cuts off: left, top, right, bottom

    @property
    def shown(self) -> tuple[float, float]:
        """Width and height as a person sees them: square pixels, upright."""
        sar = self.sar if 0.1 <= self.sar <= 10 else 1.0  # beyond that it is damage, not a format
        width = self.width * sar
        height = float(self.height)
        return (height, width) if self.rotation % 180 == 90 else (width, height)

    @property
    def hdr(self) -> bool:
        """Whether it must be tone-mapped for ordinary screens."""
        return self.transfer in HDR


@dataclass(frozen=True)
class Audio:
    """A sound track."""

    index: int
    codec: str
    channels: int = 2
    places: list[str] = field(default_factory=list)  # of the channels, as FFmpeg names them; NONE is unknown
    rate: int = 48000
    profile: str = ""
    duration: float = 0.0
    end: float = 0.0
    discarded: int = 0
    missing: float = 0.0  # seconds that its clock counts and its packets haven’t: holes
    changes: bool = False  # whether it becomes another in the middle: other channels, another rate
    shifts: list[list[int]] = field(default_factory=list)
    counted: int = 0  # ticks that each packet lasts, where they say the same times again and again
    whole: bool = True  # whether what was tried of it all over decodes


@dataclass(frozen=True)
class Media:
    """A probed file. *duration* in seconds, 0 where unknown."""

    format: str = ""
    duration: float = 0.0
    start: float = 0.0
    size: int = 0
    bit_rate: int = 0
    video: Video | None = None
    audio: Audio | None = None
    undecodable: list[str] = field(default_factory=list)
    guessed: bool = False  # the duration, by the first bit rates; no moment can be looked up by it
    reading: tuple[str, ...] = ()  # the options by which FFmpeg reads all of it (containers.READING)
    jumps: bool = False  # whether its clock does, so that no seek leads anywhere
    tags: int = 0  # in the middle of an MP3, which a decoder takes for sound that is damaged
    notes: list[str] = field(default_factory=list)  # what was left out of it, for an editor
    no_picture: str = NO_VIDEO  # why there is none, where there is none
    no_sound: str = NO_AUDIO

    @property
    def is_mp4(self) -> bool:
        """Whether it is MP4, MOV or one of their kin."""
        return self.format.startswith("mov")

    def leeway(self, seconds: float) -> float:
        """By how many of so many *seconds* its output may be longer or shorter, and be whole.

        Where it has a picture every few seconds its container may not say for how long the last one stays.
        """
        pace = self.video.pace if self.video else 0.0
        return max(0.5, 0.02 * seconds, min(LONGEST_TURN, 1 / pace) if pace else 0.0)

    @property
    def is_still(self) -> bool:
        """Whether there is one picture only: a photo, a cover, a single frame."""
        video = self.video
        if video is None:
            return False
        return video.cover or video.tiled or video.frames == 1 or (video.duration or self.duration) <= 0.1


def _fields(kind: type, facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in kind.__dataclass_fields__ if name in facts}  # type: ignore[attr-defined]


def media_from_probe(found: dict[str, Any]) -> Media:
    """The tracks to work on, from the object that probe.py prints. Raises TaskError."""
    if found.get("protected"):
        raise TaskError("protected", "This file is copy-protected. Upload an unprotected copy.")
    if "error" in found:
        begins = {name: bool(found.get(name)) for name in ("is_iso", "is_media")}
        raise from_reader(str(found["error"]), **begins)
    streams: list[dict[str, Any]] = found.get("streams", [])
    film = tracks.picture(streams)
    sound = tracks.sound(streams, film)
    notes = [text for name, text in OF_THE_WHOLE.items() if found.get(name)]
    notes += tracks.left_out(streams, film, sound)
    if film is not None and film.get("undecodable") and sound is not None and not sound.get("undecodable"):
        film = None
    said = _undecodable(streams, film, sound)
    if film is not None and film["width"] * film["height"] > MAX_PIXELS:
        raise TaskError("too_large", TOO_MANY_PIXELS)
    video = _video(film)
    audio = Audio(**_fields(Audio, sound)) if sound else None
    notes += [*_left_without(said, film, sound), *_other_colours(film if video else None)]
    media = Media(
        format=str(found.get("format", "")),
        duration=length(found, video, audio) or (video.duration if video else 0),
        start=float(found.get("start") or 0),
        size=int(found.get("size") or 0),
        bit_rate=int(found.get("bit_rate") or 0),
        video=video,
        audio=audio,
        undecodable=[s["type"] for s in streams if _is_unknown(s)],
        no_picture=said.get("video", NO_VIDEO),
        no_sound=said.get("audio", NO_AUDIO),
        guessed=bool(found.get("guessed")),
        reading=tuple(name for name in READING if name in found.get("reading", ())),
        jumps=bool(found.get("jumps")),
        tags=int(found.get("tags") or 0),
        notes=notes,
    )
    check_limits(media)
    return media


def _is_unknown(track: dict[str, Any]) -> bool:
    return track["type"] in ("video", "audio") and not track["codec"]


def _undecodable(
    streams: list[dict[str, Any]], film: dict[str, Any] | None, sound: dict[str, Any] | None
) -> dict[str, str]:
    """Why the file has no picture, or no sound, where a track of it can't be decoded."""
    unknown = {s["type"] for s in streams if _is_unknown(s)}
    said = {}
    if film is None and "video" in unknown:
        said["video"] = f"{PICTURE_UNKNOWN}. {CONVERT}"
    elif film is None and any(s.get("undecodable") for s in streams if s["type"] == "video"):
        said["video"] = f"{PICTURE_BROKEN}. {CONVERT}"
    if sound is None and "audio" in unknown:
        said["audio"] = f"{SOUND_UNKNOWN}. {CONVERT}"
    return said


def _left_without(
    said: dict[str, str], film: dict[str, Any] | None, sound: dict[str, Any] | None
) -> list[str]:
    """What to say to somebody who gets the rest."""
    beside = {"video": (sound, "only the sound was processed"), "audio": (film, "the result is silent")}
    kept = [(text, *beside[kind]) for kind, text in said.items()]
    return [f"{text.removesuffix(f'. {CONVERT}')}, so {result}." for text, other, result in kept if other]


def _other_colours(film: dict[str, Any] | None) -> list[str]:
    """What to say of colours that can’t be converted truly."""
    if film and film.get("dolby"):
        return [DOLBY_ALONE]
    hdr = film and film.get("transfer") in HDR and film.get("matrix") in CONSTANT
    return [CONSTANT_HDR] if hdr else []


def _video(film: dict[str, Any] | None) -> Video | None:
    if film is None or min(film["width"], film["height"]) <= 0:
        return None
    return Video(**_fields(Video, film), cover=bool(film["disposition"] & tracks.NO_FILM))


def length(found: dict[str, Any], video: Video | None, audio: Audio | None) -> float:
    """How long the file is by the tracks that are taken, where others could tell another length."""
    whole = float(found.get("duration") or 0)
    ends = [track.end for track in (video, audio) if track and not (track is video and video.cover)]
    others = len(found.get("streams", [])) > len(ends)
    return max(ends) if others and ends and all(ends) else whole


def check_limits(media: Media) -> None:
    """Raises TaskError for a file without a track to work on, and for one of more than a day."""
    if media.video is None and media.audio is None:
        if media.undecodable:
            sound = "video" not in media.undecodable
            raise TaskError("unsupported", f"{SOUND_UNKNOWN}. {CONVERT}" if sound else UNKNOWN_CODEC)
        raise TaskError("invalid_input", "The file has no video and no audio track.")
    if media.duration > MAX_DURATION:
        hours = MAX_DURATION // 3600
        raise TaskError("too_large", f"The file is longer than {hours} hours, which is the limit here.")
