"""HLS: two renditions of a large film, cut at the same places, under a playlist that tells the truth."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import av
import pytest

from mediapipe import storage
from mediapipe.engine import arguments, plan, prober, segments, verify
from mediapipe.engine.encode import FfmpegExit
from mediapipe.engine.errors import TaskError
from mediapipe.engine.folders import clear
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.media import Audio, Media, Video
from mediapipe.engine.task import process
from mediapipe.task_options import check_options
from tests.support.drawn import Recipe, beeps, flashes, make, pictures
from tests.support.engine import PICTURE, TONE, X264, ask, endless_space, probe
from tests.support.tiers import further

pytestmark = pytest.mark.anyio
LARGE = ["-f", "lavfi", "-i", "testsrc2=s=960x540:r=10:d=9", "-f", "lavfi", "-i", "sine=440:d=9"]
# Keyframes where the film was cut, and none in between: once more apart than an encoder has them by itself.
KEYS = ["-g", "1000", "-sc_threshold", "0", "-c:a", "aac", "-force_key_frames"]
CUT, FAR = [*KEYS, "0,1.3,4.7,8.1"], [*KEYS, "0,8.7"]
VARIANT = re.compile(
    r'#EXT-X-STREAM-INF:BANDWIDTH=(\d+),.*RESOLUTION=(\d+x\d+),CODECS="(.*)"\n(.*)', re.MULTILINE
)


def renditions(output: dict) -> list[dict]:
    """What the master playlist names, and what is really there: keyframes, frames, segments."""
    index = storage.path(output["name"])
    return [
        {
            "bandwidth": int(bandwidth),
            "size": size,
            "codecs": codecs.split(","),
            **inside(index.with_name(name)),
        }
        for bandwidth, size, codecs, name in VARIANT.findall(index.read_text())
    ]


def is_copied(source: Path, output: dict) -> bool:
    with av.open(str(source)) as whole, probe(output) as container:
        theirs = [packet.size for packet in whole.demux(video=0) if packet.size]
        return theirs == [packet.size for packet in container.demux(video=0) if packet.size]


def inside(playlist: Path) -> dict:
    text = playlist.read_text()
    lengths = [float(each) for each in re.findall(r"#EXTINF:([\d.]+)", text)]
    parts = [
        playlist.with_name(each).stat().st_size for each in re.findall(r"^segment.*$", text, re.MULTILINE)
    ]
    with av.open(str(playlist)) as container:
        keys = [float(each.pts * each.time_base) for each in container.demux(video=0) if each.is_keyframe]
    with av.open(str(playlist)) as container:
        frames = list(container.decode(video=0))
    return {
        "lengths": lengths,
        "peak": max(8 * size / length for size, length in zip(parts, lengths, strict=True)),
        "keys": keys,
        "frames": len(frames),
        "decoded": f"{frames[0].width}x{frames[0].height}",
        "times": [frame.time for frame in frames],
    }


@pytest.mark.parametrize(
    ("name", "cut", "segments", "keys"),
    [("cut", CUT, 3, 4), pytest.param("far", FAR, 2, 2, marks=pytest.mark.release)],
)
async def test_a_large_film_is_copied_and_comes_small_too_cut_at_the_same_places(
    made, name, cut, segments, keys
):
    source = made(f"{name}.mp4", *LARGE, *X264, *cut)
    output = (await ask(source, "adaptive_video", {"format": "hls"})).output
    large, small = renditions(output)
    assert (output["format"], output["width"], output["height"]) == ("hls", 960, 540)
    assert output["duration"] == pytest.approx(9, abs=0.1)
    assert (large["size"], small["size"]) == ("960x540", "640x360")
    assert large["lengths"] == small["lengths"] and len(large["lengths"]) == segments
    assert large["keys"] == pytest.approx(small["keys"], abs=0.001) and len(large["keys"]) == keys
    assert large["times"] == pytest.approx(small["times"], abs=0.001) and small["frames"] == 90
    assert is_copied(source, output)
    folder = storage.path(output["name"]).parent
    assert output["filesize"] == sum(each.stat().st_size for each in folder.iterdir())


@pytest.mark.parametrize(
    "asked",
    [
        {},
        pytest.param({"quality": "low"}, marks=pytest.mark.release),
        further({"width": 1000, "start": 1.5, "end": 7}),
    ],
)
async def test_a_player_is_told_the_size_the_codecs_and_the_peak_of_each_rendition(made, asked):
    output = (await ask(made("cut.mp4", *LARGE, *X264, *CUT), "adaptive_video", asked)).output
    large, small = renditions(output)
    for each in (large, small):
        assert each["size"] == each["decoded"] and each["lengths"] == large["lengths"]
        assert each["peak"] * 0.99 <= each["bandwidth"] <= each["peak"] * 1.2
        assert each["codecs"][0].startswith("avc1.") and each["codecs"][1:] == ["mp4a.40.2"]
    assert large["keys"] == pytest.approx(small["keys"], abs=0.001)
    assert (
        large["bandwidth"] > small["bandwidth"] and large["size"] == f"{output['width']}x{output['height']}"
    )


async def test_frames_that_come_at_uneven_times_are_copied_and_cut_alike_too(made):
    late = "settb=1/9000,setpts='(N/10+0.011*mod(N*N\\,3))/TB'"
    uneven = ["-vf", late, "-fps_mode", "vfr", "-enc_time_base", "1/9000", "-video_track_timescale", "9000"]
    source = made("uneven.mp4", *LARGE, *uneven, *X264, *CUT)
    output = (await ask(source, "adaptive_video", {})).output
    large, small = renditions(output)
    assert is_copied(source, output)
    assert large["times"] == pytest.approx(small["times"], abs=0.001)
    assert large["lengths"] == pytest.approx(small["lengths"], abs=0.001)


async def test_a_recording_that_claims_a_thousand_pictures_a_second_is_streamed_as_long_as_it_is(made):
    burst = "testsrc2=s=320x180:r=1000:d=3,select='lt(mod(n,97),1)'"
    rate = ["-fps_mode", "vfr", "-enc_time_base", "1/1000"]
    source = made("thousand.mkv", "-f", "lavfi", "-i", burst, *TONE, *rate, *X264, "-c:a", "aac", "-t", "3")
    done = await ask(source, "adaptive_video", {"format": "hls"}, task="thousand")
    assert (done.warnings, done.output["duration"]) == ([], pytest.approx(3, abs=0.2))


async def test_a_turned_film_is_upright_in_both_renditions(made):
    flat = made("cut.mp4", *LARGE, *X264, *CUT)
    source = made("turned.mp4", "-display_rotation", "90", "-i", flat, "-t", "3", "-c", "copy")
    output = (await ask(source, "adaptive_video", {})).output
    assert (output["width"], output["height"]) == (540, 960)
    assert [each["decoded"] for each in renditions(output)] == ["540x960", "360x640"]


@pytest.mark.parametrize(
    ("sides", "asked", "small"),
    [
        ((1920, 1080), {}, (640, 360)),
        ((1080, 1920), {}, (360, 640)),
        ((2048, 858), {}, (860, 360)),
        ((1919, 1079), {"width": "50%"}, (640, 360)),
        ((1920, 1080), {"width": 1000, "height": 1000}, (360, 360)),
        ((960, 540), {}, (640, 360)),
        ((958, 538), {}, None),
        ((640, 480), {}, None),
        ((1920, 1080), {"height": 480}, None),
    ],
)
def test_the_small_rendition_has_even_sides_and_is_a_third_smaller_or_there_is_none(sides, asked, small):
    found = arguments.smaller_options(Video(0, "h264", *sides), asked, plan.SMALL)
    assert (found and (found["width"], found["height"])) == small


async def test_bars_are_as_wide_in_the_small_rendition(made):
    source = made("cut.mp4", *LARGE, *X264, *CUT)
    asked = {"width": 800, "height": 800, "background": "#ff0000", "end": 1}
    output = (await ask(source, "adaptive_video", asked)).output
    index = storage.path(output["name"])
    for number, side in enumerate((800, 360)):
        with av.open(str(index.with_name(f"rendition{number}.m3u8"))) as container:
            picture = next(container.decode(video=0)).reformat(format="rgb24")
        data, line = bytes(picture.planes[0]), picture.planes[0].line_size
        red = [data[row * line + 3 * (side // 2)] > 200 for row in (side // 12, side - side // 12)]
        assert (picture.width, picture.height, red) == (side, side, [True, True])


async def test_a_small_film_a_blink_and_sound_alone_are_one_rendition_that_plays_whole(made):
    source = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    output = (await ask(source, "adaptive_video", {"format": "hls"}, task="plain")).output
    assert (output["format"], output["width"], output["codecs"]["video"]) == ("hls", 640, "h264")
    assert is_copied(source, output) and output["duration"] == pytest.approx(4, abs=0.3)
    small = (await ask(source, "adaptive_video", {"width": 320, "start": 1, "end": 3}, task="small")).output
    assert (small["width"], inside(storage.path(small["name"]))["frames"]) == (320, 60)
    assert small["duration"] == pytest.approx(2, abs=0.1)
    blink = made("blink.mp4", *LARGE, *X264, "-t", "0.2", "-c:a", "aac")
    short = (await ask(blink, "adaptive_video", {}, task="blink")).output
    assert (short["width"], inside(storage.path(short["name"]))["frames"]) == (960, 2)
    assert short["codecs"]["audio"] == "aac", "of two renditions FFmpeg would name none, and one had no sound"
    sound = made("tone.m4a", *TONE, "-c:a", "aac")
    heard = (await ask(sound, "adaptive_video", {}, task="tone")).output
    assert heard["codecs"] == {"video": None, "audio": "aac"} and heard["duration"] == pytest.approx(
        4, abs=0.1
    )


def spoil_the_picture(folder: Path) -> None:
    part = folder / "segment1_0000.m4s"
    head, data, body = part.read_bytes().partition(b"mdat")
    part.write_bytes(head + data + b"x" * len(body))


def lose_the_end(folder: Path) -> None:
    playlist = folder / "rendition1.m3u8"
    playlist.write_text(re.sub(r"#EXTINF:.*\n.*\n#EXT-X-ENDLIST", "#EXT-X-ENDLIST", playlist.read_text()))


def cut_elsewhere(folder: Path) -> None:
    playlist = folder / "rendition1.m3u8"
    playlist.write_text(playlist.read_text().replace("#EXTINF:4.7", "#EXTINF:4.6"))


def forget_the_small_one(folder: Path) -> None:
    master = folder / "index.m3u8"
    master.write_text(master.read_text().replace("rendition1.m3u8\n", ""))


def lose_all(folder: Path) -> None:
    (folder / "rendition1.m3u8").write_text("#EXTM3U\n#EXT-X-ENDLIST\n")


HARMS = [spoil_the_picture, lose_the_end, lose_all, cut_elsewhere, forget_the_small_one]


@pytest.fixture(scope="module")
async def whole(anyio_backend, made, tmp_path_factory) -> Path:
    """The folder of a stream as it should be."""
    output = (await ask(made("cut.mp4", *LARGE, *X264, *CUT), "adaptive_video", {})).output
    folder = tmp_path_factory.mktemp("stream") / "whole"
    shutil.copytree(storage.path(output["name"]).parent, folder)
    return folder


@pytest.mark.parametrize("harm", HARMS)
async def test_renditions_count_only_when_all_are_named_decode_and_are_cut_alike(whole, tmp_path, harm):
    folder = tmp_path / "again"
    shutil.copytree(whole, folder)
    asked = arguments.Plan([[]], "hls", "m3u8", 9, 90, wants_video=True, wants_audio=True, layout="folder")
    ended = FfmpegExit(0, ended=True, frames=90)
    index = folder / "index.m3u8"
    await verify.verified(segments.read_stream, asked, Media(), index, ended, copied=True)
    harm(folder)
    with pytest.raises(TaskError):
        await verify.verified(segments.read_stream, asked, Media(), index, ended, copied=True)


async def test_a_copy_that_is_cut_otherwise_than_the_small_rendition_is_encoded(made, monkeypatch):
    monkeypatch.setattr(plan, "SOURCE_KEYS", plan.EVEN_KEYS)  # as where the source's keyframes mislead
    source = made("cut.mp4", *LARGE, *X264, *CUT)
    large, small = renditions((await ask(source, "adaptive_video", {})).output)
    assert large["lengths"] == small["lengths"] == [4, 4, pytest.approx(1, abs=0.1)]


async def stream(source: Path, task: str, report=lambda *_: None) -> list[str]:
    """The files of a stream, as they stand after its task has ended in whatever way."""
    name = "sources/s/cut.mp4"
    storage.path(name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, storage.path(name))
    kind = KINDS["adaptive_video"]
    hooks = Hooks(endless_space, report)
    try:
        await process(task, kind, check_options(kind.name, {}), storage.signed_url(name), hooks)
    finally:
        clear(task)
        files = sorted(each.name for each in storage.path(f"outputs/{task}").iterdir() if each.is_file())
    return files


async def test_the_progress_of_two_renditions_is_reported(made):
    seen = []
    await stream(made("cut.mp4", *LARGE, *X264, *CUT), "t", lambda percent, *_: seen.append(percent))
    known = [percent for percent in seen if percent is not None]
    assert known == sorted(known) and known and known[-1] > 90


async def test_what_names_other_files_is_published_after_them(made):
    """A folder in the place of one file stops the publishing there: what came before is to be seen."""
    source = made("cut.mp4", *LARGE, *X264, *CUT)
    every = await stream(source, "whole")
    playlists = ["index.m3u8", "rendition0.m3u8", "rendition1.m3u8"]
    assert set(playlists) < set(every)
    for blocked, missing in (("segment1_0000.m4s", playlists), ("rendition1.m3u8", ["index.m3u8"])):
        task = blocked.partition(".")[0]
        storage.path(f"outputs/{task}/{blocked}/full").mkdir(parents=True)
        with pytest.raises(IsADirectoryError):
            await stream(source, task)
        there = [each.name for each in storage.path(f"outputs/{task}").iterdir() if each.is_file()]
        assert blocked in every and not set(missing) & set(there), blocked
    assert sorted(there) == sorted(set(every) - {"rendition1.m3u8", "index.m3u8"})


def test_sound_is_in_both_renditions_and_a_film_without_sound_asks_for_none():
    film = Video(0, "hevc", 1920, 1080, fps=25, frames=100, duration=4)
    mute = plan.hls_plan({"format": "hls"}, Media("mp4", 4, video=film), "/x").tries[0]
    assert mute[mute.index("-var_stream_map") + 1] == "v:0 v:1" and "-an" in mute
    sounding = Media("mp4", 4, video=film, audio=Audio(1, "aac", profile="LC"))
    both = plan.hls_plan({"format": "hls"}, sounding, "/x").tries[0]
    assert both.count("0:1") == 2 and both[both.index("-var_stream_map") + 1] == "v:0,a:0 v:1,a:1"


@pytest.mark.parametrize(("size", "container"), [further("960x540", "mp4"), ("320x180", "mkv")])
async def test_a_sound_that_outlasts_its_pictures_is_played_to_its_end(made, size, container):
    """Segments are cut and counted by pictures: the last one is held, or 3 of 8 seconds would be told."""
    tracks = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r=20:d=3", "-f", "lavfi", "-i", "sine=440:d=8"]
    source = made(f"outlasts.{container}", *tracks, *X264, "-c:a", "aac")
    done = await ask(source, "adaptive_video", {"format": "hls"}, task=f"outlasts{container}")
    assert done.warnings == [] and done.output["duration"] == pytest.approx(8, abs=0.3)
    folder = storage.path(done.output["name"]).parent
    for each in folder.glob("rendition*.m3u8") if size == "960x540" else [folder / "index.m3u8"]:
        found = inside(each)
        assert found["lengths"] == [4, pytest.approx(4, abs=0.2)] and found["frames"] == 160


LATE = ["-vf", "trim=start=1.5", "-fps_mode", "passthrough"]


@pytest.mark.parametrize(
    ("name", "picture", "more"),
    [
        ("late.mp4", "testsrc2=s=320x180:r=20:d=8", LATE),
        ("outlasts.wmv", "testsrc2=s=320x180:r=20:d=4", ["-c:v", "wmv2", "-bf", "0", "-c:a", "wmav2"]),
        further("still.mp4", "testsrc2=s=320x180:r=25:d=0.04", []),
        further("slides.mkv", "testsrc2=s=320x180:r=1/4:d=8", ["-g", "1"]),
        ("reordered.mkv", "testsrc2=s=320x180:r=1/2:d=8", ["-preset", "veryfast", "-b_strategy", "0"]),
    ],
)
async def test_a_film_whose_pictures_are_fewer_than_its_sound_is_streamed_whole(made, name, picture, more):
    tracks = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=440:d=8"]
    source = made(name, *tracks, *X264, "-bf", "2", "-c:a", "aac", *more)
    done = await ask(source, "adaptive_video", {"format": "hls"}, task=name[:4])
    assert done.warnings == [] and done.output["duration"] == pytest.approx(8, abs=0.3)
    with probe(done.output) as container:
        begins = [float(each.start_time * each.time_base) for each in container.streams]
        count = sum(packet.size > 0 for packet in container.demux(video=0))
    assert abs(begins[0] - begins[1]) < 0.3 and count <= 8 * 25


async def test_a_broadcast_that_was_joined_between_two_keyframes_is_streamed_whole(made, tmp_path):
    """Nothing can be shown before the next keyframe: it was told as a file that stops early."""
    whole = made("joined.ts", *PICTURE, *TONE, *X264, "-bf", "0", "-g", "60", "-c:a", "mp2").read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(whole[len(whole) // 188 // 8 * 188 :])
    media = await prober.probe(joined)
    assert media.video.begins > 1
    done = await ask(joined, "adaptive_video", {"format": "hls"}, task="joined")
    assert done.warnings == [] and done.output["duration"] == pytest.approx(media.duration, abs=0.3)


BURSTS = ["-vf", "select='lt(mod(n*7919,13),6)'", "-fps_mode", "vfr"]
PAUSE = ["-vf", "select='lt(t,1)+gte(t,3.4)'", "-fps_mode", "vfr", "-force_key_frames", "0,2.1,3.4"]


@pytest.mark.parametrize(
    ("name", "uneven"),
    [
        ("pause.mp4", PAUSE),
        further("pause.mkv", PAUSE),
        further("bursts.mkv", BURSTS),
        further("bursts.mp4", BURSTS),
    ],
)
async def test_a_stream_of_uneven_pictures_counts_as_long_as_they_are_shown(made, name, uneven):
    """Segments were counted by how long each picture is said to stand, and where it is stored."""
    source = made(name, *PICTURE, *TONE, *X264, "-bf", "3", *uneven, "-c:a", "aac")
    done = await ask(source, "adaptive_video", {"format": "hls"}, task=name.replace(".", ""))
    found = inside(storage.path(done.output["name"]))
    assert done.warnings == [] and sum(found["lengths"]) == pytest.approx(4, abs=0.1)
    with av.open(str(source)) as container:
        wanted = [frame.time for frame in container.decode(video=0)]
    begins = found["times"][0]
    assert all(min(abs(at + begins - time) for time in found["times"]) < 0.03 for at in wanted)


async def test_a_stream_of_sound_of_few_samples_a_second_is_in_step(tmp_path):
    """What its encoder put before it lasts an eighth of a second: its picture comes so much later, too."""
    source = make(Recipe("mp4", "libx264", "aac", sample_rate=8000), tmp_path)
    for kind, options in (("video", {"format": "mp4", "quality": "high"}), ("adaptive_video", {})):
        done = await ask(source, kind, options, task=kind)
        path = storage.path(done.output["name"])
        assert done.warnings == [], "its sound would begin too late"
        assert beeps(path)[0] == pytest.approx(flashes(pictures(path)), abs=0.05)


async def test_the_sound_of_a_broadcast_is_copied_into_a_stream(made):
    """Its packets say themselves what they are, as a segment's may not."""
    done = await ask(
        made("broadcast.ts", *PICTURE, *TONE, *X264, "-c:a", "aac", "-ar", "44100"), "adaptive_video", {}
    )
    with probe(done.output) as container:
        assert container.streams.audio[0].rate == 44100 and not done.warnings
