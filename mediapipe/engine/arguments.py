"""The pieces of FFmpeg's argument lists that every plan is built from: inputs, sizes, filters. Pure.

The figures behind the choices (presets, quality tables, filters) are in docs/engine.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from mediapipe.engine.clock import FASTEST
from mediapipe.engine.colours import (
    STILLS,
    conversion,
    matrix,
    tags,
    to_sdr,
    understood,
    untagged,
)
from mediapipe.engine.containers import READING
from mediapipe.engine.errors import TaskError
from mediapipe.engine.media import Media, Video
from mediapipe.engine.packets import MOMENT, packet_filters
from mediapipe.engine.probe import DEMUXERS, MAX_PIXELS, NAMED
from mediapipe.validators import Options, Value

HEAD = (
    "-nostdin",
    "-hide_banner",
    "-v",
    "level+warning",
    "-nostats",
    "-progress",
    "pipe:1",
    "-stats_period",
    "0.5",
    "-max_error_rate",  # damage is counted by us (encode.check_exit), and never ends a run half-way
    "1",
)
GUARD = (  # what may be opened, and how much of it
    "-protocol_whitelist",
    "file",
    "-format_whitelist",
    DEMUXERS,
    "-max_streams",
    "64",
    "-max_pixels",
    str(MAX_PIXELS),
)
NO_METADATA = ("-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact")
LONGEST_SIDE = 3840


@dataclass(frozen=True)
class RenditionPlan:
    """A picture that is encoded: by which options, with their format, and where its keyframes are."""

    options: Options
    keys: str
    video: Video  # the source's, as it was planned for


@dataclass(frozen=True)
class Plan:
    """What to run: *tries* are FFmpeg's arguments without the output; the first that works wins."""

    tries: list[list[str]]
    muxer: str
    extension: str
    seconds: float = 0.0  # how long the output should be; 0: not known, or a picture
    frames: float = 0.0  # how many it should have; 0: not known
    wants_video: bool = False
    wants_audio: bool = False
    plain: list[str] | None = None  # the slow and simple way, where the others differ from the source
    copied: bool = False  # whether the first of *tries* copies the picture
    warnings: list[str] = field(default_factory=list)
    layout: Literal["file", "folder"] = "file"  # one file, or a playlist and what it names
    format: str = ""  # of the output, as the API says it; "" where it is the extension
    encodes: list[RenditionPlan] = field(default_factory=list)  # what the first of *tries* encodes

    @property
    def file_name(self) -> str:
        """The output, or the playlist that names all the rest."""
        return f"{'index' if self.layout == 'folder' else 'output'}.{self.extension}"


def makes_several(arguments: list[str]) -> bool:
    """Whether they make several renditions of a stream, each with its playlist, which a master names."""
    return "-var_stream_map" in arguments


def encodes_sound(arguments: list[str]) -> bool:
    """Whether they copy no sound."""
    return ["-c:a", "copy"] not in [arguments[at : at + 2] for at in range(len(arguments))]


def even(value: float) -> int:
    """The nearest even number, at least 2."""
    return max(2, round(value / 2) * 2)


def _pixels(value: Value, of: float) -> float:
    return of * int(value[:-1]) / 100 if isinstance(value, str) else float(value)


def output_size(video: Video, options: Options) -> tuple[int, int, str]:
    """Width and height of the output and the filter's tail (pad, crop) for `fit`. Never enlarges."""
    shown_w, shown_h = video.shown
    width = _pixels(options["width"], shown_w) if "width" in options else 0
    height = _pixels(options["height"], shown_h) if "height" in options else 0
    if width and height:
        return _fitted(shown_w, shown_h, even(width), even(height), options)
    scale = min(1.0, LONGEST_SIDE / max(shown_w, shown_h))
    if width:
        scale = min(scale, width / shown_w)
    if height:
        scale = min(scale, height / shown_h)
    return even(shown_w * scale), even(shown_h * scale), ""


