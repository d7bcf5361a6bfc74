"""Pictures: upright, square and in right colours, whatever a camera wrote; probed in what was made."""

from __future__ import annotations

import av
import pytest

from mediapipe import storage
from mediapipe.engine.turns import is_mirrored
from tests.support.drawn import Recipe, corners, make, pictures
from tests.support.engine import PICTURE, STAGES, TONE, X264, ask, facts, ffmpeg, light, probe
from tests.support.tiers import further

pytestmark = pytest.mark.anyio


async def test_a_web_safe_source_is_remuxed_and_keeps_its_very_pictures(made):
    source = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    ingest = (await ask(source, *STAGES["ingest"])).output

    def packets(path):
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(video=0) if p.size][:5]

    assert packets(storage.path(ingest["name"])) == packets(source)
    assert ingest["codecs"] == {"video": "h264", "audio": "aac"}
    head = storage.path(ingest["name"]).read_bytes()
    assert head.index(b"moov") < head.index(b"mdat"), "not ready for streaming"


@pytest.mark.parametrize("degrees", [90, 180, further(270)])
async def test_a_turned_film_stands_upright_in_every_output(made, degrees):
    plain = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    source = made(f"turned{degrees}.mp4", "-display_rotation", degrees, "-i", plain, "-c", "copy")
    upright = degrees == 180
    transcode = (await ask(source, "video", {"width": 320})).output
    assert (transcode["width"], transcode["height"]) == ((320, 180) if upright else (320, 568))
    assert facts(transcode)["turned"] == 0
    thumbnail = (await ask(source, *STAGES["thumbnails"])).output
    assert facts(thumbnail)["size"] == ((640, 360) if upright else (360, 640))


FOUR = Recipe("mp4", "libx264", "aac", pictures_apart=30, reordered=0)  # a film of four colours
SEI = ["-c", "copy", "-bsf:v", "h264_metadata=display_orientation=insert:rotate=90"]
ODDLY = {  # how a copy is made of it, and what it is to show from the upper left on, clockwise
    "mirrored.mp4": (["-display_hflip"], ["-c", "copy"], "green red grey blue"),
    "slanted.mp4": (["-display_rotation", "45"], ["-c", "copy"], "red green blue grey"),
    "pictures.mp4": ([], SEI, "green blue grey red"),
    "pictures.ts": ([], SEI, "green blue grey red"),
    "both.mp4": (["-display_rotation", "90"], SEI, "green blue grey red"),
}


