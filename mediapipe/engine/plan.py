"""From a probed source and checked options to FFmpeg's argument lists. Pure.

The figures behind the choices (presets, quality tables, filters) are in docs/engine.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mediapipe.engine.media import Media, Unusable, Video
from mediapipe.engine.options import Value
from mediapipe.engine.probe import DEMUXERS

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
GUARD = (
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
GAP = 10.5  # seconds between keyframes that still seek well; x264 makes 250 frames by default
CRF = {
    "h264": dict(zip(("very_low", "low", "medium", "high", "very_high"), (33, 28, 23, 18, 15), strict=True)),
    "h265": dict(zip(("very_low", "low", "medium", "high", "very_high"), (36, 31, 26, 22, 19), strict=True)),
    "vp9": dict(zip(("very_low", "low", "medium", "high", "very_high"), (45, 38, 33, 28, 22), strict=True)),
    "av1": dict(zip(("very_low", "low", "medium", "high", "very_high"), (50, 42, 35, 29, 24), strict=True)),
}
AAC = {"very_low": 64, "low": 96, "medium": 128, "high": 192, "very_high": 256}
MP3 = {"very_low": 7, "low": 5, "medium": 4, "high": 2, "very_high": 0}
VORBIS = {"very_low": 1, "low": 3, "medium": 4, "high": 6, "very_high": 8}
WEBP = {"very_low": 35, "low": 55, "medium": 75, "high": 85, "very_high": 95}
JPEG = {"very_low": 20, "low": 12, "medium": 6, "high": 3, "very_high": 2}
AVIF = {"very_low": 45, "low": 38, "medium": 30, "high": 24, "very_high": 18}
ENCODERS = {
    "h264": ("libx264", "-preset", "veryfast", "-profile:v", "high"),
    "h265": ("libx265", "-preset", "fast", "-tag:v", "hvc1"),
    "vp9": ("libvpx-vp9", "-b:v", "0", "-deadline", "good", "-cpu-used", "4", "-row-mt", "1"),
    "av1": ("libsvtav1", "-preset", "10"),
}
MUXERS = {"mp4": "mp4", "mov": "mov", "webm": "webm"}


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


def source(path: str, video: Video | None, seek: float | None = None) -> list[str]:
    """The arguments that open the source, and nothing else than a file of a known kind."""
    # only this decoder knows the transparency of VP8 and VP9
    decoder = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(video.codec, "") if video and video.alpha else ""
    before = ["-c:v", decoder] if decoder else []
    return [*GUARD, *(["-ss", f"{seek:.3f}"] if seek else []), *before, "-i", f"file:{path}"]


def span(length: float, options: dict[str, Value]) -> tuple[float | None, list[str], float]:
    """Seek, arguments for the end, and the seconds that come out of *length* (0 where unknown)."""
    start, end = float(options.get("start", 0)), float(options["end"]) if "end" in options else 0.0
    if start and length and start >= length:
        raise Unusable("invalid_input", f"start is {start:g} s, but the source is only {length:.1f} s long.")
    stop = min(end, length) if end and length else end or length
    return start or None, ["-t", f"{end - start:.3f}"] if end else [], max(0.0, stop - start) if stop else 0.0


def make(kind: str, options: dict[str, Value], media: Media, path: str) -> Plan:
    """The plan for one task. Raises Unusable where the source has not what is asked for."""
    if kind == "video":
        return video_plan(options, media, path)
    if kind == "audio":
        return audio_plan(options, media, path)
    if kind == "image":
        return (
            sprite_plan(options, media, path) if "interval" in options else image_plan(options, media, path)
        )
    if kind == "animation":
        return animation_plan(options, media, path)
    return hls_plan(options, media, path)


def can_copy_video(options: dict[str, Value], media: Media) -> bool:
    """Whether the picture already is what ingest wants: web-safe H.264, and nothing is asked of it."""
    video = media.video
    asked = {"width", "height", "fit", "fps", "start", "end", "bitrate", "background"} & set(options)
    if video is None or asked or options.get("format") not in ("mp4", "mov"):
        return False
    if options.get("codec", "h264") != "h264" or options.get("quality", "high") not in ("high", "very_high"):
        return False
    rate = media.size * 8 / media.duration if media.duration else 0
    limit = 20e6 * max(0.25, video.width * video.height / (1920 * 1080))
    return (
        video.codec == "h264"
        and video.pix_fmt in ("yuv420p", "yuvj420p")
        and not (video.interlaced or video.hdr or video.cover)
        and abs(video.sar - 1) < 0.01
        and video.width % 2 == 0
        and video.height % 2 == 0
        and max(video.width, video.height) <= LONGEST_SIDE
        and 0 < video.fps <= 60.5
        and video.gap <= GAP
        and abs(media.start) < 0.1
        and 0 < rate <= limit
    )


def sound(options: dict[str, Value], media: Media, container: str) -> list[str]:
    """The arguments for a video's sound."""
    audio, kbps = media.audio, AAC[str(options.get("quality", "medium"))]
    if audio is None:
        return ["-an"]
    if container == "webm":
        return ["-c:a", "libopus", "-b:a", f"{kbps}k", "-ac", str(min(2, audio.channels))]
    cut = {"start", "end"} & set(options)
    if audio.codec == "aac" and audio.profile in ("LC", "") and audio.channels <= 2 and not cut:
        return ["-c:a", "copy"]
    return ["-c:a", "aac", "-b:a", f"{kbps}k", "-ar", "48000", *stereo(media)]


