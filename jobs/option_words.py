"""Options of a stage in words: what each and its values are called, and what was changed. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from jobs.pipelines import Option

FORMAT_NAMES = {"webp": "WebP", "webm": "WebM"}  # others are written in capitals
CODEC_NAMES = {
    "aac": "AAC",
    "av1": "AV1",
    "flac": "FLAC",
    "h264": "H.264",
    "h265": "H.265",
    "hevc": "H.265",
    "mp3": "MP3",
    "mpeg2video": "MPEG-2",
    "mpeg4": "MPEG-4",
    "opus": "Opus",
    "prores": "ProRes",
    "vorbis": "Vorbis",
    "vp8": "VP8",
    "vp9": "VP9",
    "webp": "WebP",
}
LABELS = {  # in the order in which a form shows them
    "format": "Format",
    "codec": "Codec",
    "width": "Width",
    "height": "Height",
    "quality": "Quality",
    "bitrate": "Bit rate",
    "fps": "Frames per second",
    "interval": "Seconds between frames",
    "start": "Start",
    "end": "End",
}


def timecode(seconds: float) -> str:
    """A place in a film that names its very frame: 0:12, 1:02:03.25."""
    whole, fraction = divmod(round(float(seconds) * 1000), 1000)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return text + f".{fraction:03}".rstrip("0") if fraction else text


def value_in_words(name: str, value: Option | None) -> str:
    """The value of the option *name*, like "640 kbit/s"."""
    if value is None:
        return "automatic"
    if name in ("start", "end"):
        return timecode(float(value))
    if name == "format":
        return FORMAT_NAMES.get(str(value), str(value).upper())
    if name == "codec":
        return CODEC_NAMES.get(str(value), str(value))
    if name == "bitrate":
        return f"{float(value) / 1000:g} kbit/s"
    if name in ("width", "height") and not isinstance(value, str):
        return f"{value} px"
    return str(value).replace("_", " ")


def in_words(options: Mapping[str, Option]) -> str:
    """The options that have a name, like "width 640 px, quality high"."""
    shown = (name for name in LABELS if name in options)
    return ", ".join(f"{LABELS[name].lower()} {value_in_words(name, options[name])}" for name in shown)


def changes(before: Mapping[str, Option], after: Mapping[str, Option]) -> str:
    """What is other in *after*, like "width 640 px"; "" where nothing is."""
    other = (name for name in LABELS if before.get(name) != after.get(name))
    return ", ".join(f"{LABELS[name].lower()} {value_in_words(name, after.get(name))}" for name in other)
