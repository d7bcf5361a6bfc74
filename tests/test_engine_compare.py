"""Every output is compared with its source; files that FFmpeg makes wrong on purpose are found out."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from mediapipe import storage
from mediapipe.engine import prober, segments, verify
from mediapipe.engine.arguments import Plan
from mediapipe.engine.compare import Difference, Part, instead, is_alike
from mediapipe.engine.errors import TaskError
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.plan import SEGMENTS
from tests.support.drawn import beeps, dot, pictures
from tests.support.engine import PICTURE, STAGES, X264, ask, facts, ffmpeg
from tests.support.tiers import further

pytestmark = pytest.mark.anyio
FAST = ["-movflags", "+faststart"]
# A bar goes to the right before a still: to compute every point of every picture took twenty times as long.
STILL = "color=s=320x180:r=25:d=0.04,geq=lum='30+Y/4':cb=128:cr=128,loop=149:1,setpts=N/25/TB"
BAR = "color=white:s=80x119:r=25:d=6"
MOVING = "overlay=x=floor(W*t/6)-39:y=61:format=yuv444,format=yuv420p"
FILM = [
    *["-f", "lavfi", "-i", f"{STILL}[still];{BAR}[bar];[still][bar]{MOVING}"],
    *["-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*440*t)*(between(t,0.6,2.5)+between(t,3.5,3.9))':d=6"],
    *[*X264, "-g", "50", "-c:a", "aac", *FAST],
]
WRONG = {
    "as it is": (["-c", "copy"], ""),
    "encoded anew": ([*X264, "-crf", "30", "-c:a", "aac"], ""),
    "half as large": (["-vf", "scale=160:90", *X264], ""),
    "black": (["-vf", "drawbox=t=fill:c=black", *X264], "show what the source shows"),
    "another film": (["-vf", "negate", *X264], "show what the source shows"),
    "mirrored": (["-vf", "hflip", *X264], "show what the source shows"),
    "upside down": (["-vf", "vflip", *X264], "show what the source shows"),
    "two seconds late": (["-vf", "tpad=start=50", "-t", "6", *X264], "show what the source shows"),
    "squeezed": (["-vf", "scale=180:180,setsar=1", *X264], "the shape"),
    "turned": (["-vf", "transpose", *X264], "the shape"),
    "silent": (["-c:v", "copy", "-af", "volume=0"], "sound can’t be heard"),
    "late sound": (["-c:v", "copy", "-af", "adelay=500:all=1", "-t", "6"], "begins about 0.5 s too late"),
    "a hum": (
        ["-c:v", "copy", "-af", "aeval=0.1*sin(2*PI*100*t),pan=mono|c0=c0"],
        "where the source is silent",
    ),
    "longer": (["-vf", "tpad=stop=50", "-af", "apad=pad_dur=2", *X264], "is longer than the source"),
    "few pictures": (["-r", "10", *X264], "has 150 pictures by its own account"),
    "4:4:4": (["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p"], "players may refuse"),
    "index at the end": (["-c", "copy", "-movflags", "0"], "only once it is loaded whole"),
    "marked as HDR": (["-vf", "setparams=color_trc=smpte2084", *X264], "HDR"),
}


async def compared(source, target, *, copied=False, options=None, took=1.0, begun=None) -> list[Difference]:
    """What the engine says of *target* as an output made of *source*."""
    medias = (await prober.probe(source, "--gap"), await prober.probe(target))
    plan = Plan([[]], "mp4", "mp4", medias[0].duration, wants_video=True)
    asked = {"format": "mp4", **(options or {})}
    given = (asked, plan, (source, target), medias, took)
    return await verify.differences(*given, copied=copied, begun=begun)


@pytest.mark.parametrize("how", WRONG)
async def test_an_output_that_is_not_its_source_is_found_out_and_one_that_is_passes(made, tmp_path, how):
    source = made("compare_film.mp4", *FILM)
    arguments, sentence = WRONG[how]
    target = tmp_path / "made.mp4"
    ffmpeg("-i", source, *FAST, *arguments, target)
    found = [each.sentence for each in await compared(source, target)]
    assert found == [] if not sentence else any(sentence in each for each in found), found


@pytest.mark.parametrize(
    "how", ["as it is", further("encoded anew"), "another film", "silent", further("late sound")]
)
async def test_of_a_film_of_three_seconds_fewer_moments_tell_as_much(made, tmp_path, how):
    source, target = tmp_path / "source.mp4", tmp_path / "made.mp4"
    ffmpeg("-i", made("compare_film.mp4", *FILM), "-t", "3", *X264, "-c:a", "aac", *FAST, source)
    arguments, sentence = WRONG[how]
    ffmpeg("-i", source, *FAST, *arguments, "-t", "3", target)
    found = [each.sentence for each in await compared(source, target)]
    assert found == [] if not sentence else any(sentence in each for each in found), found


@pytest.mark.parametrize("how", ["as it is", "another film", "two seconds late", "late sound"])
async def test_a_copy_is_compared_by_its_sources_keyframes_alone(made, tmp_path, how):
    source = made("compare_film.mp4", *FILM)
    arguments, sentence = WRONG[how]
    target = tmp_path / "made.mp4"
    ffmpeg("-i", source, *FAST, *arguments, target)
    medias = (await prober.probe(source, "--gap"), await prober.probe(target))
    plan = Plan([[]], "mp4", "mp4", medias[0].duration, wants_video=True, wants_audio=True)
    begun = verify.Looks({}, plan, (source, target), medias[0], by_keys=True)
    begun.begin()
    shown = [each[0][0] for each in (await begun.looking)["pictures"]]
    assert shown == [2.0, 4.0, 0.0, 0.0, 4.0], "they are two seconds apart"
    given = ({"format": "mp4"}, plan, (source, target), medias, 1.0)
    found = [each.sentence for each in await verify.differences(*given, copied=True, begun=begun)]
    assert found == [] if not sentence else any(sentence in each for each in found), found


async def test_a_short_film_is_compared_by_keyframes_too_where_it_has_several(made):
    media = await prober.probe(made("compare_film.mp4", *FILM), "--gap")
    cases = (
        (6.0, 2.0, False, True),
        (6.0, 6.0, True, False),
        (20.0, 2.0, False, False),
        (20.0, 2.0, True, True),
    )
    for seconds, gap, copied, asked in cases:
        source = replace(media, video=replace(media.video, gap=gap))
        plan = Plan([[]], "mp4", "mp4", seconds, wants_video=True)
        looks = verify.Looks({}, plan, (Path(), Path()), source, by_keys=copied)
        assert looks.asked["keys"] == asked, (seconds, gap, copied)


STREAMED = {
    "encoded anew": "",
    "another film": "show what the source shows",
    "two seconds late": "show what the source shows",
    "squeezed": "the shape",
    "silent": "sound can’t be heard",
    "late sound": "s too late in the result",
}


@pytest.mark.parametrize("how", [how if at < 3 else further(how) for at, how in enumerate(STREAMED)])
async def test_a_stream_is_compared_with_its_source_as_one_file_is(made, tmp_path, how):
    source = made(
        "compare_long.mp4", "-stream_loop", "1", "-i", made("compare_film.mp4", *FILM), "-c", "copy"
    )
    made_of_it, playlist = tmp_path / "made.mp4", tmp_path / "index.m3u8"
    ffmpeg(
        "-i",
        source,
        *[each.replace("6", "12") if each == "6" else each for each in WRONG[how][0]],
        made_of_it,
    )
    ffmpeg("-i", made_of_it, "-c", "copy", *SEGMENTS, playlist)
    medias = (await prober.probe(source, "--gap"), await segments.read_stream(playlist, False))
    plan = Plan([[]], "hls", "m3u8", medias[0].duration, wants_video=True, layout="folder")
    given = ({"format": "mp4"}, plan, (source, playlist), medias, 1.0)
    found = [each.sentence for each in await verify.differences(*given, copied=False)]
    assert found == [] if not STREAMED[how] else any(STREAMED[how] in each for each in found), found
    assert not list(tmp_path.glob("tmp*")), "what was put together to be looked at is gone"


async def test_a_stream_of_sound_alone_begins_where_its_source_does(made):
    late = "aevalsrc='0.5*sin(2*PI*440*t)*between(t,0.5,6)':d=6"
    sound = made("late.wma", "-f", "lavfi", "-i", late)
    assert (await ask(sound, "adaptive_video", {"format": "hls"})).warnings == []


async def test_the_plain_try_of_a_stream_makes_a_stream(made, tmp_path):
    source = made("compare_film.mp4", *FILM)
    media = await prober.probe(source, "--gap")
    plan = KINDS["adaptive_video"].plan({"format": "hls"}, media, str(source))
    ffmpeg(*plan.plain[plan.plain.index("-i") :], tmp_path / "index.m3u8")
    assert (await segments.read_stream(tmp_path / "index.m3u8", False)).duration == pytest.approx(6, abs=0.1)


async def test_a_source_that_is_looked_at_beside_its_encode_is_not_looked_at_again(made, tmp_path):
    source = made("compare_film.mp4", *FILM)
    media = await prober.probe(source, "--gap")
    target = tmp_path / "black.mp4"
    ffmpeg("-i", source, *FAST, *WRONG["black"][0], target)
    plan = Plan([[]], "mp4", "mp4", media.duration, wants_video=True, wants_audio=True)
    begun = verify.Looks({}, plan, (source, target), media)
    begun.begin()
    assert await compared(source, target, begun=begun) == await compared(source, target) != []
    begun.looking = asyncio.ensure_future(asyncio.sleep(0, None))
    assert await compared(source, target, begun=begun) == []


async def test_an_output_that_is_looked_at_while_it_is_read_back_is_looked_at_again_only_if_it_is_another(
    made, tmp_path
):
    source = made("compare_film.mp4", *FILM)
    media = await prober.probe(source, "--gap")
    right, black = tmp_path / "right.mp4", tmp_path / "black.mp4"
    for target, how in ((right, "encoded anew"), (black, "black")):
        ffmpeg("-i", source, *FAST, *WRONG[how][0], target)
    plan = Plan([[]], "mp4", "mp4", media.duration, wants_video=True, wants_audio=True)
    begun = verify.Looks({}, plan, (source, right), media)
    begun.follow(1.0, copied=False)
    assert await compared(source, black, begun=begun) == [], "what was seen early counts"
    silent = tmp_path / "silent.mp4"
    ffmpeg("-i", black, "-c", "copy", "-an", *FAST, silent)
    assert await compared(source, silent, begun=begun) != [], "it has no sound, as the plan said it would"


def test_all_of_a_short_film_is_listened_to():
    for seconds in (1.0, 2.0, 2.1, 3.0, 6.0):
        end = 0.0
        for at, length in Part(0, seconds).places(0.0):
            assert at <= end + 1
            end = max(end, at + length)
        assert end >= min(seconds, 0.9 * seconds)


@pytest.mark.parametrize("keys", ["250", "50"])
async def test_pictures_whose_times_fall_back_are_found_out(made, tmp_path, keys):
    coded = ["-c:v", "libx264", "-bf", "3", "-g", keys, "-pix_fmt", "yuv420p"]
    source = made(f"compare_untimed_{keys}.avi", *FILM[:4], *coded)
    target = tmp_path / "copied.mp4"
    ffmpeg("-fflags", "+genpts", "-i", source, "-c", "copy", *FAST, target)
    assert any("follow each other" in each.sentence for each in await compared(source, target, copied=True))


async def test_the_part_that_was_asked_for_is_what_is_compared(made, tmp_path):
    source = made("compare_film.mp4", *FILM)
    for start, right in ((2, True), (4, False)):
        target = tmp_path / f"from{start}.mp4"
        ffmpeg("-ss", start, "-i", source, "-t", "2", *X264, "-c:a", "aac", *FAST, target)
        medias = (await prober.probe(source, "--gap"), await prober.probe(target))
        plan = Plan([[]], "mp4", "mp4", 2.0, wants_video=True)
        asked = {"format": "mp4", "start": 2.0, "end": 4.0}
        found = await verify.differences(asked, plan, (source, target), medias, 1.0, copied=False)
        assert (not found) == right, found


async def test_turned_tone_mapped_late_and_wide_films_are_what_their_sources_are(made, tmp_path):
    film = made("compare_film.mp4", *FILM)
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation:v:0", "90", "-i", film, "-c", "copy", turned)
    flipped = tmp_path / "flipped.mp4"
    ffmpeg("-display_hflip:v:0", "-i", film, "-c", "copy", flipped)
    wide = tmp_path / "wide.mp4"
    ffmpeg("-i", film, "-vf", "setsar=2", *X264, "-c:a", "copy", wide)
    hdr = tmp_path / "hdr.mkv"
    colours = ["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc"]
    ffmpeg("-i", film, "-pix_fmt", "yuv420p10le", "-c:v", "ffv1", *colours, hdr)
    late = tmp_path / "late.ts"
    ffmpeg("-i", film, "-filter:v", "trim=start=0.6", *X264, late)
    for source in (turned, flipped, wide, hdr, late):
        done = await ask(source, *STAGES["transcode"], task=source.stem)
        target = storage.path(done.output["name"])
        assert [each.sentence for each in await compared(source, target)] == [], source.name


def test_a_copy_that_differs_is_encoded_and_an_encode_plainly_once():
    copy, encode, plain = ["copy"], ["encode"], ["plain"]
    mild, grave = Difference("The sound begins late."), Difference("It is black.", grave=True)
    assert instead([], [copy, encode], plain, copied=True) == []
    assert instead([mild], [copy, encode], plain, copied=True) == [encode]
    assert instead([mild], [encode], plain, copied=False) == []
    assert instead([grave], [encode], plain, copied=False) == [plain]
    with pytest.raises(TaskError, match="It is black"):
        instead([grave], [plain], plain, copied=False)


def test_pictures_are_alike_whatever_their_light_but_not_whatever_they_show():
    one = bytes(range(0, 256, 8)) * 18
    assert is_alike(one, bytes(each // 2 + 60 for each in one))
    assert not is_alike(one, one[::-1]) and not is_alike(one, bytes(576))
    assert is_alike(bytes(576), bytes([9]) * 576) and not is_alike(bytes(576), bytes([200]) * 576)


@pytest.mark.parametrize("seconds", [2.003, 3.0, 60.0])
def test_sound_is_compared_within_the_film_alone(seconds):
    """What encoders leave behind a sound that is cut off was called sound that the source hasn’t."""
    places = Part(1.0, seconds).places(0.0)
    assert len(places) >= 2 and max(at + each for at, each in places) <= seconds + 0.001


BEEP = ["-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*440*t)*lt(mod(t+0.8,1),0.2)':s={0}:d=4"]


async def test_what_an_encoder_puts_before_a_sound_is_not_taken_for_a_late_sound(made):
    """An MP3 of 8 kHz has 0.14 s of it, which its header tells players to leave out."""
    source = made("compare_low.wav", *[each.format(8000) for each in BEEP], "-ac", "1")
    assert (await ask(source, *STAGES["audio"])).warnings == []


@pytest.mark.parametrize("container", ["mp4", further("mkv")])
async def test_a_sound_that_begins_after_its_picture_does_so_in_a_file_of_its_own(made, container):
    """Its silence was called a fault, and left out."""
    tracks = [*PICTURE, *[each.format(48000) for each in BEEP]]
    late = [*tracks, "-af", "atrim=start=1.1", *X264, "-c:a", "aac"]
    done = await ask(made(f"compare_late.{container}", *late), *STAGES["audio"])
    assert done.warnings == [] and abs(done.output["duration"] - 4) < 0.1
    assert [round(at, 1) for at in beeps(storage.path(done.output["name"]))[0]] == [1.2, 2.2, 3.2]


async def test_a_film_that_begins_below_zero_is_compared_from_its_beginning(made):
    """Cut without encoding by a tool that leaves the times as they fall: Matroska may count from -0.75 s."""
    whole = made("compare_whole.mkv", *PICTURE, *[each.format(48000) for each in BEEP], *X264, "-c:a", "aac")
    below = ["-ss", "0.5", "-i", whole, "-c", "copy", "-avoid_negative_ts", "disabled"]
    source = made("compare_below.mkv", *below)
    assert (await prober.probe(source)).start < -0.2
    assert (await ask(source, *STAGES["ingest"])).warnings == []


async def test_looking_stops_when_its_share_of_the_processor_is_used_up(made):
    source = made("compare_film.mp4", *FILM)
    asked = {"video": 0, "audio": None, "moments": [1.0, 2.0, 3.0], "places": [], "around": 0.0, "start": 0.0}
    asked |= {
        "crop": [],
        "turn": 0,
        "late": 0.0,
        "keys": False,
    }  # a budget of 0 could last until the clock's next tick
    assert all((await prober.looks(source, budget=60, **asked))["pictures"])
    assert [bool(each) for each in (await prober.looks(source, budget=-1, **asked))["pictures"]] == [1, 0, 0]
    far = asked | {"moments": [3.9, 2.0, 0.1], "around": 0.15}  # its keyframes are two seconds apart
    assert (await prober.looks(source, budget=-1, **far))["pictures"][:2] == [None, None]
    assert (await prober.looks(source, budget=-1, **far))["pictures"][2], "the one near the beginning"
    once = await prober.looks(source, budget=-1, in_order=True, **asked)
    assert not any(once["pictures"])


async def test_no_picture_near_the_beginning_is_passed_over_on_the_way_to_it(made):
    """Of a stream of which each picture is another, a right one was refused for its second."""
    film = [*PICTURE, "-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-b_strategy", "0"]
    film += ["-pix_fmt", "yuv420p", "-g", "3"]
    asked = {"video": 0, "audio": None, "moments": [0.04], "places": [], "around": 0.15, "start": 0.0}
    asked |= {"crop": [], "turn": 0, "late": 0.0, "keys": False}
    seen = await prober.looks(made("compare_reordered.mp4", *film), budget=60, **asked)
    times = [at for at, _ in seen["pictures"][0]]
    assert max(after - before for before, after in pairwise(times)) < 0.04 and times[0] < 0.07


def every_picture_a_keyframe(film: Path, target: Path) -> Path:
    """The same AVI with an index that calls every picture a keyframe, as some cameras write it."""
    data = bytearray(film.read_bytes())
    index = data.rindex(b"idx1") + 8
    for entry in range(index, len(data) - 15, 16):
        data[entry + 4] |= 0x10
    target.write_bytes(data)
    return target


def without_keyframes(film: Path, target: Path) -> Path:
    """The same MP4 without its list of keyframes, which then all pictures are."""
    target.write_bytes(film.read_bytes().replace(b"stss", b"free"))
    return target


@pytest.mark.parametrize("broken", ["avi", "mp4"])
async def test_what_a_wrong_index_misleads_is_decoded_from_the_beginning(made, tmp_path, broken):
    codec = [*X264, "-g", "200"] if broken == "mp4" else ["-c:v", "mpeg4", "-q:v", "3", "-g", "200"]
    film = made(f"compare_index.{broken}", *FILM[:4], *codec, "-sc_threshold", "1000000000")
    lie = every_picture_a_keyframe if broken == "avi" else without_keyframes
    source = lie(film, tmp_path / f"lies.{broken}")
    right, done = [
        await ask(each, "video", {"format": "mp4", "start": 1, "end": 5}, task=each.stem)
        for each in (film, source)
    ]
    assert done.warnings == []
    shown, ours = [pictures(storage.path(each.output["name"])) for each in (right, done)]
    assert len(ours) == len(shown) == 100
    assert all(is_alike(a[1], b[1]) for a, b in zip(shown, ours, strict=True))


async def test_what_still_differs_is_not_handed_over_and_the_error_says_what(made, tmp_path):
    """Folded to stereo, the back of this sound is the front's opposite: nothing is left of it."""
    places = "pan=quad|c0=0.5*c0|c1=0.5*c0|c2=-0.70710678*c0|c3=-0.70710678*c0"
    tone = ["-f", "lavfi", "-i", f"sine=440:d=6,volume=8,{places}"]
    source = made("compare_gone.mkv", *FILM[:4], *tone, *X264, "-c:a", "flac")
    with pytest.raises(TaskError, match=r"sound can’t be heard in the result\. It was not kept") as caught:
        await ask(source, "video", {"format": "mp4"}, task="gone")
    assert caught.value.kind == "internal_error"
    assert not storage.path("outputs/gone.mp4").exists()