def _fitted(
    shown_w: float, shown_h: float, width: int, height: int, options: Options
) -> tuple[int, int, str]:
    fit = options.get("fit", "contain")
    where = str(options.get("position", "center"))
    if fit == "fill":
        return width, height, ""
    ratios = (width / shown_w, height / shown_h)
    scale = max(ratios) if fit == "cover" else min(ratios)
    inner_w = even(shown_w * scale)
    inner_h = even(shown_h * scale)
    x = "0" if "left" in where else "{0}" if "right" in where else "{0}/2"
    y = "0" if "top" in where else "{1}" if "bottom" in where else "{1}/2"
    if fit == "cover":
        inner_w = max(inner_w, width)
        inner_h = max(inner_h, height)
        place = f"{x.format('(iw-ow)', '')}:{y.format('', '(ih-oh)')}"
        return inner_w, inner_h, f"crop={width}:{height}:{place}"
    inner_w = min(inner_w, width)
    inner_h = min(inner_h, height)
    colour = "0x" + str(options.get("background", "#000000"))[1:]
    place = f"{x.format('(ow-iw)', '')}:{y.format('', '(oh-ih)')}"
    return inner_w, inner_h, f"pad={width}:{height}:{place}:color={colour}"


def smaller_options(video: Video, options: Options, short_side: int) -> Options | None:
    """Options for a shorter side of *short_side* pixels; None unless that is at least a third smaller."""
    shown_w, shown_h = video.shown
    width, height, _ = output_size(video, options)
    fit: Value = "fill"  # the ratio is that of the large one: what rounding leaves is no reason for bars
    if "width" in options and "height" in options:
        width = even(_pixels(options["width"], shown_w))
        height = even(_pixels(options["height"], shown_h))
        fit = options.get("fit", "contain")
    scale = short_side / min(width, height)
    if scale > 2 / 3:
        return None
    return {**options, "width": even(width * scale), "height": even(height * scale), "fit": fit}


def filters(
    video: Video,
    options: Options,
    pixels: str = "yuv420p",
    *,
    still: bool = False,
    rate: bool = True,
) -> str:
    """The filter chain of a picture: deinterlace, scale or tone-map, fit, rate, square pixels."""
    width, height, tail = output_size(video, options)
    chain = [f"setfield={video.fields}"] if video.fields else []
    chain += ["bwdif=mode=send_frame:deint=interlaced"] if video.interlaced else []
    target = STILLS.get(pixels, ":out_range=tv") if still else ":out_range=tv"
    if video.hdr:
        chain += [*to_sdr(video, width, height)]
        chain += [f"scale=flags=bicubic{target}"] if still else []
    else:
        whole = still or bool(tail) or {"width", "height"} <= set(options)
        video, named = understood(video)
        chain += named
        size = f"{width}:{height}" if whole else _kept_shape(video, width, height)
        chain.append(f"scale={size}:flags=bicubic{conversion(video, target)}")
        chain += [] if whole else [f"pad={width}:{height}:-1:-1"]
    if has_alpha(video) and not pixels.startswith(("yuva", "rgba")):
        to = target[1:] + ("" if still else f":out_color_matrix={matrix(video)}")
        chain += [_on_background(str(options.get("background", "#000000"))), f"scale={to}"]
    if rate and (fps := kept_rate(video, options)):
        chain.append(f"fps={fps:g}{':start_time=0' if video.waits else ''}")
    held = video.lost + video.outlasted
    chain += [f"tpad=stop_mode=clone:stop_duration={held:.3f}"] if rate and held else []
    chain += [tail] if tail else []
    if not video.hdr:
        chain += untagged(video) if still else tags(video)
    # a photo's EXIF (PNG would keep it, places and all), and what was said of HDR
    chain += ["sidedata=mode=delete"] if still or video.hdr else []
    return ",".join([*chain, f"format={pixels}", "setsar=1"])


