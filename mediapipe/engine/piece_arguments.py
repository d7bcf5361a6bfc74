"""FFmpeg's arguments for a film's pieces, for its sound beside them, and for the join of all. Pure.

Where a film is cut is said by pieces.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from mediapipe.engine.arguments import HEAD, NO_METADATA, Plan, input_arguments, trim
from mediapipe.engine.colours import copied_tags
from mediapipe.engine.media import Media
from mediapipe.engine.pieces import GRID, STREAMS, Piece, encoder_of
from mediapipe.engine.plan import EVEN_KEYS, SEGMENTS, of_rendition, two_renditions
from mediapipe.engine.seams import ROUNDED
from mediapipe.engine.sound import sound_arguments
from mediapipe.validators import Options

STREAM_MARGIN = 1.0  # seconds before a keyframe to which a seek leads where there is no index
HALF_A_PICTURE = 0.005  # seconds: less than between two pictures
OF_SEVERAL = ("bwdif", "fps=", "tpad")  # filters that look at pictures before and behind
EXACT = 0.0005  # seconds: less than between two pictures, and more than FFmpeg rounds
SHOWN = re.compile(r"showinfo.* pts_time:(\S+) .*checksum:(\w+)")
LOGGED = ("-v", "level+info")  # else nobody hears of sums
JOINED = ("-protocol_whitelist", "file", "-format_whitelist", "concat,mov,matroska")
EXACT_TIMES = ("-avoid_negative_ts", "disabled", "-movie_timescale", "1000000")  # times to the microsecond


def picture_arguments(plan: Plan, options: Options, media: Media, path: str, piece: Piece) -> list[str]:
    """The arguments that encode a piece, with its times in the film: all renditions of it at once."""
    video = media.video
    assert video is not None
    settings = [_of_piece(encoder_of(each), options, piece) for each in plan.encodes]
    settings[0] = _with_joints(settings[0], piece, video.fps)
    if len(settings) > 1:
        settings = [of_rendition(number, each) for number, each in enumerate(settings)]
    tracks = [*["-map", f"0:{video.index}"] * len(settings), "-an", "-sn", "-dn"]
    opened = [*HEAD, *_opened(media, path, piece)]
    return [*opened, *LOGGED, *tracks, *NO_METADATA, *chain.from_iterable(settings), *EXACT_TIMES]


def _opened(media: Media, path: str, piece: Piece) -> list[str]:
    """The arguments that open the source at the place from which it is read, with the output's clock.

    Without an index a seek leads somewhere before it, and what lies between isn't decoded.
    """
    before = ["-copyts", "-itsoffset", f"{-piece.origin}us", "-noaccurate_seek"]
    if piece.read is None:
        return [*before, *input_arguments(path, media)]
    streams = media.format in STREAMS
    place = piece.read + piece.origin / 1e6 - media.start - (STREAM_MARGIN if streams else 0)
    before += ["-ss", f"{place:.3f}"] if place > 0 else []
    skipped = f"noise=drop='lt(dts*tb,{piece.read - HALF_A_PICTURE:.6f})'" if streams else ""
    return [*before, *input_arguments(path, media, first=skipped)]


def _of_piece(settings: list[str], options: Options, piece: Piece) -> list[str]:
    """An encoder's arguments for a piece; what makes a picture of several needs those beside it."""
    changed = list(settings)
    keys = changed.index("-force_key_frames") + 1
    if changed[keys] == EVEN_KEYS:
        changed[keys] = f"expr:gte(t,n_forced*{GRID}-{piece.late + ROUNDED:.6f})"
    at = changed.index("-vf") + 1
    filters = changed[at].split(",")
    if piece.start or piece.end:
        spans = [f"start={piece.start:.6f}"] if piece.start else []
        spans += [f"end={piece.end:.6f}"] if piece.end else []
        several = [place for place, each in enumerate(filters, start=1) if each.startswith(OF_SEVERAL)]
        filters.insert(max(several, default=0), f"trim={':'.join(spans)}")
    changed[at] = ",".join([*(["trim=start=0"] if "start" in options else []), *filters])
    return changed


def _with_joints(settings: list[str], piece: Piece, fps: float) -> list[str]:
    """The same, and FFmpeg says sums of the piece's first picture, and of the one behind its last.

    These are no output of their own: FFmpeg may stand still where several end at different times. Behind them
    it decodes no further: else it would for as long as the encoder has pictures to write.
    """
    shown = [f"lt(abs(t-{at:.6f}),{EXACT})" for at in (piece.joint, piece.next_joint) if at]
    if not shown:
        return settings
    joints = f"split[joints][film];[joints]select='{'+'.join(shown)}',showinfo,nullsink;[film]"
    at = settings.index("-vf") + 1
    several = any(each.startswith(OF_SEVERAL) for each in settings[at].split(","))
    if piece.next_joint and not several:
        joints = f"trim=end={piece.next_joint + 1 / fps:.6f},{joints}"
    return [*settings[:at], joints + settings[at], *settings[at + 1 :]]


class Joints:
    """Hears from FFmpeg what a decoder made of a piece's first picture, and of the one behind its last."""

    def __init__(self, piece: Piece) -> None:
        self.piece = piece
        self.first = ""
        self.next = ""

    def hear(self, line: str) -> None:
        """One line of its log."""
        if said := SHOWN.search(line):
            if abs(float(said[1]) - self.piece.joint) < 2 * EXACT:
                self.first = said[2]
            elif abs(float(said[1]) - self.piece.next_joint) < 2 * EXACT:
                self.next = said[2]


def sound_of(options: Options, media: Media, path: str) -> list[str]:
    """The arguments for the sound alone, with its times in the film."""
    assert media.audio is not None
    tracks = ["-map", f"0:{media.audio.index}", "-vn", "-sn", "-dn"]
    settings = sound_arguments(options, media, str(options["format"]))
    seek, limit, _ = trim(media.duration, options)
    opened = [*HEAD, *input_arguments(path, media, seek), *tracks, *limit]
    return [*opened, *NO_METADATA, *settings, "-movie_timescale", "1000000"]


def watched_picture(options: Options, media: Media) -> list[str]:
    """The arguments for a further output, of nothing, that has the picture's packets read beside the sound.

    Where a clock begins, and where a seek leads, depends on which tracks are taken.
    """
    assert media.video is not None
    if media.is_mp4:  # of which each track is read for itself
        return []
    _, limit, _ = trim(media.duration, options)
    return ["-map", f"0:{media.video.index}", "-c", "copy", *limit, "-f", "null", "-"]


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