@pytest.mark.parametrize(
    "name", [name if name in ("mirrored.mp4", "both.mp4") else further(name) for name in ODDLY]
)
async def test_a_film_that_is_turned_in_an_odd_way_looks_alike_to_every_player(tmp_path, name):
    """Browsers know a container's quarter turns; not what pictures say, and only some know mirroring."""
    before, after, wanted = ODDLY[name]
    source = tmp_path / name
    ffmpeg(*before, "-i", make(FOUR, tmp_path), *after, source)
    for kind, asked in (STAGES["ingest"], STAGES["transcode"], ("image", {"format": "png", "start": 0})):
        done = await ask(source, kind, asked, task=f"{kind}{len(asked)}")
        shown = pictures(storage.path(done.output["name"]))
        assert done.warnings == [] and corners(shown[0][1]) == corners(shown[-1][1]) == wanted.split()
    with probe((await ask(source, *STAGES["ingest"])).output) as copy:
        frames = [frame for frame, _ in zip(copy.decode(video=0), range(3), strict=False)]
    assert len({frame.rotation for frame in frames}) == 1 and not frames[0].rotation % 90
    assert not any(map(is_mirrored, frames))


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
        further("tall.mp4", ["-f", "lavfi", "-i", "testsrc2=s=64x1200:r=10:d=1", *X264], (64, 1200)),
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
        further("anim.gif", ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=10:d=2"], (320, 180)),
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


# a bar that moves by six dots from field to field: where both are in a picture its edges are combs
BAR = "nullsrc=s=720x576:r=50:d=1,geq=lum='if(lt(mod(X-N*6\\,360)\\,60)\\,235\\,16)':cb=128:cr=128"
FIELDS = ["-f", "lavfi", "-i", f"{BAR},tinterlace=interleave_top,setfield=tff"]
INTERLACED = {
    "said.mpg": ["-c:v", "mpeg2video", "-q:v", "3", "-flags", "+ilme+ildct"],
    "container.mov": ["-c:v", "mjpeg", "-pix_fmt", "yuvj422p", "-q:v", "2"],
    "later.ts": [*X264, "-flags", "+ilme+ildct"],
}


@pytest.mark.parametrize("name", ["later.ts", further("said.mpg"), further("container.mov")])
async def test_interlaced_material_is_deinterlaced(made, name):
    """Whether its pictures say it, the container alone, or the first pictures say that they aren't."""
    source = made(name, *FIELDS, *INTERLACED[name])
    if name == "later.ts":
        whole = made("first.ts", "-f", "lavfi", "-i", BAR.replace("r=50", "r=25"), *X264)
        joined = source.with_name("joined.ts")
        ffmpeg("-i", f"concat:{whole}|{source}", "-c", "copy", joined)
        source = joined
    with probe((await ask(source, *STAGES["ingest"])).output) as container:
        for frame in container.decode(video=0):
            rows = frame.reformat(width=720, height=576, format="gray").planes[0]
            assert not frame.interlaced_frame and combs(bytes(rows), rows.line_size) < 3


def combs(plane: bytes, width: int) -> float:
    """How much lines differ from what lies between those above and below them, in the middle of a picture."""
    above, line, below = (plane[(280 + at) * width : (340 + at) * width] for at in (-1, 0, 1))
    differences = [abs(b - (a + c) / 2) for a, b, c in zip(above, line, below, strict=True)]
    return sum(differences) / len(differences)


async def test_transparency_survives_in_a_thumbnail(made):
    graph = "testsrc2=s=320x180:r=30:d=1.2,format=yuva420p,geq=lum='p(X,Y)':a='if(gt(X,W/2),255,40)'"
    encode = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-auto-alt-ref", "0"]
    source = made("alpha.webm", "-f", "lavfi", "-i", graph, *encode)
    for options in (STAGES["thumbnails"][1], {"format": "webp"}):
        made_of_it = (await ask(source, "image", options)).output
        assert facts(made_of_it)["pixels"] in ("yuva420p", "argb", "rgba", "bgra")


async def test_a_start_past_the_end_gives_the_last_frame_and_says_so(made):
    arguments = ["-f", "lavfi", "-i", "color=black:s=160x90:r=10:d=1,geq=lum='20+20*N':cb=128:cr=128"]
    source = made("steps.mp4", *arguments, *X264)
    answer = await ask(source, "image", {"start": 60, "format": "png"})
    assert "only 1.0 s long; this is its last frame" in answer.warnings[0]
    mean, _ = light(storage.path(answer.output["name"]))
    assert mean > 210  # of ten steps the brightest


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
    mean, spread = light(storage.path((await ask(source, "image", {"width": 320})).output["name"]))
    assert mean > 40 and spread > 20


COLOURS = ["-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709"]
RED = [
    "-f",
    "lavfi",
    "-i",
    "color=red:s=1280x720:d=1:r=10,format=rgb24",
    "-vf",
    "scale=out_color_matrix=bt709",
]
UNSAID = ["-bsf:v", "h264_metadata=matrix_coefficients=2:colour_primaries=2:transfer_characteristics=2"]


@pytest.mark.parametrize("said", [True, False], ids=["tagged", "untagged"])
@pytest.mark.parametrize("form", ["jpeg", "webp", "png", "avif"])
async def test_red_in_a_film_is_red_in_its_pictures(made, form, said):
    """Films in HD are BT.709, and so is what says nothing; JPEG and WebP are read as BT.601."""
    source = made(f"red{said}.mp4", *RED, *X264, *(COLOURS if said else UNSAID))
    output = (await ask(source, "image", {"format": form, "width": 320})).output
    with probe(output) as container:
        frame = next(container.decode(video=0))
        if form == "png":
            assert bytes(frame.planes[0])[:3][0] > 245 and max(bytes(frame.planes[0])[1:3]) < 10
            return
        red = (76, 85, 255) if form == "jpeg" else (81, 90, 240)
        found = [bytes(plane)[0] for plane in frame.planes]
    assert all(abs(a - b) <= 3 for a, b in zip(found, red, strict=True)), found


def red(size: str, matrix: str, *said: int) -> list[str]:
    """Red in *matrix*, whose file says these numbers of matrix, primaries and transfer."""
    names = ("matrix_coefficients", "colour_primaries", "transfer_characteristics")
    numbers = ":".join(f"{name}={number}" for name, number in zip(names, said, strict=True))
    graph = f"color=red:s={size}:d=0.2:r=10,format=gbrp,zscale=m={matrix}:r=limited,format=yuv420p"
    return ["-f", "lavfi", "-i", graph, *X264, "-bsf:v", f"h264_metadata={numbers}"]


@pytest.mark.parametrize(
    ("size", "matrix", "said", "tags", "colour"),
    [
        ("1280x720", "bt709", (2, 2, 2), (1, 1, 1), [63, 102, 240]),
        further("1280x544", "bt709", (2, 2, 2), (1, 1, 1), [63, 102, 240]),  # players count its width
        further("1280x720", "bt709", (1, 2, 2), (1, 1, 1), [63, 102, 240]),
        ("1280x720", "bt709", (15, 3, 9), (1, 1, 9), [63, 102, 240]),  # reserved numbers
        ("1280x720", "smpte170m", (6, 6, 6), (6, 6, 6), [81, 90, 240]),
        ("640x360", "smpte170m", (2, 2, 2), (6, 6, 6), [81, 90, 240]),
        further("720x576", "bt470bg", (2, 2, 2), (5, 5, 6), [81, 90, 240]),
        ("320x180", "ycgco", (8, 1, 1), (1, 1, 1), [63, 102, 240]),
    ],
)
async def test_an_output_says_all_of_its_colours_and_looks_like_its_source(
    made, size, matrix, said, tags, colour
):
    """Players guess by the size what is missing, and a small output’s size says another thing."""
    source = made(f"red-{size}-{matrix}-{said}.mp4", *red(size, matrix, *said))
    for kind, asked in (("video", {"width": 320}), ("video", {"width": 160, "format": "webm"})):
        with probe((await ask(source, kind, asked)).output) as container:
            frame = next(container.decode(video=0))
            told = (int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc))
            dots = [bytes(plane)[0] for plane in frame.planes]
        assert told[:2] == tags[:2] and (told[2] == tags[2] or said[2] == 9)
        assert all(abs(a - b) <= 2 for a, b in zip(dots, colour, strict=True)), dots
    with probe((await ask(source, "image", {"format": "png", "start": 0})).output) as container:
        frame = next(container.decode(video=0))
    assert int(frame.color_primaries) not in (5, 6)  # browsers would show it in other colours than the film
    assert bytes(frame.planes[0])[0] > 245 and max(bytes(frame.planes[0])[1:3]) < 10


