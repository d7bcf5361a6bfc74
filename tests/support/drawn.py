"""Films that are drawn: a recipe, the file that FFmpeg makes of it, and what its picture and sound still say.

The picture has four corners of known colours and turns white at known moments; the sound beeps at the same
ones. What an edit list hides is magenta. So whatever is made of the file can be asked what it still shows.
"""

from __future__ import annotations

import array
import random
import subprocess
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av

from tests.support.product import FFMPEG

MARKS = (0.6, 1.2)  # seconds: white and loud begin
LOUD = 0.13  # seconds that they last
HIDDEN = 0.8  # seconds before the beginning, where something is hidden
HZ = 1000
CORNERS = ("red", "green", "blue", "grey")  # upper left, upper right, lower right, lower left
COLOURS = {"red": (220, 20, 20), "green": (20, 160, 20), "blue": (20, 20, 220), "grey": (110, 110, 110)}
PICTURES = {  # per container: encoders of the picture, and of the sound
    "mp4": (["libx264", "libx265", "mpeg4", "libvpx-vp9", "libsvtav1"], ["aac", "libmp3lame", "ac3", "alac"]),
    "mov": (["libx264", "prores_ks", "mjpeg", "libx265"], ["pcm_s16le", "aac", "pcm_s24le"]),
    "mkv": (
        ["libx264", "libvpx", "libvpx-vp9", "ffv1", "mpeg4", "mpeg2video", "huffyuv"],
        ["aac", "libopus", "libvorbis", "flac", "pcm_s16le", "ac3"],
    ),
    "webm": (["libvpx", "libvpx-vp9", "libsvtav1"], ["libopus", "libvorbis"]),
    "avi": (["mpeg4", "mjpeg", "libx264", "msmpeg4"], ["libmp3lame", "pcm_s16le", "ac3"]),
    "ts": (["libx264", "libx265", "mpeg2video"], ["aac", "mp2", "ac3"]),
    "flv": (["libx264", "flv"], ["aac", "libmp3lame"]),
    "wmv": (["wmv2"], ["wmav2"]),
    "3gp": (["libx264"], ["aac"]),
    "mpg": (["libx264", "mpeg2video"], ["mp2"]),
}
SOUNDS = {
    "mp3": ["libmp3lame"],
    "m4a": ["aac", "alac"],
    "wav": ["pcm_s16le", "pcm_u8", "pcm_f32le"],
    "flac": ["flac"],
    "ogg": ["libvorbis", "libopus"],
    "opus": ["libopus"],
    "aac": ["aac"],
    "wma": ["wmav2"],
    "ac3": ["ac3"],
    "aiff": ["pcm_s16be"],
}
PIXELS = {
    "libx264": ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le"],
    "libx265": ["yuv420p", "yuv420p10le", "yuv422p10le"],
    "libvpx-vp9": ["yuv420p", "yuv444p", "yuv420p10le"],
    "libsvtav1": ["yuv420p", "yuv420p10le"],
    "prores_ks": ["yuv422p10le"],
    "mjpeg": ["yuvj420p", "yuvj422p", "yuvj444p"],
    "ffv1": ["yuv420p", "yuv444p", "bgr0"],
    "huffyuv": ["yuv422p", "rgb24"],
}
ANY_SIDE = {"mpeg4", "libvpx", "libvpx-vp9", "mjpeg", "ffv1", "msmpeg4"}  # take odd ones at 4:2:0
LAYOUTS = {  # of the sound: what each place gets of the beep
    "mono": "pan=mono|c0=c0",
    "stereo": "pan=stereo|c0=c0|c1=c0",
    "right alone": "pan=stereo|c0=0*c0|c1=c0",
    "5.1": "pan=5.1|c0=c0|c1=c0|c2=c0|c3=0.1*c0|c4=0.3*c0|c5=0.3*c0",
    "centre alone": "pan=5.1|c0=0*c0|c1=0*c0|c2=c0|c3=0*c0|c4=0*c0|c5=0*c0",
    "quad": "pan=quad|c0=c0|c1=c0|c2=c0|c3=c0",
    "7.1": "pan=7.1|c0=c0|c1=c0|c2=c0|c3=0*c0|c4=0.2*c0|c5=0.2*c0|c6=c0|c7=c0",
    "three without places": "pan=3c|c0=c0|c1=0.5*c0|c2=c0",
}
FEW = {"libmp3lame": 2, "mp2": 2, "wmav2": 2, "pcm_u8": 2, "alac": 6, "ac3": 6, "libopus": 8, "libvorbis": 6}
CHANNELS = {"mono": 1, "stereo": 2, "right alone": 2, "quad": 4, "7.1": 8, "three without places": 3}
FIXED_RATES = {"mpeg2video": ["24000/1001", "25", "30000/1001", "50"]}


