"""Plans for pictures of a film: a still, a storyboard, a short animation. Pure."""

from __future__ import annotations

from collections.abc import Callable

from mediapipe.engine.arguments import (
    HEAD,
    NO_METADATA,
    Plan,
    filter_arguments,
    filters,
    has_alpha,
    input_arguments,
    map_picture,
    trim,
)
from mediapipe.engine.errors import TaskError
from mediapipe.engine.media import Media, Video
from mediapipe.validators import Options

WEBP = {"very_low": 35, "low": 55, "medium": 75, "high": 85, "very_high": 95}
JPEG = {"very_low": 20, "low": 12, "medium": 6, "high": 3, "very_high": 2}
SAME_FORMAT = {"png": "png", "apng": "png", "webp": "webp", "av1": "avif", "gif": "png"}  # by a photo's codec
AVIF = {"very_low": 45, "low": 38, "medium": 30, "high": 24, "very_high": 18}
LIGHT = 34  # mean luma, of 255, above which a frame isn't black
LOOK_ON = "8"  # seconds after `start` in which every frame is looked at for one that isn't
QUICK = 10  # pictures a second, from which on none stands for so long that another is seen in its place
LOOK_BACK = 20.0  # and seconds before it
# Frames that aren't black, and of thirty such the one nearest to their average.
TYPICAL = (
    "signalstats,metadata=mode=select:key=lavfi.signalstats.YAVG:value=40:function=greater,thumbnail=n=30,"
)


def picture(options: Options, pixels_with_alpha: bool) -> tuple[str, str, list[str]]:
    """Muxer, pixel format and encoder of a still."""
    form = str(options["format"])
    quality = str(options.get("quality", "medium"))
    if form == "webp":
        pixels = "yuva420p" if pixels_with_alpha else "yuv420p"
        return "webp", pixels, ["-c:v", "libwebp", "-quality", str(WEBP[quality])]
    if form == "png":
        return "image2", "rgba" if pixels_with_alpha else "rgb24", ["-c:v", "png", "-update", "1"]
    if form == "avif":
        still = ["-c:v", "libaom-av1", "-still-picture", "1", "-cpu-used", "8", "-crf", str(AVIF[quality])]
        return "avif", "yuv420p", still
    return "image2", "yuvj420p", ["-c:v", "mjpeg", "-q:v", str(JPEG[quality]), "-update", "1"]


def image_plan(options: Options, media: Media, path: str) -> Plan:
    """A storyboard where an `interval` is given, else one frame. Raises TaskError."""
    return (
        storyboard_plan(options, media, path) if "interval" in options else frame_plan(options, media, path)
    )


def frame_plan(options: Options, media: Media, path: str) -> Plan:
    """One frame: a fast seek, else a decode up to it, else the first; without `start` a typical one.

    Unless the moment is to be exact, a black frame gives way to one near it that isn't.
    """
    video = media.video
    if video is None:
        raise TaskError("no_video", media.no_picture)
    options = {"format": SAME_FORMAT.get(video.codec, "jpeg") if media.is_still else "jpeg", **options}
    muxer, pixels, encode = picture(options, has_alpha(video))
    start = float(options.get("start", 0))
    length = video.end or video.duration or media.duration
    warnings = []
    near: list[float] = []  # where else to look: a last frame may begin earlier than its time says
    if length and start >= length and not media.is_still:
        warnings.append(f"The source is only {length:.1f} s long; this is its last frame.")
        start = max(0.0, length - 1.1 / (video.fps or 25))
        near = [max(0.0, length - 0.5), length / 2]
    chain = filters(video, options, pixels, still=True, rate=False)

    def shot(seek: float | None, select: str = "", before: tuple[str, ...] = ()) -> list[str]:
        head = [*HEAD, *before, *input_arguments(path, media, seek), *map_picture(video)]
        return [*head, "-frames:v", "1", *filter_arguments(video, select + chain), *NO_METADATA, *encode]

    tries = [shot(None)]
    if start and not media.is_still:
        slow = [shot(None, f"select='gte(t,{max(0, start - 0.001):.3f})',"), _held(start, length, shot)]
        stands = not near and (video.uneven or 0 < video.fps < QUICK)
        tries = [*map(shot, (start, *near)), *([] if near else slow), shot(None)]
        tries = [_standing(start, shot), *tries] if stands else tries
        if options.get("moment") != "exact" and _is_measurable(video):
            tries = [*_light_ones(video, start, length, shot, stands=stands), *tries]
    elif "start" not in options and not media.is_still and length > 1:
        tries = [*_typical_ones(video, length * 0.1, shot), shot(None)]
    return Plan(tries, muxer, str(options["format"]), wants_video=True, warnings=warnings)


def _is_measurable(video: Video) -> bool:
    """Whether the measuring filter takes its pixels: it would lose transparency, and RGB's colours."""
    return video.pix_fmt.startswith("yuv") and not has_alpha(video)


