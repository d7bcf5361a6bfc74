"""Plans for sound: beside a picture, alone, and its waveform. Pure."""

from __future__ import annotations

from mediapipe.engine.arguments import HEAD, NO_METADATA, Plan, input_arguments, trim
from mediapipe.engine.errors import TaskError
from mediapipe.engine.looks import FOLDED
from mediapipe.engine.media import Audio, Media
from mediapipe.validators import Options

AAC = {"very_low": 64, "low": 96, "medium": 128, "high": 192, "very_high": 256}
MP3 = {"very_low": 7, "low": 5, "medium": 4, "high": 2, "very_high": 0}
VORBIS = {"very_low": 1, "low": 3, "medium": 4, "high": 6, "very_high": 8}
MIN_HOLE = 0.1  # seconds of missing sound that players don’t notice; some play what follows so much too early
IN_STREAMS = ("mpegts", "mpeg", "aac")  # containers in which each packet of AAC says what it is,
FROM_STREAM = ("-bsf:a", "aac_adtstoasc")  # which a segment's may not
PRIMING = 4  # packets of sound before its first sample: more is what somebody has cut out
WAVEFORM_POINTS = 800
# channels that FFmpeg folds to stereo
CHANNELS = {"FL", "FR", "FC", "LFE", "BL", "BR", "BC", "SL", "SR", "FLC", "FRC"}


def sound_arguments(
    options: Options, media: Media, container: str, *, copy: bool = True, padded: bool = True
) -> list[str]:
    """The arguments for a video's sound: copied where it already fits, unless *copy* is False.

    *padded*: with a silence where it begins after the picture.
    """
    audio = media.audio
    kbps = AAC[str(options.get("quality", "medium"))]
    if audio is None:
        return ["-an"]
    if container == "webm":
        return ["-c:a", "libopus", "-b:a", f"{kbps}k", *audio_filters(media, padded=padded)]
    cut = {"start", "end"} & set(options)
    fits = audio.codec == "aac" and audio.profile in ("LC", "") and audio.channels <= 2
    whole = audio.discarded <= PRIMING and abs(audio.missing) <= MIN_HOLE
    whole = whole and not (audio.changes or audio.counted)
    if copy and fits and whole and not cut:
        return ["-c:a", "copy", *(FROM_STREAM if media.format in IN_STREAMS else [])]
    return ["-c:a", "aac", "-b:a", f"{kbps}k", "-ar", "48000", *audio_filters(media, padded=padded)]


def audio_filters(media: Media, *, padded: bool = True) -> list[str]:
    """In step with the picture, at most two channels; folding keeps the loudness and may not clip.

    Where the sound becomes another in the middle (stereo, then 5.1), FFmpeg begins all filters anew: it pads
    once more.
    """
    padded = padded and _is_padded(media)
    # silence where sound is missing: without it, all that follows would come too early
    chain = ["aresample=async=1" + (":first_pts=0" if padded else "")]
    chain += folded(media.audio) if media.audio else []
    return ["-af", ",".join(chain)]


def _is_padded(media: Media) -> bool:
    """Whether its sound is brought in step with a picture."""
    film = media.video is not None and not media.video.cover
    return film and not (media.audio and media.audio.changes)


def folded(audio: Audio) -> list[str]:
    """The filters that make one channel or two of any, wherever these are placed.

    One place alone, and two of another kind, are refused by encoders; FFmpeg folds no ambisonics, leaves out
    what is above, and takes two of many whose places nobody knows.
    """
    count = audio.channels
    if count <= 2:
        usual = {1: ["FC"], 2: ["FL", "FR"]}[count]
        same = "pan=mono|c0=c0" if count == 1 else "pan=stereo|c0=c0|c1=c1"
        return [same] if audio.places not in ([], usual) else []
    limited = "alimiter=limit=0.97:level=disabled"
    if "AMBI0" in audio.places:  # all around, then left less right; after those what stays at the head
        beside = "".join(f"+c{audio.places.index(place)}" for place in ("FL",) if place in audio.places)
        other = "".join(f"+c{audio.places.index(place)}" for place in ("FR",) if place in audio.places)
        return [f"pan=stereo|c0=0.7*c0+0.7*c1{beside}|c1=0.7*c0-0.7*c1{other}", limited]
    if count <= FOLDED and set(audio.places) <= CHANNELS:
        return ["aformat=channel_layouts=stereo", limited]
    others = "".join(f"+0.5*c{number}" for number in range(2, count))
    return [f"pan=stereo|c0=c0{others}|c1=c1{others}", limited]


def audio_plan(options: Options, media: Media, path: str) -> Plan:
    """The sound alone, or its waveform's samples. Raises TaskError."""
    audio = media.audio
    if audio is None:
        raise TaskError("no_audio", media.no_sound)
    # beside a film it ends where it ends there: a silence is put before it, where it begins later
    length = audio.end if _is_padded(media) else audio.duration
    seek, limit, seconds = trim(length or media.duration, options)
    track = ["-map", f"0:{audio.index}", "-vn", "-sn", "-dn"]
    head = [*HEAD, *input_arguments(path, media, seek), *track, *limit, *NO_METADATA]
    if "waveform" in options:
        return waveform_plan(options, head, media, seconds)
    form = str(options["format"])
    muxer, codec = audio_encoder(form, options)
    limited = ["-ar", "48000"] if form in ("mp3", "aac") and audio.rate > 48000 else []
    encoded, plain = ([*head, *codec, *limited, *audio_filters(media, padded=each)] for each in (True, False))
    return Plan([encoded], muxer, form, seconds, wants_audio=True, plain=plain)


def audio_encoder(form: str, options: Options) -> tuple[str, list[str]]:
    """The muxer and the encoder's arguments of an audio format, by `bitrate` or else by `quality`."""
    quality = str(options.get("quality", "medium"))
    given = ["-b:a", str(int(options["bitrate"]))] if "bitrate" in options else []
    rate = given or ["-b:a", f"{AAC[quality]}k"]
    encoders = {
        "mp3": ("mp3", ["-c:a", "libmp3lame", *(given or ["-q:a", str(MP3[quality])])]),
        "aac": ("adts", ["-c:a", "aac", *rate]),
        "ogg": ("ogg", ["-c:a", "libvorbis", *(given or ["-q:a", str(VORBIS[quality])])]),
        "opus": ("opus", ["-c:a", "libopus", *rate]),
        "wav": ("wav", ["-c:a", "pcm_s16le"]),
        "flac": ("flac", ["-c:a", "flac"]),
    }
    return encoders[form]


def waveform_plan(options: Options, head: list[str], media: Media, seconds: float) -> Plan:
    """The peaks of short pieces of the sound, over all channels, as text: no samples are ever stored."""
    points = int(options.get("waveform_points", WAVEFORM_POINTS))
    rate = media.audio.rate if media.audio else 48000
    piece = min(max(int(rate * (seconds or 600) / points / 4), 64), rate)
    measured = "measure_perchannel=none:measure_overall=Peak_level"
    chain = "aresample=async=1:first_pts=0," if media.video and not media.video.cover else ""
    chain += f"asetnsamples=n={piece}:p=0,astats=metadata=1:reset=1:{measured}"
    # a relative name: FFmpeg works in the folder of its output
    chain += ",ametadata=mode=print:key=lavfi.astats.Overall.Peak_level:file=output.txt"
    return Plan([[*head, "-af", chain, "-c:a", "pcm_s16le"]], "null", "txt", seconds, format="json")
