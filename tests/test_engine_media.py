"""Any real file in, right outputs out: the engine's work on real FFmpeg, checked by probing what it made."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import av
import pytest

from mediapipe import files
from mediapipe.engine import options, work
from mediapipe.engine.media import Unusable
from tests.conftest import SHARED
from tests.product import FFMPEG

pytestmark = pytest.mark.anyio
STAGES = {
    "ingest": ("video", {"format": "mp4", "quality": "high"}),
    "thumbnails": ("image", {"width": 640, "format": "webp", "start": 2}),
    "audio": ("audio", {"format": "mp3", "quality": "high"}),
    "transcode": ("video", {"width": 1280, "format": "mp4", "codec": "h264", "quality": "medium"}),
}
PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=30:d=4"]
TONE = ["-f", "lavfi", "-i", "sine=440:d=4"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


def ffmpeg(*arguments) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A maker of clips: each is made once."""
    folder = tmp_path_factory.mktemp("made")

    def make(name: str, *arguments) -> Path:
        path = folder / name
        if not path.exists():
            ffmpeg(*arguments, path)
        return path

    return make


async def ask(source: Path | str, kind: str, asked: dict, task: str = "t") -> work.Made:
    """What the engine makes of a file that was uploaded."""
    if isinstance(source, Path):
        name = f"sources/{task}/source{source.suffix if source.suffix.isascii() else '.bin'}"
        target = files.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.write_bytes(source.read_bytes())
        source = files.signed_url(name)

    async def room(wanted: int) -> None:
        return None

    try:
        return await work.work(task, kind, options.check_options(kind, asked), source, lambda *_: None, room)
    finally:
        work.clear(task)


def probe(output: dict):
    return av.open(str(files.path(output["name"])))


def facts(output: dict) -> dict:
    with probe(output) as container:
        video = next(iter(container.streams.video), None)
        audio = next(iter(container.streams.audio), None)
        frame = next(container.decode(video)) if video else None
        return {
            "size": (frame.width, frame.height) if frame else None,
            "turned": frame.rotation % 180 if frame else 0,
            "pixels": video and video.codec_context.pix_fmt,
            "video": video and video.codec_context.name,
            "sar": float(video.sample_aspect_ratio or 1) if video else 1,
            "audio": audio and audio.codec_context.name,
            "channels": audio and audio.codec_context.layout.nb_channels,
            "duration": (container.duration or 0) / 1e6,
            "metadata": {**container.metadata, **(video.metadata if video else {})},
            "corrupt": bool(frame and frame.is_corrupt),
        }