def _held(start: float, length: float, shot: Callable[..., list[str]], select: str = "") -> list[str]:
    """The try for a picture that began before *start*, where none begins after it: the last is held."""
    hold = f"tpad=stop_mode=clone:stop_duration={length + 1:.3f},select='gte(t,0)',"
    return shot(start, hold + select, ("-noaccurate_seek",))


def _standing(start: float, shot: Callable[..., list[str]], select: str = "") -> list[str]:
    """The try for the picture that stands at *start*: it may have begun long before, and a seek drops it."""
    return shot(start, "fps=25:start_time=0," + select, ("-noaccurate_seek",))


def _light_ones(
    video: Video, start: float, length: float, shot: Callable[..., list[str]], *, stands: bool
) -> list[list[str]]:
    """The tries for a frame near *start* that isn't black, whatever its depth."""
    depth = next((bits for bits in (16, 14, 12, 10, 9) if f"p{bits}" in video.pix_fmt), 8)
    value = LIGHT << (depth - 8)
    light = f"signalstats,metadata=mode=select:key=lavfi.signalstats.YAVG:value={value}:function=greater,"
    return [
        *([_standing(start, shot, f"trim=end={LOOK_ON},{light}")] if stands else []),
        shot(start, light, ("-t", LOOK_ON)),
        # as near as the first: a dark film, and then its last picture, would be measured to its end
        _held(start, length, shot, f"trim=end={LOOK_ON},{light}"),
        shot(start, light, ("-skip_frame", "nokey", "-t", "1200")),
        shot(max(0.0, start - LOOK_BACK) or None, light, ("-t", f"{min(start, LOOK_BACK):.3f}")),
    ]


def _typical_ones(video: Video, early: float, shot: Callable[..., list[str]]) -> list[list[str]]:
    """The tries for a frame like most from *early* on; measuring would lose what is transparent."""
    typical = "thumbnail=n=30," if has_alpha(video) else TYPICAL
    return [
        # looked for in so many seconds of the film: a black one must not be decoded to its end
        shot(early, typical, ("-skip_frame", "nokey", "-t", "1200")),
        shot(early, typical, ("-t", "20")),
        shot(None, "thumbnail=n=30,", ("-t", "5")),
    ]


def _moving(media: Media) -> Video:
    """The film’s picture track; cover art and photos are none. Raises TaskError."""
    video = media.video
    if video is None or video.cover:
        raise TaskError("no_video", media.no_picture)
    if video.tiled:
        raise TaskError(
            "no_video", "This is a photo, so there is nothing to animate. Ask for an image instead."
        )
    return video


def storyboard_plan(options: Options, media: Media, path: str) -> Plan:
    """A storyboard: a frame each `interval` seconds (at most 100), tiled ten to a row."""
    video = _moving(media)
    options = {"format": "jpeg", **options}
    muxer, pixels, encode = picture(options, False)
    interval, rows = storyboard_grid(options, media)
    shape = {"width": 160, **options}
    # The last keyframe may lie before the last part, which would stay black: it is held until the end.
    held = f"tpad=stop_mode=clone:stop_duration={interval:g}"
    every_so_often = "" if media.is_still else f"{held},fps=1/{interval:g}:round=up:start_time=0,"
    chain = every_so_often + filters(video, shape, pixels, still=True, rate=False) + f",tile=10x{rows}"
    every = [*HEAD, *input_arguments(path, media), *map_picture(video)]
    head = [*HEAD, "-skip_frame", "nokey", *every[len(HEAD) :]]
    last = ["-frames:v", "1", *NO_METADATA, *encode]
    tries = [[*each, *filter_arguments(video, chain), *last] for each in (head, every)]
    if video.gap > interval:  # keyframes alone would miss whole cues
        tries.reverse()
    return Plan(tries, muxer, str(options["format"]), wants_video=True)


def storyboard_grid(options: Options, media: Media) -> tuple[float, int]:
    """Seconds between a storyboard's frames, grown so that 100 are enough, and its rows of ten."""
    length = max(media.duration, 0.1)
    interval = max(float(options["interval"]), length / 100)
    return interval, max(1, min(10, -(-int(-(-length // interval)) // 10)))


def animation_plan(options: Options, media: Media, path: str) -> Plan:
    """A short silent clip that plays as an image."""
    video = _moving(media)
    # the sound may be longer
    seek, limit, seconds = trim(min(media.duration, video.end or media.duration), options)
    webp = options["format"] == "webp"
    alpha = has_alpha(video)
    pixels = ("yuva420p" if alpha else "yuv420p") if webp else "rgba" if alpha else "rgb24"
    chain = filters(video, options, pixels, still=True, rate=not media.is_still)
    if webp:
        quality = str(WEBP[str(options.get("quality", "medium"))])
        encode = ["-c:v", "libwebp_anim", "-quality", quality]
    else:
        chain += ",split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=bayer"
        encode = []
    # the limit is the input's: a palette is made at the end, which would be the end of the film
    head = [*HEAD, *limit, *input_arguments(path, media, seek), *map_picture(video)]
    arguments = [*head, *filter_arguments(video, chain), *NO_METADATA, *encode, "-loop", "0"]
    form = str(options["format"])
    return Plan([arguments], form, form, seconds, wants_video=True)
