"""Whether an output is what its source is: the same pictures, shape, moments and sound. Pure.

It judges what looks.py saw of both files, and knows neither files nor processes (docs/engine.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mediapipe.engine.arguments import has_alpha, output_size
from mediapipe.engine.clock import FASTEST
from mediapipe.engine.errors import TaskError
from mediapipe.engine.looks import BIN, SIDE
from mediapipe.engine.media import Media, Video
from mediapipe.engine.plan import MAX_LEVEL, PLAYED
from mediapipe.engine.timecode import timecode
from mediapipe.validators import Options

MOMENTS = (0.5, 0.9, 0.02, 0.3, 0.7)  # of the output's length, the most telling first
SHORT_SECONDS = 5.0  # of a film of which SHORT_MOMENTS are enough
SHORT_MOMENTS = 3
SOUND_PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
SEARCH_WINDOW = 0.15  # seconds about a moment in which its picture is looked for
SOUND_WINDOW = 0.8  # seconds of sound at each place
BEGINNING = 2.0  # seconds of sound at the start
OUT_OF_STEP = 0.3  # seconds by which an output's sound may be longer or shorter than its clock says
MAX_SOUND_SHIFT = 0.15  # seconds by which sound may begin otherwise
MIN_CORRELATION = 0.85  # correlation of two pictures
MIN_LOOSE_CORRELATION = 0.6  # and where they are of other moments by part of a second, or tone-mapped
MAX_FLAT_SPREAD = 8.0  # spread of grey below which a picture has nothing to correlate
MAX_LUMA_SHIFT = 48.0  # of 255: how much lighter or darker a flat picture may be
HEARD = 0.01  # of full scale
SILENT = 0.0005


@dataclass(frozen=True)
class Difference:
    """What differs, for a person; *grave*: such an output is not handed over."""

    sentence: str
    grave: bool = False
    of_pictures: bool = False  # seen in pictures, and not known from a file's facts


@dataclass(frozen=True)
class Part:
    """The part of a source that its output shows, in seconds on the source's own clock."""

    start: float
    seconds: float

    def moments(self) -> list[float]:
        """Where to look in the source."""
        moments = MOMENTS[:SHORT_MOMENTS] if 0 < self.seconds <= SHORT_SECONDS else MOMENTS
        return [self.start + share * self.seconds for share in moments]

    def places(self, begins: float) -> list[tuple[float, float]]:
        """Where to listen in a file that *begins* there, how long: not beyond the end, where echoes are."""
        last = self.seconds - SOUND_WINDOW
        later = [min(share * self.seconds, last) for share in SOUND_PLACES if self.seconds > BEGINNING]
        short = [(at, SOUND_WINDOW) for at in dict.fromkeys(later) if at + SOUND_WINDOW > BEGINNING]
        whole = [(0.0, min(BEGINNING, max(SOUND_WINDOW, self.seconds))), *short]
        return [(begins + at, seconds) for at, seconds in whole]


Pictures = list[list[tuple[float, str]] | None]  # None: not looked at


def pictures(
    source: Pictures, output: Pictures, *, offset: float, roughly: bool, flipped: bool
) -> list[Difference]:
    """The moments at which the output shows something else; one alone of several may be a cut.

    *offset*: what the source's clock shows at its beginning.
    """
    other: list[float] = []
    compared = 0
    for theirs, ours in zip(source, output, strict=False):
        if not theirs or ours is None:
            continue
        compared += 1
        at, dots = theirs[0]
        wanted = bytes.fromhex(dots)
        variants = _mirrored(wanted) if flipped else [wanted]
        if not any(
            is_alike(each, bytes.fromhex(seen), roughly=roughly) for each in variants for _, seen in ours
        ):
            other.append(max(0.0, at - offset))
    if not other or (len(other) == 1 and compared > 2):
        return []
    places = ", ".join(timecode(at) for at in sorted(other))
    return [
        Difference(
            f"The result doesn’t show what the source shows at {places}.", grave=True, of_pictures=True
        )
    ]


def _mirrored(dots: bytes) -> list[bytes]:
    rows = [dots[at : at + SIDE] for at in range(0, len(dots), SIDE)]
    return [dots, b"".join(row[::-1] for row in rows), b"".join(rows[::-1]), dots[::-1]]


