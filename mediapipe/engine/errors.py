"""Why a task fails and why a request is wrong: an error kind of the API and one sentence each. Pure.

It also reads what FFmpeg and PyAV wrote about a file, and says it in those sentences.
"""

from __future__ import annotations

from mediapipe.engine.probe import MAX_PIXELS
from mediapipe.validators import InvalidRequest as InvalidRequest


class OtherWay(Exception):
    """A task is to be done in another way than the one that was tried."""


class NeedsEncode(OtherWay):
    """A task can't be done by a copy alone."""


class Inexact(OtherWay):
    """A film can't be encoded in pieces as it would be in one."""


class TaskError(Exception):
    """The task fails: the API's error kind, one sentence, and what FFmpeg or the reader said of it."""

    def __init__(self, kind: str, message: str, details: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.details = details


class SoundDamaged(TaskError):
    """The sound that was copied can't be decoded: to copy it once more won't help."""


def storage_given_up(refused: str, words: str) -> TaskError:
    """A storage that was waited for in vain; *refused*: what an admin must mend, "" for a mere outage."""
    if not refused:
        return TaskError("storage_unavailable", "The storage couldn’t be used for a day.", words)
    return TaskError("storage_refused", refused, words)


NO_VIDEO = "The file has no video track."
NO_AUDIO = "The file has no audio track."
PICTURE_UNKNOWN = "The picture is in a format that this engine can’t decode"
SOUND_UNKNOWN = "The sound is in a format that this engine can’t decode"
PICTURE_BROKEN = "The picture can’t be decoded"
CONVERT = "Convert it to H.264 with AAC and upload that."
NOTHING_READABLE = "The file opens, but contains no readable video or audio."
TOO_MANY_PIXELS = f"The picture is too large: at most {MAX_PIXELS // 1_000_000} megapixels are accepted."
UNKNOWN_CODEC = "The file uses a codec this engine can’t decode. Convert it to H.264 and upload that."
NOT_CONVERTED = (
    "The picture’s kind can’t be converted by this engine. Export the film as ordinary H.264 and try that."
)
PARTS = (
    "The file is several recordings in a row, which can’t be read as one here: what comes after the first is "
    "missing or out of step. Split it, or convert it to MP4 or WebM, and use that."
)
GOES_ON = (
    "The file says that its sound ends sooner than it does, as where a recorder was stopped without warning. "
    "All of it was taken: listen to the end of it."
)
DOLBY_ALONE = (
    "The film’s colours are for Dolby Vision screens alone (profile 5 or the like), which nothing here can "
    "convert: they’re wrong in the result. Export the film as HDR10 or as ordinary H.264 and use that."
)
CONSTANT_HDR = (
    "The film says that its HDR colours are stored with constant luminance, which can’t be converted here. "
    "They were read as ordinary BT.2020: look whether they’re right."
)
NO_MEMORY = "The file needs more memory than is allowed. It may be damaged."


def from_reader(message: str, *, is_iso: bool = False, is_media: bool = False) -> TaskError:
    """Why a file couldn’t even be opened.

    *message*: PyAV's error; *is_iso*, *is_media*: the file begins as MP4, or another kind of recording, does.
    """
    text = message.lower()
    if "moov atom" in text and is_iso:
        return TaskError(
            "damaged", "The file is incomplete: the upload or the recording stopped before its end.", message
        )
    if is_media and "invalid data" in text:
        return TaskError(
            "damaged",
            "The file begins as a recording does, but the rest can’t be read. It may be cut off or damaged.",
            message,
        )
    if "whitelist" in text:
        return TaskError(
            "invalid_input",
            "This kind of file isn’t accepted here. Upload the recording itself, "
            "or convert it to MP4, MP3 or JPEG first.",
            message,
        )
    if "end of file" in text or "eoferror" in text:
        return TaskError("damaged", "The file ends before there is anything to play.", message)
    if "cannot allocate" in text or "memoryerror" in text:
        return TaskError("too_large", NO_MEMORY, message)
    return TaskError(
        "invalid_input", "This isn’t a video, audio or image file that can be read here.", message
    )


# What FFmpeg says while it works, and what that means: pattern, kind, sentence.
FFMPEG_ERRORS = (
    (
        "no space left on device",
        "no_space",
        "The disk is full. Ask an admin to free disk space, then retry.",
    ),
    ("moov atom not found", "damaged", "The file is incomplete: the recording stopped before its end."),
    ("not on whitelist", "invalid_input", "This kind of file (a playlist or a link) isn’t accepted."),
    ("exceeds specified max pixel count", "too_large", TOO_MANY_PIXELS),
    ("does not contain any stream", "no_audio", NO_AUDIO),
    ("matches no streams", "no_video", NO_VIDEO),
    ("no decoder found", "unsupported", UNKNOWN_CODEC),
    ("error reinitializing filters", "internal_error", NOT_CONVERTED),
    ("no path between colorspaces", "internal_error", NOT_CONVERTED),
    ("nothing was written into output", "damaged", NOTHING_READABLE),
    ("cannot allocate memory", "too_large", NO_MEMORY),
    ("could not open encoder before eof", "damaged", NOTHING_READABLE),
    ("invalid data found when processing input", "damaged", "The file is damaged and can’t be decoded."),
)


DAMAGE = (  # what FFmpeg says of packets that it can't use, in copies too
    "Error submitting packet to decoder",
    "missing picture in access unit",
    "Invalid NAL unit size",
    "] changing packet size to",
    "invalid as first byte of an EBML number",
    "exceeds containing master element",
)


def is_of_damage(line: str) -> bool:
    """Whether a line of FFmpeg's log says that a part of the source was left out."""
    return any(said in line for said in DAMAGE)


def from_ffmpeg(log: str, returncode: int) -> TaskError:
    """Why FFmpeg failed, from its last lines and its exit status."""
    text = log.lower()
    for pattern, kind, sentence in FFMPEG_ERRORS:
        if pattern in text:
            return TaskError(kind, sentence, log)
    if returncode == -25:  # SIGXFSZ
        return TaskError("too_large", "The output grew past the size limit.", log)
    if returncode in (-24, -9):
        return TaskError("killed", "The encoder used too much time or memory and was stopped.", log)
    return TaskError("internal_error", "The encoder failed; its last lines are in the details.", log)
