"""Strange and wrong times in files: pictures and sound come when they should all the same."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from mediapipe import storage
from tests.support.drawn import Recipe, beeps, flashes, make, pictures
from tests.support.engine import STAGES, TONE, X264, ask, ffmpeg
from tests.support.tiers import further

pytestmark = pytest.mark.anyio
STREAM = ("adaptive_video", {"format": "hls"})
FILM = Recipe("mp4", "libx264", "aac", pictures_apart=250, reordered=3)


async def comes_at(source: Path, marks: list[float], seconds: float) -> None:
    """Whatever is made of it shows and says what it did at these moments, and is as long, without a word."""
    for kind, options in (STAGES["ingest"], STAGES["transcode"], STREAM):
        done = await ask(source, kind, options, task=f"{kind}{len(options)}")
        assert done.warnings == [] and done.output["duration"] == pytest.approx(seconds, abs=0.1)
        path = storage.path(done.output["name"])
        shown = pictures(path)
        times = [at for at, _ in shown]
        assert all(one < other for one, other in pairwise(times)), times
        assert [at - times[0] for at in flashes(shown)] == pytest.approx(marks, abs=0.05)
        assert beeps(path)[0] == pytest.approx(flashes(shown), abs=0.05)
    alone = storage.path((await ask(source, *STAGES["audio"])).output["name"])
    assert beeps(alone)[0] == pytest.approx(marks, abs=0.08)


def cut_out(path: Path, begin: float, end: float) -> None:
    """Has each track's edit list leave out what lies between two moments."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"moov")
    all_scale = struct.unpack_from(">I", data, data.index(b"mvhd", at) + 16)[0]
    while (at := data.find(b"elst", at + 1)) > 0:
        scale = struct.unpack_from(">I", data, data.index(b"mdhd", at) + 16)[0]
        length, first = struct.unpack_from(">Ii", data, at + 12)
        parts = (
            (round(begin * all_scale), first),
            (length - round(end * all_scale), first + round(end * scale)),
        )
        entries = b"".join(struct.pack(">IiI", *part, 1 << 16) for part in parts)
        data[at + 8 : at + 24] = struct.pack(">I", len(parts)) + entries
        for parent in (at, at - 8, data.rindex(b"trak", 0, at), data.rindex(b"moov", 0, at)):
            struct.pack_into(">I", data, parent - 4, struct.unpack_from(">I", data, parent - 4)[0] + 12)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "recipe",
    [FILM, further(Recipe("mov", "prores_ks", "pcm_s16le")), further(replace(FILM, pictures_apart=5))],
    ids=lambda recipe: f"{recipe.picture} {recipe.pictures_apart}",
)
async def test_what_follows_a_piece_that_an_edit_list_cuts_out_comes_when_it_should(tmp_path, recipe):
    """Packets that are decoded for others lie behind a cut, with earlier times: no clock was set back."""
    source = make(recipe, tmp_path)
    cut_out(source, 0.8, 1.1)
    await comes_at(source, [0.6, 0.9], 1.5)


@pytest.mark.parametrize("endless", ["all", further("the picture's")])
async def test_an_edit_without_a_length_lasts_to_the_end(tmp_path, endless):
    source = make(FILM, tmp_path)
    data = bytearray(source.read_bytes())
    at = data.rindex(b"moov")
    while (at := data.find(b"elst", at + 1)) > 0 and (endless == "all" or b"vmhd" in data[at : at + 400]):
        struct.pack_into(">I", data, at + 12, 0)
    source.write_bytes(data)
    await comes_at(source, [0.6, 1.2], 1.8)


@pytest.mark.parametrize("container", ["mp4", further("mxf")])
async def test_pictures_of_which_nobody_says_when_they_are_shown_keep_their_order(tmp_path, container):
    """Not copied either: B-frames would be shown when they were stored."""
    source = make(FILM, tmp_path)
    if container == "mp4":
        data = bytearray(source.read_bytes())
        data[(at := data.index(b"ctts")) : at + 4] = b"free"
        struct.pack_into(">I", data, data.index(b"elst") + 16, 0)
        source.write_bytes(data)
    else:  # FFmpeg's own says it of MPEG-2 alone
        ffmpeg("-i", source, "-c:v", "copy", "-c:a", "pcm_s16le", source := tmp_path / "untimed.mxf")
    await comes_at(source, [0.6, 1.2], 1.8)