def is_alike(one: bytes, other: bytes, *, roughly: bool = False) -> bool:
    """Whether two small grey pictures show the same; *roughly*: their lightness may be another."""
    mean, spread = _measure(one)
    other_mean, other_spread = _measure(other)
    if max(spread, other_spread) < MAX_FLAT_SPREAD:
        return roughly or abs(mean - other_mean) <= MAX_LUMA_SHIFT
    if not spread or not other_spread:
        return False
    together = sum((a - mean) * (b - other_mean) for a, b in zip(one, other, strict=True)) / len(one)
    return together / (spread * other_spread) >= (MIN_LOOSE_CORRELATION if roughly else MIN_CORRELATION)


def _measure(dots: Sequence[int]) -> tuple[float, float]:
    mean = sum(dots) / len(dots)
    return mean, (sum((dot - mean) ** 2 for dot in dots) / len(dots)) ** 0.5


def distinct(pictures: Pictures) -> list[list[tuple[float, str]]]:
    """Of pictures that lie close together, or of none, the first alone."""
    kept: list[list[tuple[float, str]]] = []
    for each in pictures:
        if each and all(abs(each[0][0] - other[0][0]) > SEARCH_WINDOW for other in kept):
            kept.append(each)
    return kept


def sound(source: list[Any], output: list[Any], *, bass: float = 0.0) -> list[Difference]:
    """Where the output is silent and the source heard, or the other way round, and where it begins.

    *bass*: how loud the source's bass channel is, which is no part of stereo.
    """
    # a place where the source yields nothing is unknown: its clock may have jumped
    pairs = [(a, b) for a, b in zip(source, output, strict=False) if a and b is not None]
    heard = [(a, b) for a, b in pairs if max(a[3:-3], default=0.0) > HEARD]
    lost = [a for a, b in heard if max(b, default=0.0) <= SILENT]
    quiet = [(a, b) for a, b in pairs if max(a, default=1.0) <= SILENT]
    added = [a for a, b in quiet if max(b[3:-3], default=0.0) > HEARD]
    found = []
    if lost and len(lost) == len(heard):
        found.append(Difference("The source’s sound can’t be heard in the result.", grave=len(lost) > 2))
    elif len(lost) > 1:
        found.append(Difference("Some of the source’s sound can’t be heard in the result. Listen to it."))
    if len(added) > 1:
        found.append(Difference("Something is heard in the result where the source is silent. Listen to it."))
    if pairs and not heard and bass > HEARD:
        found.append(
            Difference("The only sound is in the bass channel, which stereo hasn’t. It can’t be heard.")
        )
    if pairs and not found and source[0] and output[0]:
        found += _beginning(source[0], output[0])
    return found


def _beginning(source: list[float], output: list[float]) -> list[Difference]:
    """Where both begin with a silence, whether it is as long."""
    first, ours = (next((at for at, peak in enumerate(a) if peak > HEARD), None) for a in (source, output))
    if first is None or ours is None or max(source[: max(0, first - 1)], default=0.0) > SILENT:
        return []
    late = (ours - first) * BIN
    if abs(late) <= MAX_SOUND_SHIFT:
        return []
    how = "late" if late > 0 else "early"
    return [Difference(f"The sound begins about {abs(late):.1f} s too {how} in the result.")]


def form(
    options: Options, source: Media, output: Media, *, copied: bool, first: bool | None
) -> list[Difference]:
    """What of shape and of what players need isn't as it should be."""
    found: list[Difference] = []
    if source.video is None or output.video is None:
        return found
    wanted = _wanted_shape(source.video, options, copied=copied)
    shown = output.video.shown
    by = 2.5 / min(*wanted, *shown)
    if abs((shown[0] / shown[1]) / (wanted[0] / wanted[1]) - 1) > by:
        found.append(Difference("The result hasn’t the shape of the source.", grave=True))
    if output.video.hdr:
        found.append(Difference("The result is marked as HDR, which it isn’t; its colours may look wrong."))
    if output.video.codec == "h264":
        plays = output.video.profile in PLAYED and output.video.level <= MAX_LEVEL
        if not plays or output.video.pix_fmt not in ("yuv420p", "yuvj420p"):
            found.append(Difference("Some players may refuse the result’s kind of H.264."))
    if first is False:
        found.append(Difference("The result begins to play only once it is loaded whole."))
    return found


