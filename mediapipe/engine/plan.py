"""From a probed source and checked options to FFmpeg's argument lists. Pure."""

from __future__ import annotations

from dataclasses import replace

from mediapipe.engine.arguments import (
    HEAD,
    LONGEST_SIDE,
    NO_METADATA,
    Plan,
    RenditionPlan,
    filter_arguments,
    filters,
    input_arguments,
    smaller_options,
    trim,
    unheld,
)
from mediapipe.engine.clock import FASTEST
from mediapipe.engine.colours import copied_tags
from mediapipe.engine.errors import TaskError
from mediapipe.engine.media import Media, Video
from mediapipe.engine.sound import sound_arguments
from mediapipe.validators import Options

EVEN_KEYS = "expr:gte(t,n_forced*2)"  # a keyframe every two seconds
SOURCE_KEYS = "source"  # keyframes where the source has them
MAX_GAP = 10.5  # seconds between keyframes that still seek well; x264 makes 250 frames by default
UNTIMED = ("avi", "asf", "h264", "mpeg")  # where pictures lie without the times at which they are shown
PLAYED = ("", "Baseline", "Constrained Baseline", "Main", "High", "Constrained High", "Progressive High")
MAX_LEVEL = 52  # 5.2: what players and their hardware take
COPYABLE = {"format", "codec", "quality"}  # options that a copy of the picture can satisfy
CRF = {
    "h264": dict(zip(("very_low", "low", "medium", "high", "very_high"), (33, 28, 23, 18, 15), strict=True)),
    "h265": dict(zip(("very_low", "low", "medium", "high", "very_high"), (36, 31, 26, 22, 19), strict=True)),
    "vp9": dict(zip(("very_low", "low", "medium", "high", "very_high"), (45, 38, 33, 28, 22), strict=True)),
    "av1": dict(zip(("very_low", "low", "medium", "high", "very_high"), (50, 42, 35, 29, 24), strict=True)),
}
# no keyframes of its own, and nothing in its header of the machine that it ran on
X265 = ("-forced-idr", "1", "-x265-params", "scenecut=0:info=0")
ENCODERS = {
    "h264": ("libx264", "-preset", "veryfast", "-profile:v", "high"),
    "h265": ("libx265", "-preset", "fast", "-tag:v", "hvc1", *X265),
    "vp9": ("libvpx-vp9", "-b:v", "0", "-deadline", "good", "-cpu-used", "4", "-row-mt", "1"),
    "av1": ("libsvtav1", "-preset", "10"),
}
SHORTEST_NAMED = 0.5  # seconds of a rendition that FFmpeg's master playlist names
SEGMENTS = ("-f", "hls", "-hls_time", "4", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4")
OUTLASTS = 0.5  # seconds of sound without a picture, or of one that stands, that no stream need count
MIN_MISSING = 0.1  # seconds, in which pictures stand for longer than one does, that no stream need count,
SHARE_MISSING = 0.01  # and the share of its length
STEADY = 5.0  # pictures a second, at least, of a stream of slides
SMALL = 360  # pixels of the short side of a stream's second rendition


def may_copy_video(options: Options) -> bool:
    """Whether no option wants another picture than a web-safe source's."""
    if not set(options) <= COPYABLE or options.get("format") not in ("mp4", "mov"):
        return False
    return options.get("codec", "h264") == "h264" and options.get("quality", "high") in ("high", "very_high")


def can_copy_video(options: Options, media: Media) -> bool:
    """Whether the picture may stay as it is: it is web-safe H.264, and no option wants another one."""
    video = media.video
    if video is None or not may_copy_video(options):
        return False
    rate = media.size * 8 / media.duration if media.duration else 0
    limit = 20e6 * max(0.25, video.width * video.height / (1920 * 1080))
    return (
        video.codec == "h264"
        and video.pix_fmt in ("yuv420p", "yuvj420p")
        and not (video.interlaced or video.hdr or video.cover or video.discarded or video.crop)
        and not (video.mirrored or video.late)  # which some browsers leave as it is; shown in another order
        and not (video.reorders and (media.format in UNTIMED or (video.held and not media.is_mp4)))
        and not (video.reorders and video.shifts and media.format.startswith("matroska"))  # nor when stored
        and video.profile in PLAYED
        and video.level <= MAX_LEVEL
        and abs(video.sar - 1) < 0.01
        and video.width % 2 == 0
        and video.height % 2 == 0
        and max(video.width, video.height) <= LONGEST_SIDE
        and 0 < video.fps <= FASTEST
        and video.gap <= MAX_GAP
        and abs(media.start) < 0.1
        and 0 < rate <= limit
    )


def video_plan(options: Options, media: Media, path: str) -> Plan:
    """A video; a source of audio alone yields audio in the same container, unless a picture is needed."""
    container = str(options["format"])
    tail = ["-max_muxing_queue_size", "1024", *(["-movflags", "+faststart"] if container != "webm" else [])]
    film = media.video if media.video and not media.video.cover else None
    if film is None:
        if media.audio is None or {"width", "height", "fit", "fps", "codec"} & set(options):
            raise TaskError("no_video", media.no_picture)
        seek, limit, seconds = trim(media.duration, options)
        only = ["-map", f"0:{media.audio.index}", "-vn"]
        arguments = [*HEAD, *input_arguments(path, media, seek), *only, *limit]
        tries = _with_sound([*arguments, *NO_METADATA], options, media, container, tail)
        return Plan(tries, container, container, seconds, wants_audio=True)
    tracks = ["-map", "[whole]" if film.tiled else f"0:{film.index}"]
    tracks += ["-map", f"0:{media.audio.index}"] if media.audio else []
    seek, limit, seconds = trim(media.duration, options)
    frame_rate = min(float(options.get("fps", film.fps)), 60) if film.fps else 0.0
    made = unheld(media, options)
    encoded = [*HEAD, *input_arguments(path, made, seek), *tracks, "-sn", "-dn", *limit, *NO_METADATA]
    encoded += encoder(options, made.video or film, container)
    tries = _with_sound(encoded, options, media, container, tail)
    # a sound that ends the run must not take the picture with it
    tries += [[*without_sound(encoded, media), *tail]] if media.audio else []
    copied = can_copy_video(options, media)
    if copied:
        copy = [*HEAD, *input_arguments(path, media), *tracks, "-sn", "-dn", *NO_METADATA, "-c:v", "copy"]
        copy += copied_tags(film)
        tries = [[*copy, *sound_arguments(options, media, container), *tail], *tries]
    return Plan(
        tries,
        container,
        container,
        seconds,
        seconds * frame_rate,
        wants_video=True,
        wants_audio=media.audio is not None,
        copied=copied,
        plain=plain_arguments(options, made, path, (tracks, tail), frame_rate),
        encodes=[] if copied else [RenditionPlan(options, EVEN_KEYS, film)],
    )


def plain_arguments(
    options: Options, media: Media, path: str, ends: tuple[list[str], list[str]], frame_rate: float
) -> list[str]:
    """Decoded from the beginning by one thread, at a constant rate, nothing copied."""
    tracks, tail = ends
    seek, limit, _ = trim(media.duration, options)
    late = ["-ss", f"{seek:.3f}"] if seek else []
    if media.video and media.video.uneven and media.video.pace and "fps" not in options:
        frame_rate = min(60.0, media.video.pace)
    rate = ["-fps_mode", "cfr", "-r", f"{frame_rate:g}"] if frame_rate else []
    arguments = [*HEAD, "-threads", "1", *input_arguments(path, media), *tracks, "-sn", "-dn", *late, *limit]
    arguments += [*NO_METADATA, *encoder(options, media.video, str(options["format"]))] if media.video else []
    sound = sound_arguments(options, media, str(options["format"]), copy=False, padded=False)
    return [*arguments, *sound, *rate, *tail]


def _with_sound(
    head: list[str], options: Options, media: Media, container: str, tail: list[str]
) -> list[list[str]]:
    """The tries for the sound: a copy may meet what its container refuses (a codec that changes midway)."""
    ways = [
        sound_arguments(options, media, container),
        sound_arguments(options, media, container, copy=False),
    ]
    return [[*head, *way, *tail] for way in (ways if ways[0] != ways[1] else ways[:1])]


def without_sound(arguments: list[str], media: Media) -> list[str]:
    """The same arguments without the sound track."""
    at = arguments.index(f"0:{media.audio.index}") if media.audio else 0
    return [*arguments[: at - 1], *arguments[at + 1 :]] if at else arguments


def encoder(options: Options, video: Video, container: str, keys: str = EVEN_KEYS) -> list[str]:
    """The arguments that encode a picture, as pairs; *keys*: where its keyframes are."""
    codec = str(options.get("codec") or ("vp9" if container == "webm" else "h264"))
    name, *settings = ENCODERS[codec]
    if "bitrate" in options:
        rate = int(options["bitrate"])
        settings = [s for s in settings if s not in ("-b:v", "0")]
        quality = ["-b:v", str(rate), "-maxrate", str(rate * 2), "-bufsize", str(rate * 2)]
    else:
        quality = ["-crf", str(CRF[codec][str(options.get("quality", "medium"))])]
    placed = ["-force_key_frames", keys, *(["-sc_threshold", "0"] if codec == "h264" else [])]
    # none of its own, however far these are apart
    placed += ["-g", "100000"] if keys == SOURCE_KEYS else []
    # time as fine as the source's, or pictures would be moved onto each other, and one of two dropped
    placed += ["-enc_time_base:v", "demux"] if keys == SOURCE_KEYS or video.uneven else []
    # by a container's 90,000 a second it would say a level that no player has
    placed += ["-x264-params", f"fps={video.fps:g}"] if codec == "h264" and video.misrated else []
    return [
        *filter_arguments(video, filters(video, options)),
        "-c:v",
        name,
        *settings,
        *quality,
        *placed,
        "-fps_mode",
        "vfr",
    ]


def hls_plan(options: Options, media: Media, path: str) -> Plan:
    """An HLS stream of 4-second segments, copied where the source fits; a large picture comes small too."""
    options = {**options, "format": "mp4"}
    media, rate = _for_segments(media)
    options |= {"fps": rate} if rate and "fps" not in options else {}
    video = video_plan(options, media, path)
    large = media.video if video.wants_video and not media.is_still else None
    small = smaller_options(large, options, SMALL) if large else None
    copied = video.copied
    encodes = video.encodes
    tries = [[*without_faststart(each), *SEGMENTS] for each in video.tries]
    if large and small and not 0 < video.seconds < SHORTEST_NAMED:
        # a copy stays turned by its header: a player that changes to the small one would turn its picture
        copied = copied and not large.rotation
        # the large one alone where two do not fit together
        alone = tries[1:] if video.copied else tries
        tries = [*_ladder(large, small, options, media, path, copied=copied), *alone]
        encodes = [RenditionPlan(each, EVEN_KEYS, large) for each in (options, small)]
        encodes = [RenditionPlan(small, SOURCE_KEYS, large)] if copied else encodes
    plain = [*without_faststart(video.plain), *SEGMENTS] if video.plain else None  # the large one alone
    return replace(
        video,
        tries=tries,
        plain=plain,
        muxer="hls",
        extension="m3u8",
        copied=copied,
        layout="folder",
        format="hls",
        encodes=encodes,
    )


def _for_segments(media: Media) -> tuple[Media, float]:
    """The same, its pictures for as long as its sound; and at which rate, or 0 where all may stay as it is.

    Segments are cut and counted by pictures: what comes before the first and after the last would be no part
    of the film, and one that stands longer than it is said to, or is stored long before it is shown, would
    count for too little or too much.
    """
    video = media.video
    audio = media.audio
    if video is None or video.cover or video.tiled:
        return media, 0.0
    beyond = audio.end - video.end if audio and video.end and audio.end else 0.0
    outlasted = beyond if beyond > OUTLASTS else 0.0
    waits = audio is not None and video.begins > OUTLASTS
    rate = min(60.0, max(STEADY, video.pace or video.fps))
    steady = rate if video.uneven else 0.0
    missing = video.missing > MIN_MISSING + SHARE_MISSING * media.duration
    stays = not (waits or outlasted or missing or video.misrated or video.stands > OUTLASTS)
    media = replace(media, video=replace(video, outlasted=outlasted, waits=waits, steady=steady))
    return media, 0.0 if stays else rate


def _ladder(
    large: Video,
    small: Options,
    options: Options,
    media: Media,
    path: str,
    *,
    copied: bool,
) -> list[list[str]]:
    """The tries for two renditions of one source. Each has the sound, so that both are cut alike."""
    seek, limit, _ = trim(media.duration, options)
    sound_map = ["-map", f"0:{media.audio.index}"] if media.audio else []
    tracks = ["-map", f"0:{large.index}", *sound_map] * 2
    head = [*HEAD, *input_arguments(path, media, seek), *tracks, "-sn", "-dn", *limit, *NO_METADATA]
    tail = two_renditions(sound=bool(sound_map))
    first = of_rendition(0, encoder(options, large, "mp4"))
    second = of_rendition(1, encoder(small, large, "mp4"))
    tries = _with_sound([*head, *first, *second], options, media, "mp4", tail)
    if copied:
        second = of_rendition(1, encoder(small, large, "mp4", SOURCE_KEYS))
        tries.insert(
            0,
            [
                *head,
                "-c:v:0",
                "copy",
                *copied_tags(large, ":0"),
                *second,
                *sound_arguments(options, media, "mp4"),
                *tail,
            ],
        )
    return tries


def two_renditions(*, sound: bool) -> list[str]:
    """The muxer's arguments for two of them, each with its *sound*."""
    parts = "v:0,a:0 v:1,a:1" if sound else "v:0 v:1"
    return [*SEGMENTS, "-var_stream_map", parts, "-master_pl_name", "index.m3u8"]


def of_rendition(number: int, arguments: list[str]) -> list[str]:
    """The same arguments, of pairs, for the picture of one rendition alone."""
    names = [name.replace("-vf", "-filter").removesuffix(":v") for name in arguments[::2]]
    pairs = zip(names, arguments[1::2], strict=True)
    return [part for name, value in pairs for part in (f"{name}:v:{number}", value)]


def without_faststart(arguments: list[str]) -> list[str]:
    """The same arguments for a muxer that has no `-movflags +faststart`."""
    return [a for a in arguments if a not in ("-movflags", "+faststart")]