def kept_rate(video: Video, options: Options) -> float:
    """Pictures a second that are made of a film's; 0 where all are encoded as they come."""
    fps = float(options.get("fps", video.steady))
    if fps and not 0 < video.duration * fps < 1:  # a clip of under one frame would lose it
        return fps
    return 60.0 if video.fps > FASTEST else 0.0


def unheld(media: Media, options: Options) -> Media:
    """The same, whose last picture is held by more of it and not by its packet, where all stay as they come.

    An encoder stores it before others, and MP4 would take one of those for the last.
    """
    film = media.video
    if film is None or not film.held or film.lost or kept_rate(film, options):
        return media
    return replace(media, video=replace(film, lost=film.stays - MOMENT, unheld=True))


def _kept_shape(video: Video, width: int, height: int) -> str:
    """The scaler's size, inside which pictures of another shape in the middle of the film keep theirs."""
    first = video.height / video.width if video.rotation % 180 == 90 else video.width / video.height
    by = f"a/{first:.6f}"  # how much wider a picture is than the first
    same = f"lt(abs({by}-1),0.02)"
    wide = f"trunc(min({width},{width}*{by})/2)*2"
    high = f"trunc(min({height},{height}/({by}))/2)*2"
    return f"w='if({same},{width},{wide})':h='if({same},{height},{high})'"


def _on_background(colour: str) -> str:
    """Puts what is transparent on a colour, for formats without transparency."""
    flat = f"drawbox=color=0x{colour[1:]}:t=fill:replace=1"
    return f"format=rgba,split[top][back];[back]{flat}[flat];[flat][top]overlay=format=gbrp"


def has_alpha(video: Video) -> bool:
    """Whether the picture may be transparent."""
    marked = video.pix_fmt.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "pal8", "ya"))
    return video.alpha or marked


def input_arguments(path: str, media: Media, seek: float | None = None, first: str = "") -> list[str]:
    """The arguments that open the source, and nothing else than a file of a known kind.

    *first*: a filter of the picture's packets that comes before all others.
    """
    video = media.video
    # only this decoder knows the transparency of VP8 and VP9
    decoder = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(video.codec, "") if video and video.alpha else ""
    before = ["-c:v", decoder] if decoder else []
    before += ["-f", media.format] if media.format in (*NAMED.values(), "webp_anim") else []
    before += [text for name in media.reading for text in (f"-{name}", READING[name])]
    place = ["-ss", f"{seek:.3f}"] if seek else []
    opened = [*before, *named_turn(video), *packet_filters(media, first), "-i", f"file:{path}"]
    # where a clock jumps, a seek would lead anywhere, and packets are counted: all of it is decoded
    whole = media.jumps or (video and video.shifts)
    return [*GUARD, *opened, *place] if whole else [*GUARD, *place, *opened]


def named_turn(video: Video | None) -> list[str]:
    """The arguments that name a film's turn, where FFmpeg would make something odd of what it says."""
    odd = video is not None and (video.slanted or video.says_turn)
    return [f"-display_rotation:{video.index}", str(video.rotation)] if video and odd else []


def map_picture(video: Video) -> list[str]:
    """The arguments that choose the picture, and nothing else."""
    return ["-map", "[whole]" if video.tiled else f"0:{video.index}", "-an", "-sn", "-dn"]


def filter_arguments(video: Video, chain: str) -> list[str]:
    """The arguments that send the picture through *chain*; a picture of tiles is put together before it."""
    return ["-filter_complex", f"[0:g:0]{chain}[whole]"] if video.tiled else ["-vf", chain]


def trim(length: float, options: Options) -> tuple[float | None, list[str], float]:
    """Seek, arguments for the end, and the seconds that come out of *length* (0 where unknown)."""
    start = float(options.get("start", 0))
    end = float(options["end"]) if "end" in options else 0.0
    if start and length and start >= length:
        raise TaskError("invalid_input", f"start is {start:g} s, but the source is only {length:.1f} s long.")
    stop = min(end, length) if end and length else end or length
    return (
        start or None,
        ["-t", f"{end - start:.3f}"] if end else [],
        max(0.0, stop - start) if length else 0.0,
    )