def _wanted_shape(video: Video, options: Options, *, copied: bool) -> tuple[float, float]:
    if copied or not {"width", "height"} <= set(options):
        return video.shown
    width, height, tail = output_size(video, options)
    if tail:  # crop=w:h… or pad=w:h…
        width, height = (int(each) for each in tail.split("=")[1].split(":")[:2])
    return width, height


def length(
    options: Options, source: Media, output: Media, seconds: float, *, copied: bool
) -> list[Difference]:
    """Whether it is too long, or pictures are missing, by the tracks that were taken."""
    found = []
    over = output.duration - seconds
    longer = seconds and over > source.leeway(seconds) and not source.guessed
    if longer and output.video:
        found.append(Difference("The result is longer than the source."))
    # FFmpeg may put silence where a sound changes its kind, and count as if it hadn't
    if (longer and not output.video) or (output.audio and abs(output.audio.missing) > OUT_OF_STEP):
        found.append(Difference("The result’s sound isn’t as long as it says.", grave=True))
    video = source.video
    made = output.video
    if video is None or made is None or {"fps", "start", "end"} & set(options) or video.fps > FASTEST:
        return found
    few = made.frames < video.frames * (0.98 if copied else 0.8) - 2
    if made.frames and few and seconds - output.duration < source.leeway(seconds):
        found.append(_few(made.frames, video.frames))
    return found


def _few(made: int, wanted: int) -> Difference:
    return Difference(
        f"The source has {wanted} pictures by its own account, the result {made}. Look for gaps."
    )


def dropped(left_out: int, kept: int, *, known: Video | None) -> list[Difference]:
    """Whether an encode left out pictures of a film that doesn't say how many it has."""
    if known is None or known.frames or left_out <= 0.2 * (left_out + kept) + 2:
        return []
    return [_few(kept, left_out + kept)]


def can_compare_pictures(options: Options, source: Media, output: Media, seconds: float) -> bool:
    """Whether moments of both belong together: a film of known length that is shown whole."""
    video = source.video
    if video is None or output.video is None or source.is_still or has_alpha(video):
        return False
    framed = {"width", "height"} <= set(options) and options.get("fit", "contain") != "fill"
    return not framed and not source.guessed and abs(output.duration - seconds) <= source.leeway(seconds)


def as_warnings(differences: list[Difference]) -> list[Difference]:
    """The same, none of them grave: of damaged sources two decoders may make different things."""
    return [replace(each, grave=False) for each in differences]


def verdict(
    options: Options,
    medias: tuple[Media, Media],
    looks: tuple[dict[str, Any], dict[str, Any]],
    *,
    part: Part,
    offset: float,
    copied: bool,
) -> list[Difference]:
    """All that differs between source and output, by their facts and by what was seen and heard of both."""
    source, output = medias
    seen, made = looks
    found = form(options, source, output, copied=copied, first=made["first"])
    found += length(options, source, output, part.seconds, copied=copied)
    if not made["rise"]:
        found.append(Difference("The result’s pictures don’t follow each other in time.", grave=True))
    if made["misled"]:
        found.append(Difference("Players may not find places in the result."))
    if made["resized"] or (copied and seen["resized"]):
        found.append(Difference("The result’s pictures change their size, which some players can’t show."))
    roughly = "fps" in options or (source.video is not None and (source.video.hdr or bool(source.video.crop)))
    found += pictures(
        seen["pictures"], made["pictures"], offset=offset, roughly=roughly, flipped=seen["flipped"]
    )
    return found + sound(seen["sound"], made["sound"], bass=seen["bass"])


def instead(
    differences: list[Difference], tries: list[list[str]], plain: list[str] | None, *, copied: bool
) -> list[list[str]]:
    """What to try in place of an output that differs from its source; nothing where it is kept.

    *tries*: the one that made it and those after it. Raises TaskError where it may neither be kept nor made
    another way.
    """
    grave = [each.sentence for each in differences if each.grave]
    if copied and differences:
        return tries[1:]
    if grave and plain and tries[0] is not plain:
        return [plain]
    if grave:
        raise TaskError("internal_error", f"{grave[0]} It was not kept.")
    return []