def stereo(media: Media) -> list[str]:
    """At most two channels; folding more into two keeps the loudness and may not clip."""
    if media.audio is None or media.audio.channels <= 2:
        return []
    return ["-af", "aformat=channel_layouts=stereo,alimiter=limit=0.97:level=disabled"]


def video_plan(options: dict[str, Value], media: Media, path: str) -> Plan:
    """A video; an audio-only source yields audio in the same container where nothing asks for a picture."""
    container = str(options["format"])
    tail = ["-max_muxing_queue_size", "1024", *(["-movflags", "+faststart"] if container != "webm" else [])]
    film = media.video if media.video and not media.video.cover else None
    if film is None:
        if media.audio is None or {"width", "height", "fit", "fps", "codec"} & set(options):
            raise Unusable("no_video", "There is no picture in this file (it is sound only).")
        seek, limit, seconds = span(media.duration, options)
        arguments = [*HEAD, *source(path, None, seek), "-map", f"0:{media.audio.index}", "-vn", *limit]
        arguments += [*CLEAN, *sound(options, media, container), *tail]
        return Plan([arguments], MUXERS[container], container, seconds, wants_audio=True)
    tracks = ["-map", f"0:{film.index}"] + (["-map", f"0:{media.audio.index}"] if media.audio else [])
    seek, limit, seconds = span(media.duration, options)
    frame_rate = min(float(options.get("fps", film.fps)), 60) if film.fps else 0.0
    encoded = [*HEAD, *source(path, film, seek), *tracks, "-sn", "-dn", *limit, *CLEAN]
    encoded += [*encoder(options, film, container), *sound(options, media, container), *tail]
    tries = [encoded]
    copied = can_copy_video(options, media)
    if copied:
        copy = [*HEAD, *source(path, film), *tracks, "-sn", "-dn", *CLEAN, "-c:v", "copy"]
        tries = [[*copy, *sound(options, media, container), *tail], encoded]
    return Plan(
        tries,
        MUXERS[container],
        container,
        seconds,
        seconds * frame_rate,
        wants_video=True,
        wants_audio=media.audio is not None,
        copied=copied,
    )


def encoder(options: dict[str, Value], video: Video, container: str) -> list[str]:
    """The arguments that encode a picture."""
    codec = str(options.get("codec") or ("vp9" if container == "webm" else "h264"))
    name, *settings = ENCODERS[codec]
    if "bitrate" in options:
        rate = int(options["bitrate"])
        settings = [s for s in settings if s not in ("-b:v", "0")]
        quality = ["-b:v", str(rate), "-maxrate", str(rate * 2), "-bufsize", str(rate * 2)]
    else:
        quality = ["-crf", str(CRF[codec][str(options.get("quality", "medium"))])]
    keys = ["-force_key_frames", "expr:gte(t,n_forced*2)"]
    keys += ["-sc_threshold", "0"] if codec == "h264" else []
    return ["-vf", filters(video, options), "-c:v", name, *settings, *quality, *keys, "-fps_mode", "vfr"]


