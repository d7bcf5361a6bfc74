"""The pieces of FFmpeg's argument lists that every plan is made of: inputs, sizes, filters. Pure.

The figures behind the choices (presets, quality tables, filters) are in docs/engine.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mediapipe.engine.media import Media, Unusable, Video
from mediapipe.engine.options import Value
from mediapipe.engine.probe import DEMUXERS, JPEG_DEMUXER

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
)
GUARD = (  # what may be opened, and how much of it
    "-protocol_whitelist",
    "file",
    "-format_whitelist",
    DEMUXERS,
    "-max_streams",
    "64",
    "-max_pixels",
    "40000000",
)
CLEAN = ("-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact")
LONGEST_SIDE = 3840


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
    copied: bool = False
    warnings: list[str] = field(default_factory=list)


def even(value: float) -> int:
    """The nearest even number, at least 2."""
    return max(2, round(value / 2) * 2)


def _pixels(value: Value, of: float) -> float:
    return of * int(value[:-1]) / 100 if isinstance(value, str) else float(value)


def size(video: Video, options: dict[str, Value]) -> tuple[int, int, str]:
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
    shown_w: float, shown_h: float, width: int, height: int, options: dict[str, Value]
) -> tuple[int, int, str]:
    fit, where = options.get("fit", "contain"), str(options.get("position", "center"))
    if fit == "fill":
        return width, height, ""
    ratios = width / shown_w, height / shown_h
    scale = max(ratios) if fit == "cover" else min(ratios)
    inner_w, inner_h = even(shown_w * scale), even(shown_h * scale)
    x = "0" if "left" in where else "{0}" if "right" in where else "{0}/2"
    y = "0" if "top" in where else "{1}" if "bottom" in where else "{1}/2"
    if fit == "cover":
        inner_w, inner_h = max(inner_w, width), max(inner_h, height)
        place = f"{x.format('(iw-ow)', '')}:{y.format('', '(ih-oh)')}"
        return inner_w, inner_h, f"crop={width}:{height}:{place}"
    inner_w, inner_h = min(inner_w, width), min(inner_h, height)
    colour = "0x" + str(options.get("background", "#000000"))[1:]
    place = f"{x.format('(ow-iw)', '')}:{y.format('', '(oh-ih)')}"
    return inner_w, inner_h, f"pad={width}:{height}:{place}:color={colour}"


def filters(video: Video, options: dict[str, Value], pixels: str = "yuv420p") -> str:
    """The filter chain of a picture: deinterlace, scale or tone-map, fit, rate, square pixels."""
    width, height, tail = size(video, options)
    chain = ["bwdif=mode=send_frame:deint=interlaced"] if video.interlaced else []
    if video.hdr:
        chain += [
            f"zscale=w={width}:h={height}:f=bilinear",
            "zscale=t=linear:npl=100",
            "format=gbrpf32le",
            "zscale=p=bt709",
            "tonemap=hable:desat=0",
            "zscale=t=bt709:m=bt709:r=tv",
        ]
    else:
        rgb = video.pix_fmt.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "gray", "pal8", "0"))
        matrix = ":out_color_matrix=bt709" if rgb or "444" in video.pix_fmt else ""
        chain.append(f"scale={width}:{height}:flags=bicubic:out_range=tv{matrix}")
    if "fps" in options:
        chain.append(f"fps={float(options['fps']):g}")
    elif video.fps > 60.5:
        chain.append("fps=60")
    chain += [tail] if tail else []
    return ",".join([*chain, f"format={pixels}", "setsar=1"])


def has_alpha(video: Video) -> bool:
    """Whether the picture may be transparent."""
    marked = video.pix_fmt.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "pal8", "ya"))
    return video.alpha or marked


def source(path: str, media: Media, seek: float | None = None) -> list[str]:
    """The arguments that open the source, and nothing else than a file of a known kind."""
    video = media.video
    # only this decoder knows the transparency of VP8 and VP9
    decoder = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(video.codec, "") if video and video.alpha else ""
    before = ["-c:v", decoder] if decoder else []
    before += ["-f", JPEG_DEMUXER] if media.format == JPEG_DEMUXER else []
    return [*GUARD, *(["-ss", f"{seek:.3f}"] if seek else []), *before, "-i", f"file:{path}"]


def span(length: float, options: dict[str, Value]) -> tuple[float | None, list[str], float]:
    """Seek, arguments for the end, and the seconds that come out of *length* (0 where unknown)."""
    start, end = float(options.get("start", 0)), float(options["end"]) if "end" in options else 0.0
    if start and length and start >= length:
        raise Unusable("invalid_input", f"start is {start:g} s, but the source is only {length:.1f} s long.")
    stop = min(end, length) if end and length else end or length
    return start or None, ["-t", f"{end - start:.3f}"] if end else [], max(0.0, stop - start) if stop else 0.0