async def test_a_sound_in_the_bass_channel_alone_is_told_and_no_failure(made):
    places = "pan=5.1|c0=0*c0|c1=0*c0|c2=0*c0|c3=c0|c4=0*c0|c5=0*c0"
    source = made("compare_bass.mkv", "-f", "lavfi", "-i", f"sine=60:d=4,volume=8,{places}", "-c:a", "flac")
    done = await ask(source, "audio", {"format": "mp3"})
    assert done.warnings == ["The only sound is in the bass channel, which stereo hasn’t. It can’t be heard."]


def cropped(film: Path, target: Path, width: int, height: int) -> Path:
    """The same MP4, its index at its end, that lets only the middle of its picture be seen (`clap`)."""
    data = bytearray(film.read_bytes())
    box = struct.pack(">I4sIIIIiIiI", 40, b"clap", width, 1, height, 1, 0, 1, 0, 1)
    at = data.index(b"avcC", data.index(b"moov")) - 4
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        size = data.index(parent, data.index(b"moov")) - 4
        data[size : size + 4] = struct.pack(">I", struct.unpack(">I", data[size : size + 4])[0] + len(box))
    target.write_bytes(data[:at] + box + data[at:])
    return target


@pytest.mark.parametrize("container", ["mp4", further("mkv")])
async def test_what_a_container_cuts_off_is_not_in_the_result_and_nothing_is_squeezed(
    made, tmp_path, container
):
    film = made("compare_bordered.mp4", *PICTURE, "-vf", "pad=iw+40:ih+60:-1:-1:red", *X264)
    source = cropped(film, tmp_path / "cropped.mp4", 640, 360)
    if container == "mkv":
        ffmpeg("-i", source, "-c", "copy", tmp_path / "cropped.mkv")
        source = tmp_path / "cropped.mkv"
    for stage in ("ingest", "transcode"):
        done = await ask(source, *STAGES[stage], task=stage)
        assert done.warnings == [] and facts(done.output)["size"] == (640, 360)
        wanted = pictures(made("compare_borderless.mp4", *PICTURE, *X264))[30][1]
        assert is_alike(pictures(storage.path(done.output["name"]))[30][1], wanted)


async def test_pictures_that_change_their_shape_in_the_middle_keep_it(tmp_path):
    for name, size in (("wide", "320x180"), ("high", "180x320")):
        ffmpeg("-f", "lavfi", "-i", f"color=white:s={size}:r=25:d=2", *X264, "-f", "mpegts", tmp_path / name)
    (tmp_path / "both.ts").write_bytes((tmp_path / "wide").read_bytes() + (tmp_path / "high").read_bytes())
    ffmpeg("-i", tmp_path / "both.ts", "-c", "copy", tmp_path / "both.mkv")
    done = await ask(tmp_path / "both.mkv", *STAGES["ingest"])
    shown = pictures(storage.path(done.output["name"]))
    assert done.warnings == [] and len(shown) == 100
    for (_, picture), bars in ((shown[20], False), (shown[80], True)):
        assert (dot(picture, 2, 8)[0] < 40, dot(picture, 8, 8)[0] > 200) == (bars, True)