@dataclass(frozen=True)
class Recipe:
    """How a file is made; its repr is what a failing example is reported by."""

    container: str
    picture: str = ""  # the encoder; "" where there is none
    sound: str = ""
    size: tuple[int, int] = (160, 90)
    rate: str = "25"
    pixels: str = "yuv420p"
    sar: str = "1/1"
    turn: int = 0
    interlaced: bool = False
    pictures_apart: int = 25  # a keyframe every so many
    reordered: int = 2  # B-frames
    late_picture: float = 0.0  # seconds after the sound
    late_sound: float = 0.0
    hidden: bool = False  # an edit list hides the first seconds
    layout: str = "stereo"
    sample_rate: int = 48000
    length: float = 1.8
    matrix: str = ""  # colour tags
    also: str = ""  # another track
    damage: str = ""
    number: int = 0

    @property
    def shape(self) -> float:
        """Width by height, as it is to be seen."""
        ratio = self.size[0] * Fraction(self.sar) / self.size[1]
        return float(1 / ratio if self.turn % 180 else ratio)

    @property
    def step(self) -> float:
        """Seconds from picture to picture."""
        return float(1 / Fraction(self.rate))

    @property
    def marks(self) -> tuple[float, ...]:
        """The marks that lie in both tracks."""
        return tuple(mark for mark in MARKS if mark + LOUD < self.length)


def recipe(number: int) -> Recipe:
    """The file of that number: any that FFmpeg can make."""
    chance = random.Random(number)

    def one_of(values):
        return chance.choice(list(values))

    common = {"length": one_of([1.8, 1.5, 2.1]), "number": number}
    common["damage"] = one_of(["", "", "", "", "", "cut off", "flipped"])
    if not chance.randrange(8):
        container = one_of(SOUNDS)
        return replace(_sounding(one_of, one_of(SOUNDS[container]), Recipe(container)), **common)
    container = one_of(PICTURES)
    pictures, sounds = PICTURES[container]
    picture = one_of(pictures)
    pixels = one_of(PIXELS.get(picture, ["yuv420p"]))
    odd = picture in ANY_SIDE or "444" in pixels or pixels in ("bgr0", "rgb24")
    sizes = [(160, 90), (128, 96), (96, 170), (320, 180), (200, 64)]
    interlaced = picture in ("libx264", "mpeg2video") and pixels == "yuv420p" and not chance.randrange(3)
    drawn = Recipe(
        container,
        picture,
        size=(320, 180) if interlaced else one_of(sizes + ([(161, 91), (97, 131), (160, 91)] if odd else [])),
        rate=one_of(FIXED_RATES.get(picture, ["25", "10", "12", "24000/1001", "30", "50", "60", "15"])),
        pixels=pixels,
        sar=one_of(["1/1", "1/1", "4/3", "8/9", "2/1"])
        if picture in ("libx264", "libx265", "mpeg4")
        else "1/1",
        turn=one_of([0, 0, 90, 180, 270]) if container in ("mp4", "mov") else 0,
        interlaced=interlaced,
        pictures_apart=one_of([25, 5, 250]),
        reordered=one_of([2, 0, 3]),
        matrix=one_of(["", "bt709", "smpte170m"]),
        **common,
    )
    if chance.randrange(6):
        drawn = _sounding(one_of, one_of(sounds), drawn)
        which = one_of(["", "", "picture", "sound"])
        if which and container in ("mp4", "mov", "mkv", "ts"):
            drawn = replace(drawn, **{f"late_{which}": one_of([0.2, 0.45])})
    if container in ("mp4", "mov") and drawn.picture not in ("mjpeg", "prores_ks"):
        drawn = replace(drawn, hidden=one_of([False, False, False, True]))
    if container in ("mkv", "mp4") and drawn.sound:
        others = ["", "", "a silent sound", "a subtitle", *(["a cover"] if container == "mp4" else [])]
        drawn = replace(drawn, also=one_of(others))
    return drawn