async def test_a_copy_that_names_its_matrix_names_its_primaries(made):
    source = made("red-bare.mp4", *red("1280x720", "bt709", 1, 2, 2))
    with probe((await ask(source, *STAGES["ingest"])).output) as container:
        frame = next(container.decode(video=0))
    assert (int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc)) == (1, 1, 1)


LAYERED = ["-pix_fmt", "yuva420p", "-c:v", "libx265", "-x265-params", "log-level=none", "-tag:v", "hvc1"]


@pytest.mark.parametrize("codec", [["-c:v", "qtrle"], LAYERED], ids=["its own pixels", "a layer of HEVC"])
async def test_what_is_transparent_shows_the_background_where_a_format_has_no_transparency(made, codec):
    graph = "color=white:s=320x180:r=10:d=1,format=rgba,geq=r=255:g=255:b=255:a='255*gt(X,W/2)'"
    source = made("half.mov", "-f", "lavfi", "-i", graph, *codec)
    asked = {"format": "jpeg", "background": "#00f", "start": 0}
    with probe((await ask(source, "image", asked)).output) as container:
        picture = next(container.decode(video=0)).reformat(format="rgb24")
    row = bytes(picture.planes[0])[picture.planes[0].line_size * 90 :]
    assert max(row[30:32]) < 12 and row[32] > 240 and min(row[3 * 300 : 3 * 300 + 3]) > 240
    with probe((await ask(source, "video", {})).output) as container:
        luma = bytes(next(container.decode(video=0)).planes[0])
    assert luma[10] < 20 and luma[300] > 230


