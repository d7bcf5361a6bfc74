"""Plans for pictures of a film: a still, a storyboard, a short animation. Pure."""

from __future__ import annotations

from mediapipe.engine.arguments import CLEAN, HEAD, Plan, filters, has_alpha, source, span
from mediapipe.engine.media import Media, Unusable
from mediapipe.engine.options import Value

WEBP = {"very_low": 35, "low": 55, "medium": 75, "high": 85, "very_high": 95}
JPEG = {"very_low": 20, "low": 12, "medium": 6, "high": 3, "very_high": 2}
AVIF = {"very_low": 45, "low": 38, "medium": 30, "high": 24, "very_high": 18}
# Frames that aren't black, and of thirty such the one nearest to their average.
TELLING = (
    "signalstats,metadata=mode=select:key=lavfi.signalstats.YAVG:value=40:function=greater,thumbnail=n=30,"
)


def picture(options: dict[str, Value], pixels_with_alpha: bool) -> tuple[str, str, list[str]]:
    """Muxer, pixel format and encoder of a still."""
    wanted, quality = str(options["format"]), str(options.get("quality", "medium"))
    if wanted == "webp":
        pixels = "yuva420p" if pixels_with_alpha else "yuv420p"
        return "webp", pixels, ["-c:v", "libwebp", "-quality", str(WEBP[quality])]
    if wanted == "png":
        return "image2", "rgba" if pixels_with_alpha else "rgb24", ["-c:v", "png", "-update", "1"]
    if wanted == "avif":
        still = ["-c:v", "libaom-av1", "-still-picture", "1", "-cpu-used", "8", "-crf", str(AVIF[quality])]
        return "avif", "yuv420p", still
    return "image2", "yuvj420p", ["-c:v", "mjpeg", "-q:v", str(JPEG[quality]), "-update", "1"]


def image_plan(options: dict[str, Value], media: Media, path: str) -> Plan:
    """One frame: a fast seek, else a decode up to it, else the first; without `start` a telling one."""
    video = media.video
    if video is None:
        raise Unusable("no_video", "There is no picture in this file (it is sound only).")
    muxer, pixels, encode = picture(options, has_alpha(video))
    start, length, warnings = float(options.get("start", 0)), video.duration or media.duration, []
    still = length <= 0.2 or video.cover
    if length and start >= length and not still:
        warnings.append(f"The source is only {length:.1f} s long; the frame is from its middle.")
        start = length / 2
    chain = filters(video, options, pixels)

    def shot(seek: float | None, select: str = "", before: tuple[str, ...] = ()) -> list[str]:
        head = [*HEAD, *before, *source(path, media, seek), "-map", f"0:{video.index}", "-an", "-sn", "-dn"]
        return [*head, "-frames:v", "1", "-vf", select + chain, *CLEAN, *encode]

    tries = [shot(None)]
    if start and not still:
        tries = [shot(start), shot(None, f"select='gte(t,{max(0, start - 0.001):.3f})',"), shot(None)]
    elif "start" not in options and not still and length > 1:
        early = length * 0.1
        tries = [
            # looked for in so many seconds of the film: a black one must not be decoded to its end
            shot(early, TELLING, ("-skip_frame", "nokey", "-t", "1200")),
            shot(early, TELLING, ("-t", "20")),
            shot(None, "thumbnail=n=30,", ("-t", "5")),
            shot(None),
        ]
    return Plan(tries, muxer, str(options["format"]), wants_video=True, warnings=warnings)


def sprite_plan(options: dict[str, Value], media: Media, path: str) -> Plan:
    """A storyboard: a frame each `interval` seconds (at most 100), tiled ten to a row."""
    video = media.video
    if video is None or video.cover:
        raise Unusable("no_video", "There is no picture in this file (it is sound only).")
    muxer, pixels, encode = picture(options, False)
    interval, rows = storyboard(options, media)
    shape = {"width": 160, **options}
    chain = (
        f"fps=1/{interval:g}:round=up,"
        + filters(video, shape, pixels).replace(",fps=60", "")
        + f",tile=10x{rows}"
    )
    head = [
        *HEAD,
        "-skip_frame",
        "nokey",
        *source(path, media),
        "-map",
        f"0:{video.index}",
        "-an",
        "-sn",
        "-dn",
    ]
    last = ["-frames:v", "1", *CLEAN, *encode]
    every = [argument for argument in head if argument not in ("-skip_frame", "nokey")]
    tries = [[*head, "-vf", chain, *last], [*every, "-vf", chain, *last]]
    if video.gap > interval * 1.5:
        tries.reverse()
    return Plan(tries, muxer, str(options["format"]), wants_video=True)


def storyboard(options: dict[str, Value], media: Media) -> tuple[float, int]:
    """Seconds between a storyboard's frames, grown so that 100 are enough, and its rows of ten."""
    length = max(media.duration, 0.1)
    interval = max(float(options["interval"]), length / 100)
    return interval, max(1, min(10, -(-int(-(-length // interval)) // 10)))


def animation_plan(options: dict[str, Value], media: Media, path: str) -> Plan:
    """A short silent clip that plays as an image."""
    video = media.video
    if video is None or video.cover:
        raise Unusable("no_video", "There is no picture in this file (it is sound only).")
    seek, limit, seconds = span(media.duration, options)
    chain = filters(video, options, "yuv420p" if options["format"] == "webp" else "rgb24")
    head = [*HEAD, *source(path, media, seek), "-map", f"0:{video.index}", "-an", "-sn", "-dn", *limit]
    if options["format"] == "webp":
        quality = str(WEBP[str(options.get("quality", "medium"))])
        encode = ["-vf", chain, "-c:v", "libwebp_anim", "-quality", quality, "-loop", "0"]
    else:
        palette = f"{chain},split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=bayer"
        encode = ["-filter_complex", f"[0:{video.index}]{palette}[v]", "-map", "[v]", "-loop", "0"]
        head = [*HEAD, *source(path, media, seek), "-an", "-sn", "-dn", *limit]
    return Plan(
        [[*head, *CLEAN, *encode]], str(options["format"]), str(options["format"]), seconds, wants_video=True
    )