def audio_plan(options: dict[str, Value], media: Media, path: str) -> Plan:
    """The sound alone, or its waveform's samples."""
    audio = media.audio
    if audio is None:
        raise Unusable("no_audio", "This file has no sound.")
    seek, limit, seconds = span(audio.duration or media.duration, options)
    head = [*HEAD, *source(path, None, seek), "-map", f"0:{audio.index}", "-vn", "-sn", "-dn", *limit, *CLEAN]
    if "waveform" in options:
        samples = [*head, "-ac", "1", "-ar", "8000", "-c:a", "pcm_s16le"]
        return Plan([samples], "s16le", "pcm", seconds)
    wanted, quality = str(options["format"]), str(options.get("quality", "medium"))
    rate = f"{int(options['bitrate'])}" if "bitrate" in options else f"{AAC[quality]}k"
    codecs: dict[str, tuple[str, list[str]]] = {
        "mp3": (
            "mp3",
            [
                "-c:a",
                "libmp3lame",
                *(["-b:a", rate] if "bitrate" in options else ["-q:a", str(MP3[quality])]),
            ],
        ),
        "aac": ("adts", ["-c:a", "aac", "-b:a", rate]),
        "ogg": (
            "ogg",
            [
                "-c:a",
                "libvorbis",
                *(["-b:a", rate] if "bitrate" in options else ["-q:a", str(VORBIS[quality])]),
            ],
        ),
        "opus": ("opus", ["-c:a", "libopus", "-b:a", rate]),
        "wav": ("wav", ["-c:a", "pcm_s16le"]),
        "flac": ("flac", ["-c:a", "flac"]),
    }
    muxer, codec = codecs[wanted]
    limited = ["-ar", "48000"] if wanted in ("mp3", "aac") and audio.rate > 48000 else []
    return Plan([[*head, *codec, *limited, *stereo(media)]], muxer, wanted, seconds, wants_audio=True)


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
        head = [*HEAD, *before, *source(path, video, seek), "-map", f"0:{video.index}", "-an", "-sn", "-dn"]
        return [*head, "-frames:v", "1", "-vf", select + chain, *CLEAN, *encode]

    tries = [shot(None)]
    if start and not still:
        tries = [shot(start), shot(None, f"select='gte(t,{max(0, start - 0.001):.3f})',"), shot(None)]
    elif "start" not in options and not still and length > 1:
        bright = "thumbnail=n=30,"  # the frame nearest to the average: never the black before a title
        tries = [
            shot(length * 0.1 if length > 10 else None, bright, ("-skip_frame", "nokey")),
            shot(None, bright),
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
        *source(path, video),
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
    head = [*HEAD, *source(path, video, seek), "-map", f"0:{video.index}", "-an", "-sn", "-dn", *limit]
    if options["format"] == "webp":
        quality = str(WEBP[str(options.get("quality", "medium"))])
        encode = ["-vf", chain, "-c:v", "libwebp_anim", "-quality", quality, "-loop", "0"]
    else:
        palette = f"{chain},split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse=dither=bayer"
        encode = ["-filter_complex", f"[0:{video.index}]{palette}[v]", "-map", "[v]", "-loop", "0"]
        head = [*HEAD, *source(path, video, seek), "-an", "-sn", "-dn", *limit]
    return Plan(
        [[*head, *CLEAN, *encode]], str(options["format"]), str(options["format"]), seconds, wants_video=True
    )


def hls_plan(options: dict[str, Value], media: Media, path: str) -> Plan:
    """An HLS playlist of one rendition, of 4-second segments; copied where the source already fits."""
    asked = {**options, "format": "mp4"}
    video = video_plan(asked, media, path)
    segments = ["-f", "hls", "-hls_time", "4", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"]
    tries = [[*without_faststart(each), *segments] for each in video.tries]
    return Plan(
        tries, "hls", "m3u8", video.seconds, video.frames, video.wants_video, video.wants_audio, video.copied
    )


def without_faststart(arguments: list[str]) -> list[str]:
    """The same arguments for a muxer that has no `-movflags +faststart`."""
    return [a for a in arguments if a not in ("-movflags", "+faststart")]
