"""FFmpeg's arguments for a film's pieces, for its sound beside them, and for the join of all. Pure.

Where a film is cut is said by pieces.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from mediapipe.engine.arguments import HEAD, NO_METADATA, Plan, input_arguments
from mediapipe.engine.colours import copied_tags
from mediapipe.engine.media import Media
from mediapipe.engine.pieces import GRID, Piece, encoder_of
from mediapipe.engine.plan import EVEN_KEYS, SEGMENTS, of_rendition, two_renditions
from mediapipe.engine.sound import sound_arguments
from mediapipe.validators import Options

LEAD_IN = 1.0  # seconds before a piece from which its source is read: pictures are stored in another order
JOINED = ("-protocol_whitelist", "file", "-format_whitelist", "concat,mov,matroska")
EXACT_TIMES = ("-avoid_negative_ts", "disabled", "-movie_timescale", "1000000")  # times to the microsecond


def picture_arguments(plan: Plan, media: Media, path: str, piece: Piece) -> list[str]:
    """The arguments that encode a piece, with its times in the film: all renditions of it at once."""
    video = media.video
    assert video is not None
    settings = [_of_piece(encoder_of(video, each), piece) for each in plan.encodes]
    if len(settings) > 1:
        settings = [of_rendition(number, each) for number, each in enumerate(settings)]
    before = ["-copyts", "-start_at_zero", "-noaccurate_seek"]
    before += ["-ss", f"{piece.start - LEAD_IN:.3f}"] if piece.start > LEAD_IN else []
    opened = input_arguments(path, media)
    tracks = [*["-map", f"0:{video.index}"] * len(settings), "-an", "-sn", "-dn"]
    return [*HEAD, *before, *opened, *tracks, *NO_METADATA, *chain.from_iterable(settings), *EXACT_TIMES]


def _of_piece(settings: list[str], piece: Piece) -> list[str]:
    """An encoder's arguments for a piece; what deinterlaces needs the pictures beside it."""
    changed = list(settings)
    keys = changed.index("-force_key_frames") + 1
    if changed[keys] == EVEN_KEYS:
        changed[keys] = f"expr:gte(t,n_forced*{GRID}-{piece.late:.6f})"
    if piece.start or piece.end:
        at = changed.index("-vf") + 1
        filters = changed[at].split(",")
        span = f"trim=start={piece.start:.6f}" + (f":end={piece.end:.6f}" if piece.end else "")
        filters.insert(filters[0].startswith("bwdif"), span)
        changed[at] = ",".join(filters)
    return changed


def sound_of(options: Options, media: Media, path: str) -> list[str]:
    """The arguments for the sound alone, with its times in the film."""
    assert media.audio is not None
    tracks = ["-map", f"0:{media.audio.index}", "-vn", "-sn", "-dn"]
    settings = sound_arguments(options, media, str(options["format"]))
    return [
        *HEAD,
        *input_arguments(path, media),
        *tracks,
        *NO_METADATA,
        *settings,
        "-movie_timescale",
        "1000000",
    ]


def playlist(pieces: Sequence[Piece], starts: Sequence[int]) -> str:
    """The list by which FFmpeg's concat joins pieces; *starts*: of each, in microseconds of the film.

    Each one's place is where it says itself that it begins, so that no time is moved.
    """
    lines = ["ffconcat version 1.0"]
    for piece, begins, following in zip(pieces, starts, [*starts[1:], None], strict=True):
        lines.append(f"file {piece.name}")
        lines += [f"duration {following - begins}us"] if following is not None else []
    return "\n".join(lines) + "\n"


def join_arguments(
    plan: Plan, media: Media, path: str, listed: str, sound: str | None, begins: int
) -> list[str]:
    """The arguments that join the pieces of a list, and the sound beside them, without encoding.

    *path*: of the source, of which the first rendition may be a copy; *begins*: the microseconds at which its
    picture does.
    """
    video = media.video
    assert video is not None
    inputs = ["-itsoffset", f"{begins}us", *JOINED, "-f", "concat", "-safe", "0", "-i", f"file:{listed}"]
    inputs += ["-protocol_whitelist", "file", "-i", f"file:{sound}"] if sound else []
    pictures = [f"0:v:{number}" for number in range(len(plan.encodes))]
    if plan.copied:
        inputs += input_arguments(path, media)
        pictures.insert(0, f"{2 if sound else 1}:{video.index}")
    heard = ["-map", "1:a"] if sound else []
    tracks = [part for each in pictures for part in ("-map", each, *heard)]
    copied = ["-c", "copy", *(copied_tags(video, ":0") if plan.copied else [])]
    return [*HEAD, "-copyts", *inputs, *tracks, *NO_METADATA, *copied, *_muxer(plan, bool(sound))]


def _muxer(plan: Plan, sound: bool) -> list[str]:
    if plan.muxer == "hls":
        several = len(plan.encodes) + plan.copied > 1
        return two_renditions(sound=sound) if several else [*SEGMENTS]
    own = ["-disposition:v", "default"] if plan.muxer == "webm" else ["-movflags", "+faststart"]
    return ["-avoid_negative_ts", "disabled", *own]