def _sounding(one_of, encoder: str, recipe: Recipe) -> Recipe:
    most = FEW.get(encoder, 8)
    layouts = [name for name in LAYOUTS if CHANNELS.get(name, 6) <= most]
    if not encoder.startswith("pcm"):
        layouts.remove("three without places") if "three without places" in layouts else None
    if encoder in ("alac", "flac", "libopus", "libvorbis", "ac3") or recipe.container in (
        "wav",
        "aiff",
        "mov",
        "aac",
        "ts",
    ):
        layouts = [name for name in layouts if name not in ("7.1", "quad")]
    if encoder == "libopus":
        rates = [48000]
    elif recipe.container == "flv":
        rates = [44100, 22050]
    else:
        rates = [48000, 44100, 32000] + (
            [22050] if encoder in ("aac", "pcm_s16le", "flac", "libvorbis") else []
        )
    return replace(recipe, sound=encoder, layout=one_of(layouts), sample_rate=one_of(rates))


def make(recipe: Recipe, folder: Path) -> Path:
    """The file."""
    whole = folder / f"whole.{recipe.container}"
    before = HIDDEN if recipe.hidden else 0.0
    inputs, maps = [], []
    if recipe.picture:
        inputs += ["-f", "lavfi", "-i", _picture(recipe, before)]
        maps += ["-map", "0:v", *_picture_arguments(recipe)]
    if recipe.sound:
        inputs += ["-f", "lavfi", "-i", _sound(recipe, before)]
        maps += ["-map", f"{int(bool(recipe.picture))}:a", "-c:a", recipe.sound]
        maps += ["-filter:a:0", f"atrim=start={recipe.late_sound}"] if recipe.late_sound else []
    count = bool(recipe.picture) + bool(recipe.sound)
    if recipe.also == "a silent sound":
        inputs += ["-f", "lavfi", "-i", f"anullsrc=r=48000:cl=stereo:d={recipe.length + before}"]
        maps += ["-map", f"{count}:a", "-disposition:a:0", "default", "-disposition:a:1", "0"]
    elif recipe.also == "a subtitle":
        (folder / "s.srt").write_text("1\n00:00:00,500 --> 00:00:40,000\nHello\n")
        inputs += ["-i", folder / "s.srt"]
        maps += ["-map", f"{count}:s", "-c:s", "mov_text" if recipe.container == "mp4" else "srt"]
    elif recipe.also == "a cover":
        cover = folder / "cover.jpg"
        _run("-f", "lavfi", "-i", "color=c=orange:s=400x400", "-frames:v", "1", cover)
        inputs += ["-i", cover]
        maps += ["-map", f"{count}:v", "-c:v:1", "copy", "-disposition:v:1", "attached_pic"]
    _run(*inputs, *maps, "-strict", "-2", whole)
    path = folder / f"drawn.{recipe.container}"
    if recipe.hidden or recipe.turn:
        seek = ["-ss", f"{HIDDEN}"] if recipe.hidden else []
        turn = ["-display_rotation:v:0", recipe.turn] if recipe.turn else []
        _run(*turn, *seek, "-i", whole, "-map", "0", "-c", "copy", "-strict", "-2", path)
    else:
        whole.rename(path)
    _damage(recipe, path)
    return path