def light(path: Path) -> tuple[float, float]:
    """Mean and spread of a picture's brightness, 0 to 255."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).reformat(format="gray", width=64, height=36)
        values = list(bytes(frame.planes[0]))
    mean = sum(values) / len(values)
    return mean, (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5


def loudness(path: Path) -> float:
    """Integrated loudness in LUFS (EBU R 128)."""
    done = subprocess.run(
        [
            FFMPEG,
            "-nostdin",
            "-hide_banner",
            "-i",
            path,
            "-map",
            "0:a:0",
            "-af",
            "ebur128=framelog=quiet",
            "-f",
            "null",
            "-",
        ],
        capture_output=True,
        text=True,
    )
    line = next(line for line in done.stderr.splitlines() if line.strip().startswith("I:"))
    return float(line.split()[1])


# --- right outputs ------------------------------------------------------------------------------


async def test_a_web_safe_source_is_remuxed_and_keeps_its_very_pictures(made):
    source = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    ingest = (await ask(source, *STAGES["ingest"])).output

    def packets(path):
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(video=0) if p.size][:5]

    assert packets(files.path(ingest["name"])) == packets(source)
    assert ingest["codecs"] == {"video": "h264", "audio": "aac"}
    head = files.path(ingest["name"]).read_bytes()
    assert head.index(b"moov") < head.index(b"mdat"), "not ready for streaming"


@pytest.mark.parametrize("degrees", [90, 180, 270])
async def test_a_turned_film_stands_upright_in_every_output(made, degrees):
    plain = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    source = made(f"turned{degrees}.mp4", "-display_rotation", degrees, "-i", plain, "-c", "copy")
    upright = degrees == 180
    transcode = (await ask(source, "video", {"width": 320})).output
    assert (transcode["width"], transcode["height"]) == ((320, 180) if upright else (320, 568))
    assert facts(transcode)["turned"] == 0
    thumbnail = (await ask(source, *STAGES["thumbnails"])).output
    assert facts(thumbnail)["size"] == ((640, 360) if upright else (360, 640))


@pytest.mark.parametrize(
    ("name", "arguments", "size"),
    [
        (
            "odd.mp4",
            ["-f", "lavfi", "-i", "testsrc2=s=641x361:r=30:d=1", *X264[:4], "-pix_fmt", "yuv444p"],
            (640, 360),
        ),
        (
            "anamorphic.mpg",
            ["-f", "lavfi", "-i", "testsrc2=s=720x576:r=25:d=1", "-vf", "setsar=64/45", "-c:v", "mpeg2video"],
            (1024, 576),
        ),
        ("tiny.mp4", ["-f", "lavfi", "-i", "testsrc2=s=2x2:r=30:d=1", *X264], (2, 2)),
        ("tall.mp4", ["-f", "lavfi", "-i", "testsrc2=s=64x1200:r=10:d=1", *X264], (64, 1200)),
        (
            "rgb.mkv",
            ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", "-c:v", "ffv1", "-pix_fmt", "gbrp"],
            (320, 180),
        ),
        (
            "gray16.mkv",
            ["-f", "lavfi", "-i", "testsrc2=s=320x180:d=1", "-c:v", "ffv1", "-pix_fmt", "gray16le"],
            (320, 180),
        ),
        ("anim.gif", ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=10:d=2"], (320, 180)),
        ("one.mp4", ["-f", "lavfi", "-i", "testsrc2=s=640x360:r=30", "-frames:v", "1", *X264], (640, 360)),
        ("fast.mp4", ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=240:d=1", *X264], (320, 180)),
    ],
)
async def test_every_shape_of_picture_becomes_square_pixels_of_even_sides(made, name, arguments, size):
    source = made(name, *arguments)
    output = (await ask(source, *STAGES["transcode"])).output
    found = facts(output)
    assert found["size"] == size == (output["width"], output["height"])
    assert found["pixels"] == "yuv420p" and found["sar"] == 1
    assert (output["fps"] or 0) <= 60.5
    await ask(source, *STAGES["thumbnails"])


async def test_high_dynamic_range_is_tone_mapped_and_not_grey(made):
    colours = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    tags = ["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc"]
    source = made(
        "hdr.mp4",
        *["-f", "lavfi", "-i", "testsrc2=s=640x360:r=30:d=1", "-c:v", "libx265", "-preset", "ultrafast"],
        *["-x265-params", f"log-level=none:{colours}", "-pix_fmt", "yuv420p10le", *tags, "-tag:v", "hvc1"],
    )
    output = (await ask(source, *STAGES["ingest"])).output
    with probe(output) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        assert stream.codec_context.pix_fmt == "yuv420p" and int(frame.color_trc) not in (16, 18)
        small = frame.reformat(width=64, height=36, format="rgb24")
        pixels = bytes(small.planes[0])
        colour = [max(pixels[i : i + 3]) - min(pixels[i : i + 3]) for i in range(0, 64 * 36 * 3 - 3, 3)]
    assert sum(colour) / len(colour) > 40


async def test_interlaced_material_is_deinterlaced(made):
    source = made(
        "interlaced.mpg",
        *[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=720x576:r=50:d=1",
            "-vf",
            "tinterlace=interleave_top,setfield=tff",
        ],
        *["-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-b:v", "6M"],
    )
    output = (await ask(source, *STAGES["ingest"])).output
    with probe(output) as container:
        assert not next(container.decode(video=0)).interlaced_frame


async def test_transparency_survives_in_a_thumbnail(made):
    graph = "testsrc2=s=320x180:r=30:d=1,format=yuva420p,geq=lum='p(X,Y)':a='if(gt(X,W/2),255,40)'"
    encode = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0"]
    source = made("alpha.webm", "-f", "lavfi", "-i", graph, *encode)
    assert facts((await ask(source, *STAGES["thumbnails"])).output)["pixels"] in (
        "yuva420p",
        "argb",
        "rgba",
        "bgra",
    )


@pytest.mark.parametrize(
    ("name", "streams", "codec"),
    [
        ("several.mkv", ["-f", "lavfi", "-i", "sine=300:d=4", "-map", "0", "-map", "1"], ["-c:a", "aac"]),
        ("surround.mkv", ["-map", "0", "-map", "1", "-ac", "6"], ["-c:a", "ac3"]),
    ],
)
async def test_sound_is_stereo_at_most_and_as_loud_as_before(made, name, streams, codec):
    source = made(name, *PICTURE, *TONE, *streams, *X264, *codec)
    audio = (await ask(source, *STAGES["audio"])).output
    assert facts(audio)["channels"] <= 2
    assert abs(loudness(files.path(audio["name"])) - loudness(source)) < 2
    assert abs(audio["duration"] - 4) < 0.1


async def test_places_and_names_are_removed_from_copies_too(made):
    source = made(
        "gps.mp4",
        *[*PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac", "-metadata", "location=+48.8566+002.3522/"],
        *["-metadata", "title=secret title", "-metadata", "comment=home"],
    )
    ingest = (await ask(source, *STAGES["ingest"])).output
    data = files.path(ingest["name"]).read_bytes()
    assert b"48.8566" not in data and b"secret title" not in data


async def test_a_start_past_the_end_gives_the_nearest_frame_and_says_so(made):
    source = made("short.mp4", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", *X264)
    answer = await ask(source, "image", {"start": 60})
    assert answer.output["width"] == 320 and "only 1.0 s long" in answer.warnings[0]


async def test_without_start_a_thumbnail_is_not_the_black_before_the_title(made):
    source = made(
        "black.mp4",
        *[
            "-f",
            "lavfi",
            "-i",
            "color=black:s=640x360:r=30:d=6",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=640x360:r=30:d=4",
        ],
        *["-filter_complex", "[0][1]concat=n=2", *X264],
    )
    mean, spread = light(files.path((await ask(source, "image", {"width": 320})).output["name"]))
    assert mean > 40 and spread > 20


async def test_a_video_without_sound_and_sound_without_a_picture_say_so(made):
    silent = made("silent.mp4", *PICTURE, *X264, "-an")
    with pytest.raises(Unusable, match="no sound") as caught:
        await ask(silent, *STAGES["audio"])
    assert caught.value.kind == "no_audio"
    cover = made("cover.png", "-f", "lavfi", "-i", "testsrc2=s=300x300:d=0.04", "-frames:v", "1")
    tone = made("tone.mp3", *TONE)
    song = made(
        "song.mp3",
        "-i",
        tone,
        "-i",
        cover,
        "-map",
        "0",
        "-map",
        "1",
        "-c",
        "copy",
        "-disposition:v",
        "attached_pic",
    )
    assert (await ask(song, *STAGES["ingest"], task="s")).output["codecs"] == {"video": None, "audio": "aac"}
    with pytest.raises(Unusable, match="sound only") as caught:
        await ask(song, *STAGES["transcode"], task="s")
    assert caught.value.kind == "no_video"


async def test_what_is_cut_off_is_processed_and_flagged(made, tmp_path):
    source = made("long.mkv", *PICTURE, *TONE, *X264, "-g", "30", "-c:a", "aac")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    answer = await ask(cut, *STAGES["transcode"])
    assert 1 < answer.output["duration"] < 3.5
    assert "cut off or damaged at 0:" in answer.warnings[0]


@pytest.mark.parametrize(
    ("kind", "asked", "form", "codec"),
    [
        ("video", {"format": "webm", "width": 320}, "matroska,webm", "vp9"),
        ("video", {"codec": "h265", "width": 320}, "mov,mp4,m4a,3gp,3g2,mj2", "hevc"),
        ("video", {"codec": "av1", "width": 320}, "mov,mp4,m4a,3gp,3g2,mj2", "libdav1d"),
        ("video", {"format": "mov", "start": 1, "end": 2.5, "fps": 10}, "mov,mp4,m4a,3gp,3g2,mj2", "h264"),
        ("image", {"format": "png", "width": "50%"}, "png_pipe", "png"),
        ("image", {"format": "avif", "width": 320}, "mov,mp4,m4a,3gp,3g2,mj2", "libdav1d"),
        ("animation", {"format": "gif", "end": 2, "width": 160}, "gif", "gif"),
    ],
)
async def test_each_format_holds_the_codec_that_suits_it(made, kind, asked, form, codec):
    source = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    output = (await ask(source, kind, asked)).output
    with probe(output) as container:
        assert container.format.name == form and container.streams.video[0].codec_context.name == codec
        if "end" in asked:
            assert abs((container.duration or 0) / 1e6 - (asked["end"] - asked.get("start", 0))) < 0.2


@pytest.mark.parametrize("form", options.FORMATS["audio"])
async def test_every_audio_format_plays_for_its_whole_length(made, form):
    source = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    output = (await ask(source, "audio", {"format": form})).output
    assert facts(output)["audio"] and abs(output["duration"] - 4) < 0.2


async def test_previews_beyond_the_four(made):
    source = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    sprite = (await ask(source, "image", {"width": 160, "format": "webp", "interval": 1})).output
    cues = files.path(sprite["vtt_name"]).read_text().split("\n\n")
    assert cues[0] == "WEBVTT" and len([c for c in cues if "-->" in c]) == 4
    assert sprite["width"] == 1600 and "#xywh=160,0,160,90" in cues[2]
    wave = (await ask(source, "audio", {"waveform": "json", "waveform_points": 100})).output
    peaks = json.loads(files.path(wave["name"]).read_text())["peaks"]
    assert 90 <= len(peaks) <= 101 and max(peaks) > 0.05
    moving = (await ask(source, "animation", {"width": 320, "format": "webp", "end": 2, "fps": 10})).output
    assert (moving["width"], moving["height"], moving["format"]) == (320, 180, "webp")
    hls = (await ask(source, "adaptive_video", {})).output
    with probe(hls) as container:
        assert abs(container.duration / 1e6 - 4) < 0.3


# --- safe ---------------------------------------------------------------------------------------


@pytest.fixture
def listener():
    """A server that nothing may connect to."""
    seen: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.2)
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            try:
                connection, address = server.accept()
            except TimeoutError:
                continue
            seen.append(address)
            connection.close()

    thread = threading.Thread(target=listen)
    thread.start()
    yield server.getsockname()[1], seen
    stop.set()
    thread.join()
    server.close()


SCRIPTS = {
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{url}\n#EXT-X-ENDLIST\n",
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile '{secret}'\nfile '{url}'\n",
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="{url}"/></svg>',
    "stream.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 15004 RTP/AVP 96\n",
    "list.mp4": "[playlist]\nFile1={url}\n",
    "page.mp4": "<!doctype html><html><body>404 Not Found</body></html>",
    "notes.mp4": "these are notes\n" * 50,
    "program.mp4": "\x7fELF\x02\x01\x01" + "\0" * 500,
    "lut.vpy": "import os\nos.system('touch PWNED')\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_script_posing_as_media_reaches_no_file_and_no_address(tmp_path, listener, name):
    port, seen = listener
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET-TOKEN\n" * 20)
    script = tmp_path / name
    script.write_text(SCRIPTS[name].format(url=f"http://127.0.0.1:{port}/x.ts", secret=secret))
    for stage in ("ingest", "thumbnails", "audio"):
        with pytest.raises(Unusable) as caught:
            await ask(script, *STAGES[stage])
        assert caught.value.kind == "invalid_input"
        assert "SECRET" not in f"{caught.value}{caught.value.details}"
        assert str(tmp_path) not in caught.value.details
    assert seen == []


async def test_the_cage_keeps_a_program_from_files_and_addresses(tmp_path, listener):
    from mediapipe.engine.run import caged

    port, seen = listener
    (tmp_path / "secret.txt").write_text("SECRET")
    probe = (
        "import socket, sys\n"
        f"try: print(open({str(tmp_path / 'secret.txt')!r}).read())\n"
        "except OSError as e: print('file', type(e).__name__)\n"
        f"try: socket.create_connection(('127.0.0.1', {port}), 2); print('connected')\n"
        "except OSError as e: print('net', type(e).__name__)\n"
        f"try: open({str(tmp_path / 'made')!r}, 'w'); print('wrote')\n"
        "except OSError as e: print('write', type(e).__name__)\n"
    )
    own = [sys.prefix, sys.base_prefix]
    done = subprocess.run(
        caged([sys.executable, "-I", "-S", "-c", probe], read=own, write=[], cpu=10),
        capture_output=True,
        text=True,
    )
    assert done.stdout.split("\n")[:3] == [
        "file PermissionError",
        "net PermissionError",
        "write PermissionError",
    ], done.stdout + done.stderr
    assert seen == []


async def test_odd_names_are_only_names(made, tmp_path):
    plain = made("short.mp4", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", *X264)
    for name in (
        "-y.mp4",
        "pipe:0.mp4",
        "http:__x.mp4",
        "new\nline.mp4",
        "a:b|c;$(touch x)`id`'q\".mp4",
        "ü😀.mp4",
    ):
        odd = tmp_path / name
        odd.write_bytes(plain.read_bytes())
        files_name = f"sources/odd/{name}"
        target = files.path(files_name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(plain.read_bytes())
        assert (await ask(files.signed_url(files_name), *STAGES["ingest"])).output["width"] == 320


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:1/a.mp4", "source_refused"),
        ("http://localhost/a.mp4", "source_refused"),
        ("http://[::1]/a.mp4", "source_refused"),
        ("http://[::ffff:10.0.0.1]/a.mp4", "source_refused"),
        ("http://169.254.169.254/latest/meta-data", "source_refused"),
        ("http://2130706433/a.mp4", "source_refused"),
        ("http://user:pw@example.org/a.mp4", "source_refused"),
        ("http://no-such-host.invalid/a.mp4", "source_refused"),
    ],
)
async def test_a_private_address_is_never_asked(url, kind, settings):
    settings.ALLOW_PRIVATE_SOURCES = False
    with pytest.raises(Unusable) as caught:
        await ask(url, *STAGES["ingest"])
    assert caught.value.kind == kind


# --- the shared set -----------------------------------------------------------------------------

MANIFEST = SHARED / "media" / "manifest.json"
DEV = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else []
UNREADABLE = {"chunk_out_of_range.mp4": "invalid_input", "sample_fragmented_widevine.mp4": "protected"}
CUT = {"sintel_video_frag.mp4"}  # its header promises far more than there is


@pytest.mark.media
@pytest.mark.skipif(not DEV, reason="the shared media set is not here")
@pytest.mark.parametrize("entry", DEV, ids=[entry["name"] for entry in DEV])
async def test_a_real_file_goes_through_all_four_stages(entry):
    source = SHARED / "media" / "dev" / entry["name"]
    if kind := UNREADABLE.get(entry["name"]):
        with pytest.raises(Unusable) as caught:
            await ask(source, *STAGES["ingest"])
        assert caught.value.kind == kind
        return
    ingest = await ask(source, *STAGES["ingest"], task="ingest")
    url = files.signed_url(ingest.output["name"])
    length = (
        min(float(entry["duration"]), ingest.output["duration"])
        if entry["name"] in CUT
        else float(entry["duration"])
    )
    assert abs(ingest.output["duration"] - length) < max(0.5, 0.02 * length)
    if not entry["video"]:
        for stage in ("thumbnails", "transcode"):
            with pytest.raises(Unusable, match="sound only"):
                await ask(url, *STAGES[stage], task=stage)
    else:
        width, height = map(int, entry["video"].split()[1].split("x"))
        turned = int(entry["rotation"]) % 180 == 90
        shown = ingest.output["width"] / ingest.output["height"]
        assert (shown > 1) == ((width < height) if turned else (width > height)) or abs(shown - 1) < 0.1
        transcode = (await ask(url, *STAGES["transcode"], task="transcode")).output
        found = facts(transcode)
        assert found["video"] == "h264" and found["pixels"] == "yuv420p" and found["sar"] == 1
        assert transcode["width"] == min(1280, ingest.output["width"])
        assert abs(transcode["duration"] - ingest.output["duration"]) < max(0.5, 0.02 * length)
        thumbnail = (await ask(url, *STAGES["thumbnails"], task="thumb")).output
        assert thumbnail["format"] == "webp" and thumbnail["width"] == min(640, ingest.output["width"])
        chosen = (await ask(url, "image", {"width": 320}, task="chosen")).output
        mean, spread = light(files.path(chosen["name"]))
        assert mean > 25 or spread > 8 or mean >= light(files.path(thumbnail["name"]))[0] - 1, (
            "a black picture"
        )
    if ingest.output["codecs"]["audio"]:
        audio = (await ask(url, *STAGES["audio"], task="audio")).output
        assert facts(audio)["audio"] in ("mp3", "mp3float")
        assert abs(loudness(files.path(audio["name"])) - loudness(source)) < 2
    else:
        with pytest.raises(Unusable, match="no sound"):
            await ask(url, *STAGES["audio"], task="audio")


HOSTILE = SHARED / "media" / "broken" / "gen_mal.py"
GOOD = {
    "-y.mp4",
    "base.mp4",
    "base.ts",
    "http:__x.mp4",
    "img%03d.png",
    "new\nline.mp4",
    "pipe:0.mp4",
    "ünï😀.mp4",
}
PROCESSED = GOOD | {
    "a:b|c;d $(touch x)`id`'q\".mp4",
    "dims_65000.mp4",  # its header lies, its pictures do not
    "tiny_1000fps.avi",
    "wav_4g_claim.wav",
    "silence_24h.flac",
}


@pytest.mark.media
@pytest.mark.skipif(not HOSTILE.exists(), reason="the generator of hostile inputs is not here")
async def test_hostile_inputs_are_refused_with_a_sentence_and_leave_nothing(tmp_path, listener):
    port, seen = listener
    made = subprocess.run([sys.executable, HOSTILE, tmp_path / "mal", FFMPEG, str(port)], capture_output=True)
    assert made.returncode == 0, made.stderr
    refused, processed = {}, set()
    for path in sorted((tmp_path / "mal").iterdir()):
        if path.name == "silence_24h.flac":
            continue  # a day of silence is a right file, and takes minutes
        try:
            await ask(path, *STAGES["ingest"], task=f"m{len(refused) + len(processed)}")
            processed.add(path.name)
        except Unusable as error:
            refused[path.name] = error
    assert processed <= PROCESSED and processed >= GOOD
    for name, error in refused.items():
        assert error.kind in ("invalid_input", "damaged", "too_large", "unsupported"), name
        assert str(error).endswith(".") and "SECRET" not in f"{error}{error.details}", name
    assert seen == []
    assert not Path("PWNED").exists()