async def test_slides_stay_as_long_as_they_did_though_they_are_stored_long_before(made):
    """Four times three seconds: no mistake, where pictures stand so long."""
    slides = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=1/3:d=12", "-f", "lavfi", "-i", "sine=440:d=12"]
    source = made("slides.mp4", *slides, *X264, "-bf", "3", "-b_strategy", "0", "-c:a", "aac")
    done = await ask(source, *STAGES["ingest"])
    shown = [at for at, _ in pictures(storage.path(done.output["name"]))]
    assert (done.warnings, shown) == ([], pytest.approx([0, 3, 6, 9], abs=0.01))


async def test_a_picture_that_comes_after_many_seconds_is_as_usual_as_any(made):
    """FFmpeg looks five seconds into a file for what kind its pictures are."""
    late = ["-vf", "trim=start=6", "-fps_mode", "passthrough"]
    film = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=8", "-f", "lavfi", "-i", "sine=440:d=8"]
    source = made("late-picture.mp4", *film, *late, *X264, "-g", "25", "-c:a", "aac")
    done = await ask(source, *STAGES["ingest"])
    assert done.warnings == [], "some players may refuse it"
    assert storage.path(done.output["name"]).stat().st_size == pytest.approx(source.stat().st_size, rel=0.05)


SMALL = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=4", *TONE]
MPEG4 = ["-c:v", "mpeg4", "-c:a", "libmp3lame"]
THREE_HOURS = {  # how the file is made, behind which mark its length stands, and the length
    "claims.mkv": ([*X264, "-c:a", "aac"], b"\x44\x89\x88", struct.pack(">d", 10864000)),
    "claims.flv": ([*X264, "-c:a", "aac"], b"duration\0", struct.pack(">d", 10864)),
    "claims.avi": (MPEG4, b"vidsFMP4" + bytes(12) + struct.pack("<III", 1, 25, 0), struct.pack("<I", 271600)),
}