def _run(*arguments) -> None:
    command = [FFMPEG, "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


def _during(before: float) -> str:
    return "+".join(f"between(t,{before + mark - 0.002},{before + mark + LOUD})" for mark in MARKS)


def _picture(recipe: Recipe, before: float) -> str:
    width, height = recipe.size
    left, upper = width // 2, height // 2
    places = ((0, 0), (left, 0), (left, upper), (0, upper))
    boxes = [
        f"drawbox=x={x}:y={y}:w={width - left}:h={height - upper}:t=fill:c=0x{bytes(COLOURS[name]).hex()}"
        for (x, y), name in zip(places, CORNERS, strict=True)
    ]
    chain = [
        f"color=c=black:s={width}x{height}:r={recipe.rate}:d={recipe.length + before},format=gbrp",
        *boxes,
        f"drawbox=t=fill:c=white:enable='{_during(before)}'",
        *([f"drawbox=t=fill:c=magenta:enable='lt(t,{before - 0.002})'"] if before else []),
        *(["setfield=tff"] if recipe.interlaced else []),
        f"setsar={recipe.sar}",
    ]
    if recipe.matrix and recipe.pixels.startswith("yuv"):
        chain.append(f"scale=out_color_matrix={recipe.matrix}")
    return ",".join([*chain, f"format={recipe.pixels}"])


def _sound(recipe: Recipe, before: float) -> str:
    tone = f"aevalsrc='if({_during(before)},0.6*sin(2*PI*{HZ}*t),0)'"
    chain = [f"{tone}:s={recipe.sample_rate}:d={recipe.length + before}", LAYOUTS[recipe.layout]]
    return ",".join(chain)


def _picture_arguments(recipe: Recipe) -> list[str]:
    own = {
        "libx264": ["-preset", "ultrafast", "-bf", str(recipe.reordered)],
        "libx265": ["-preset", "ultrafast", "-x265-params", "log-level=none"],
        "libsvtav1": ["-preset", "10"],
        "libvpx": ["-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"],
        "libvpx-vp9": ["-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"],
    }.get(recipe.picture, ["-q:v", "3"])
    interlaced = ["-flags", "+ildct+ilme"] if recipe.interlaced else []
    tags = ["-colorspace", recipe.matrix] if recipe.matrix and recipe.pixels.startswith("yuv") else []
    tags += ["-filter:v:0", f"trim=start={recipe.late_picture}"] if recipe.late_picture else []
    every = ["-g", str(recipe.pictures_apart), "-fps_mode", "passthrough"]
    return ["-c:v:0", recipe.picture, *own, *interlaced, *tags, *every]


def _damage(recipe: Recipe, path: Path) -> None:
    data = bytearray(path.read_bytes())
    if recipe.damage == "cut off":
        data = data[: len(data) * 2 // 3]
    elif recipe.damage == "flipped":
        chance = random.Random(recipe.number)
        for _ in range(8):
            data[chance.randrange(len(data) // 4, len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def pictures(path: Path) -> list[tuple[float, bytes]]:
    """Of each picture its time, and 16 by 16 dots of red, green and blue, as it is to be seen."""
    shown = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            small = frame.reformat(width=16, height=16, format="rgb24")
            plane = small.planes[0]
            data = bytes(plane)
            rows = [data[row * plane.line_size : row * plane.line_size + 48] for row in range(16)]
            shown.append((float(frame.time or 0), turned(b"".join(rows), frame.rotation % 360)))
    return shown


def turned(picture: bytes, degrees: int) -> bytes:
    """The 16 by 16 dots, turned counter-clockwise."""
    for _ in range(degrees // 90):
        picture = b"".join(bytes(dot(picture, 15 - y, x)) for y in range(16) for x in range(16))
    return picture


def dot(picture: bytes, x: int, y: int) -> tuple[int, int, int]:
    """One of the 16 by 16."""
    at = (y * 16 + x) * 3
    return picture[at], picture[at + 1], picture[at + 2]


def flashes(shown: list[tuple[float, bytes]]) -> list[float]:
    """When the picture gets white."""
    white = [(at, all(min(dot(picture, x, y)) > 150 for x, y in PLACES)) for at, picture in shown]
    before = [False, *(is_white for _, is_white in white)]
    return [at for (at, now), was in zip(white, before, strict=False) if now and not was]


PLACES = ((3, 3), (12, 3), (12, 12), (3, 12))  # the middles of the corners, clockwise


def corners(picture: bytes) -> list[str]:
    """The nearest of our colours in each corner; another one's numbers where none is near."""
    named = []
    for x, y in PLACES:
        seen = dot(picture, x, y)
        near, name = min(
            (max(abs(a - b) for a, b in zip(seen, colour, strict=True)), name)
            for name, colour in COLOURS.items()
        )
        named.append(name if near <= 60 else ",".join(map(str, seen)))
    return named


def beeps(path: Path) -> tuple[list[float], float, float]:
    """When the sound gets loud after a quiet, the pitch of the first time, and how long the sound is."""
    rate = 16000
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    samples, begins = array.array("h"), None
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0) if container.streams.audio else ():
            begins = float(frame.time or 0) if begins is None else begins
            for part in resampler.resample(frame):
                samples.frombytes(bytes(part.planes[0])[: part.samples * 2])
    step = rate // 200
    loud = [max(map(abs, samples[at : at + step])) > 1500 for at in range(0, len(samples) - step, step)]
    times = [at for at, now in enumerate(loud) if now and not any(loud[max(0, at - 30) : at])]
    pitch = 0.0
    if times:
        part = samples[(times[0] + 4) * step : (times[0] + 16) * step]
        crossings = sum(a < 0 <= b for a, b in pairwise(part))
        pitch = crossings / (len(part) / rate)
    return [(begins or 0) + at / 200 for at in times], pitch, len(samples) / rate