async def test_hdr_that_names_no_primaries_is_processed_too(made):
    source = made(
        "hdr-bare.mp4",
        *["-f", "lavfi", "-i", "testsrc2=s=320x180:r=10:d=0.5", "-c:v", "libx265", "-preset", "ultrafast"],
        *["-x265-params", "log-level=none:transfer=smpte2084", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1"],
    )
    assert facts((await ask(source, "video", {})).output)["pixels"] == "yuv420p"


@pytest.mark.parametrize(
    ("transfer", "unsure"),
    [("bt709", False), ("unknown", False), further("smpte170m", False), ("smpte2084", True)],
    ids=["BT.709", "nothing said", "television", "HDR"],
)
async def test_constant_luminance_is_as_light_as_any_other(made, transfer, unsure):
    """Greys are stored alike in both: they came out lighter, and HDR was said to hold nothing."""
    grey = ["-f", "lavfi", "-i", "color=c=0x606060:s=64x36:r=10:d=1", "-c:v", "ffv1"]
    light_of, notes = [], []
    for matrix in ("bt2020nc", "bt2020c"):
        named = f"setparams=colorspace={matrix}:color_primaries=bt2020:color_trc={transfer}:range=tv"
        source = made(f"{matrix}.mkv", *grey, "-vf", f"format=yuv420p10le,{named}")
        done = await ask(source, *STAGES["transcode"], task=matrix)
        light_of.append(light(storage.path(done.output["name"]))[0])
        notes.append(done.warnings)
    assert abs(light_of[0] - light_of[1]) < 2
    assert notes[0] == [] and [("constant luminance" in each) for each in notes[1]] == [True] * unsure


@pytest.mark.parametrize(
    ("profile", "like", "container", "alone"),
    [(5, 0, "mp4", True), (5, 0, "mkv", True), further(10, 0, "mp4", True), (8, 1, "mp4", False)],
)
async def test_colours_for_dolby_vision_alone_are_told_of(made, tmp_path, profile, like, container, alone):
    """They were handed over green and violet, without a word; profile 8 is HDR10 or SDR for all others."""
    picture = ["-f", "lavfi", "-i", "testsrc2=s=64x36:r=10:d=1", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1"]
    plain = made("plain.mp4", *picture, "-c:v", "libx265", "-x265-params", "log-level=none")
    data = plain.read_bytes()
    *parents, entry = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1")
    record = bytes([1, 0]) + ((profile << 9) | 0b1101).to_bytes(2, "big") + bytes([like << 4, *[0] * 19])
    at = data.index(entry) - 4
    end = at + int.from_bytes(data[at : at + 4], "big")
    grown = bytearray(data[:end] + (32).to_bytes(4, "big") + b"dvcC" + record + data[end:])
    for place in (at, *(data.index(kind) - 4 for kind in parents)):
        grown[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") + 32).to_bytes(4, "big")
    source = tmp_path / "dolby.mp4"
    source.write_bytes(grown)
    if container == "mkv":
        source = made("dolby.mkv", "-i", source, "-c", "copy", "-strict", "unofficial")
    done = await ask(source, *STAGES["transcode"])
    assert ["Dolby Vision" in each for each in done.warnings] == [True] * alone


async def test_raw_dv_keeps_its_frame_rate(made):
    source = made(
        "tape.dv",
        *["-f", "lavfi", "-i", "testsrc2=s=720x576:r=25:d=1", "-pix_fmt", "yuv420p", "-vf", "setsar=16/15"],
    )
    output = (await ask(source, "video", {"width": 320})).output
    assert output["fps"] == 25 and (output["width"], output["height"]) == (320, 240)


async def test_a_recording_that_claims_a_thousand_pictures_a_second_keeps_those_it_has(made):
    """A desktop's recorder: it became sixty a second, most of them the same."""
    burst = "testsrc2=s=320x180:r=1000:d=3,select='lt(mod(n,97),1)'"
    rate = ["-fps_mode", "vfr", "-enc_time_base", "1/1000"]
    source = made("thousand.mkv", "-f", "lavfi", "-i", burst, *TONE, *rate, *X264, "-c:a", "aac", "-t", "3")
    for stage in ("ingest", "transcode"):
        done = await ask(source, *STAGES[stage], task=stage)
        with probe(done.output) as container:
            assert (done.warnings, sum(1 for _ in container.decode(video=0))) == ([], 31)