@pytest.mark.parametrize("name", [name if name == "claims.mkv" else further(name) for name in THREE_HOURS])
async def test_a_length_that_a_whole_file_claims_wrongly_is_no_damage(made, tmp_path, name):
    """One that is cut off doesn't end where its container says."""
    encode, mark, claim = THREE_HOURS[name]
    data = bytearray(made(name, *SMALL, *encode).read_bytes().replace(b"00:00:04.", b"03:01:04."))
    at = data.index(mark) + len(mark)
    data[at : at + len(claim)] = claim
    whole = tmp_path / name
    whole.write_bytes(data)
    done = await ask(whole, *STAGES["ingest"], task="whole")
    assert done.warnings == [] and done.output["duration"] == pytest.approx(4, abs=0.15)
    cut = whole.with_stem("cut")
    cut.write_bytes(data[: len(data) * 2 // 3])
    assert "stops or is damaged" in " ".join((await ask(cut, *STAGES["ingest"], task="cut")).warnings)


async def test_what_a_container_says_of_the_whole_is_not_said_of_a_track_that_begins_late(made):
    """WMV: the picture would be as long as the film, and the film longer than its last packet."""
    late = ["-vf", "trim=start=1.2", "-fps_mode", "passthrough"]
    source = made("late.wmv", *SMALL, *late, "-c:v", "wmv2", "-c:a", "wmav2")
    done = await ask(source, *STAGES["ingest"])
    assert done.warnings == [] and done.output["duration"] == pytest.approx(4, abs=0.1)


async def test_pictures_that_a_recorder_left_out_are_none_that_are_missing(made):
    """AVI has an empty chunk for each, and counts them."""
    source = made("empty.avi", *SMALL, "-vf", "trim=start=1.5", "-fps_mode", "passthrough", *MPEG4)
    assert (await ask(source, *STAGES["ingest"])).warnings == []


async def test_pictures_that_an_edit_list_cuts_out_are_not_missed_and_others_are(tmp_path):
    """FFmpeg doesn't find what some pictures of H.265 are made of, where it goes back to a keyframe."""
    source = make(Recipe("mp4", "libx265", "aac"), tmp_path)
    cut_out(source, 0.8, 1.1)
    (warning,) = (await ask(source, *STAGES["ingest"])).warnings
    assert warning.startswith("The source has 37 pictures by its own account, the result ")


@pytest.mark.parametrize(
    ("rate", "container", "codecs"),
    [
        ("1/5", "ts", [*X264, "-c:a", "aac"]),
        further("1/3", "ts", [*X264, "-c:a", "aac"]),
        further("1/3", "asf", ["-c:v", "wmv2", "-c:a", "wmav2"]),
    ],
)
async def test_a_film_of_a_picture_every_few_seconds_has_those_pictures_and_no_others(
    made, rate, container, codecs
):
    """Two thousand were made of eight, or it was said to be longer than its source, or damaged."""
    slides = ["-f", "lavfi", "-i", f"testsrc2=s=320x180:r={rate}:d=40", "-f", "lavfi", "-i", "sine=440:d=40"]
    source = made(f"slides.{container}", *slides, *codecs)
    theirs = [at for at, _ in pictures(source)]
    for stage in ("ingest", "transcode"):
        done = await ask(source, *STAGES[stage], task=stage)
        ours = [at for at, _ in pictures(storage.path(done.output["name"]))]
        assert done.warnings == []
        assert [at - ours[0] for at in ours] == pytest.approx([at - theirs[0] for at in theirs], abs=0.05)


@pytest.mark.parametrize("moment", ["near", "exact"])
async def test_a_thumbnail_shows_the_picture_that_stands_at_its_moment(made, moment):
    """The one after it was taken, seconds later, where a picture stands for long."""
    light = ["-f", "lavfi", "-i", "color=white:s=64x36:r=25:d=1"]
    grey = ["-f", "lavfi", "-i", "color=gray:s=64x36:r=1/9:d=18"]
    slides = made("slides.mp4", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=1/5:d=20", *X264)
    paused = made(
        "paused.mp4",
        *[*light, *grey, "-filter_complex", "[0][1]concat=n=2,fps=25,select='lt(t,1)+gt(t,9)'"],
        *["-fps_mode", "vfr", *X264],
    )
    shown = {round(at): dots for at, dots in pictures(slides)}
    for start, begins in ((2, 0), (7.5, 5), (14.9, 10)):
        asked = {"format": "png", "start": start, "moment": moment}
        done = await ask(slides, "image", asked, task=f"slides{begins}")
        dots = pictures(storage.path(done.output["name"]))[0][1]
        unlike = {at: sum(abs(a - b) for a, b in zip(dots, each, strict=True)) for at, each in shown.items()}
        assert min(unlike, key=lambda at: unlike[at]) == begins
    done = await ask(paused, "image", {"format": "png", "start": 5, "moment": moment}, task="paused")
    assert min(pictures(storage.path(done.output["name"]))[0][1]) > 240


async def test_an_ogg_film_whose_sound_begins_late_is_not_cut_off(made):
    """FFmpeg counts the time before such a sound twice."""
    both = ["-f", "lavfi", "-i", "testsrc2=s=64x36:r=25:d=6", "-itsoffset", "1.3", *TONE]
    source = made("late.ogv", *both, "-c:v", "libtheora", "-c:a", "libopus")
    done = await ask(source, *STAGES["ingest"])
    assert done.warnings == [] and abs(done.output["duration"] - 6) < 0.2


@pytest.mark.parametrize("rate", ["1", further("1/5")])
async def test_an_avi_of_a_picture_every_few_seconds_shows_them_when_it_stored_them(made, rate):
    """What FFmpeg says of H.264 in AVI is a picture late, which is seen where that is a second."""
    film = ["-f", "lavfi", "-i", f"testsrc2=s=160x90:r={rate}", "-frames:v", "10", *X264, "-bf", "0"]
    done = await ask(made("film.avi", *film), *STAGES["ingest"])
    step = float(1 / Fraction(rate))
    assert done.warnings == []
    shown = pictures(storage.path(done.output["name"]))
    assert [at for at, _ in shown] == pytest.approx([step * number for number in range(10)])


async def test_sound_whose_packets_say_one_time_again_and_again_is_counted(tmp_path):
    """FFmpeg writes fragments of a packet so, and reads every second packet as one to be left out."""
    whole = make(replace(FILM, reordered=2), tmp_path)
    source = tmp_path / "fragments.mp4"
    flags = ["-movflags", "frag_every_frame+empty_moov+default_base_moof"]
    ffmpeg("-i", whole, *X264, "-bf", "3", "-c:a", "aac", *flags, source)
    for stage in ("ingest", "audio"):
        done = await ask(source, *STAGES[stage], task=stage)
        at, pitch, seconds = beeps(storage.path(done.output["name"]))
        assert done.warnings == []
        assert at == pytest.approx(FILM.marks, abs=0.1) and pitch == pytest.approx(1000, abs=40)
        assert seconds == pytest.approx(FILM.length, abs=0.2)


async def test_sound_whose_packets_all_say_the_same_time_is_counted(made):
    source = made("speech.rm", *TONE, "-c:a", "real_144", "-ar", "8000", "-ac", "1")
    done = await ask(source, *STAGES["audio"])
    assert done.warnings == []
    assert beeps(storage.path(done.output["name"]))[2] == pytest.approx(4, abs=0.2)
