"""Previews beyond the four: storyboard, waveform and moving picture, each right to the second."""

from __future__ import annotations

import json
import re
import subprocess
from types import SimpleNamespace

import pytest

from mediapipe import storage
from mediapipe.engine import stills
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.media import Audio, Media, Video
from mediapipe.task_options import check_options
from tests.support.engine import PICTURE, TONE, X264, ask, probe
from tests.support.product import FFMPEG

pytestmark = pytest.mark.anyio
# A film whose brightness tells the second: 20, 40, 60 …
CLOCK = ["-f", "lavfi", "-i", "color=black:s=160x90:r=10:d=10,format=gray,geq=lum='20+20*floor(T)'"]


@pytest.mark.parametrize("keyframes_every", [10, 300])
async def test_each_part_of_a_storyboard_shows_the_second_that_its_cue_says(made, keyframes_every):
    source = made(f"clock{keyframes_every}.mp4", *CLOCK, *X264, "-g", keyframes_every)
    sprite = (await ask(source, "image", {"width": 160, "format": "png", "interval": 1})).output
    assert parts(sprite) == [(second, second) for second in range(10)]


async def test_the_last_part_of_a_storyboard_has_a_picture_though_no_keyframe_lies_in_it(made):
    source = made("clock20.mp4", *CLOCK, *X264, "-g", 20)
    sprite = (await ask(source, "image", {"width": 160, "format": "png", "interval": 3})).output
    assert [second for second, _ in parts(sprite)] == [0, 3, 6, 9]
    assert parts(sprite)[-1] == (9, 8)


async def test_a_picture_of_a_film_has_a_small_storyboard_beside_it_where_one_is_asked_for(made):
    source = made("clock20.mp4", *CLOCK, *X264, "-g", 20)
    asked = {"width": 160, "format": "webp", "start": 2, "storyboard": 20}
    picture = (await ask(source, "image", asked)).output
    assert picture["width"] == 160 and picture["name"] == picture["storyboard_name"].replace(
        "-storyboard", ""
    )
    with probe({"name": picture["storyboard_name"]}) as container:
        frame = next(container.decode(video=0)).reformat(format="gray")
        assert (frame.width, frame.height) == (1600, 180)
        data, line = bytes(frame.planes[0]), frame.planes[0].line_size
    shown = [data[(at // 10 * 90 + 45) * line + at % 10 * 160 + 80] for at in range(20)]
    assert [round((value - 20) / 20) for value in shown] == [at // 2 for at in range(20)]
    assert vtt(picture).count("-->") == 20 and "-storyboard.webp#xywh" in vtt(picture)
    photo = (await ask(made("one.png", *CLOCK, "-frames:v", "1"), "image", {"storyboard": 20})).output
    assert "storyboard_name" not in photo


async def test_tries_of_a_picture_that_fail_leave_the_storyboard_made_meanwhile_as_it_is(made):
    """All is black, so that a frame which isn't is looked for in vain before the first picture is taken."""
    black = ["-f", "lavfi", "-i", "color=black:s=160x90:r=10:d=10"]
    picture = (await ask(made("black.mp4", *black, *X264), "image", {"start": 2, "storyboard": 20})).output
    with probe({"name": picture["storyboard_name"]}) as container:
        assert next(container.decode(video=0)).width == 1600
    assert vtt(picture).count("-->") == 20


def parts(sprite: dict) -> list[tuple[int, int]]:
    """The second that each cue says, and the one that its part of the sprite shows."""
    cues = re.findall(r"00:00:(\d\d).000 --> .*\n(.*)#xywh=(\d+),(\d+),160,90", vtt(sprite))
    assert {name for _, name, *_ in cues} == {storage.path(sprite["name"]).name}
    with probe(sprite) as container:
        picture = next(container.decode(video=0)).reformat(format="gray")
    data, line = bytes(picture.planes[0]), picture.planes[0].line_size
    shown = [data[(int(y) + 45) * line + int(x) + 80] for _, _, x, y in cues]
    return [(int(second), round((value - 20) / 20)) for (second, *_), value in zip(cues, shown, strict=True)]


async def test_a_short_film_that_begins_a_little_late_has_a_storyboard(made):
    source = made("late.flv", *PICTURE, *TONE, *X264, "-ar", "44100", "-c:a", "libmp3lame")
    sprite = (await ask(source, "image", {"width": 160, "interval": 5})).output
    assert vtt(sprite).count("-->") == 1


def test_a_short_gif_of_a_long_film_reads_no_more_than_it_shows():
    film = Media("mp4", 3600, video=Video(0, "h264", 640, 360, duration=3600))
    arguments = KINDS["animation"].plan(check_options("animation", {"end": 2}), film, "/x").tries[0]
    assert arguments.index("-t") < arguments.index("-i")


def vtt(sprite: dict) -> str:
    text = storage.path(sprite["vtt_name"]).read_text()
    assert text.startswith("WEBVTT\n\n")
    return text


async def test_a_waveform_is_as_high_as_the_sound_is_loud(made):
    """Silence, then a quiet tone that stereo channels carry against each other, then a loud high one."""
    parts = "0.1*sin(2*PI*440*t)*between(t,1,2)+0.8*sin(2*PI*12000*t)*gt(t,2)"
    source = made(
        "steps.flac", "-f", "lavfi", "-i", f"aevalsrc='{parts}|-({parts})':s=48000:d=3", "-c:a", "flac"
    )
    wave = (await ask(source, "audio", {"waveform": "json", "waveform_points": 30})).output
    told = json.loads(storage.path(wave["name"]).read_text())
    assert len(told["peaks"]) == 30 and abs(told["duration"] - 3) < 0.05
    quiet, soft, loud = (told["peaks"][at + 1 : at + 9] for at in (0, 10, 20))
    assert (
        max(quiet) == 0
        and all(0.09 < each < 0.11 for each in soft)
        and all(0.7 < each < 0.9 for each in loud)
    )


def test_a_frame_that_is_not_black_is_looked_for_near_its_moment_alone_however_long_the_film():
    def shot(seek, select="", before=()):
        return [select, *before]

    for each in stills._light_ones(SimpleNamespace(pix_fmt="yuv420p"), 2.0, 36_000.0, shot, stands=True):
        assert "-t" in each or f"trim=end={stills.LOOK_ON}," in each[0]


def test_a_waveform_of_a_day_is_measured_in_pieces_and_never_held_in_memory():
    day = Media("wav", 86400, audio=Audio(0, "pcm_s16le", rate=48000, duration=86400))
    asked = check_options("audio", {"waveform": "json"})
    made = KINDS["audio"].plan(asked, day, "/x")
    pieces = int(re.search(r"asetnsamples=n=(\d+)", " ".join(made.tries[0]))[1])
    assert pieces <= 48000 and made.muxer == "null" and made.extension == "txt"


@pytest.mark.parametrize(("form", "alpha"), [("webp", True), ("webp", False), ("gif", True)])
async def test_a_moving_preview_plays_for_its_length_and_keeps_transparency(made, form, alpha):
    graph = "testsrc2=s=320x180:r=30:d=1,format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*gt(X,W/2)'"
    if alpha:
        source = made("alpha.mov", "-f", "lavfi", "-i", graph, "-c:v", "qtrle")
    else:
        source = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    moving = (await ask(source, "animation", {"width": 160, "format": form, "end": 2, "fps": 10})).output
    assert (moving["width"], moving["height"], moving["format"]) == (160, 90, form)
    assert moving["duration"] == pytest.approx(1 if alpha else 2, abs=0.15)
    demuxer = ["-f", "webp_anim"] if form == "webp" else []
    arguments = [FFMPEG, "-v", "error", *demuxer, "-i", storage.path(moving["name"]), "-frames:v", "1"]
    raw = subprocess.run([*arguments, "-f", "rawvideo", "-pix_fmt", "rgba", "-"], capture_output=True).stdout
    row = raw[160 * 4 * 45 :][: 160 * 4]
    assert row[4 * 150 + 3] == 255 and (row[4 * 10 + 3] == 0) == alpha


async def test_a_moving_preview_ends_with_the_pictures_and_is_no_damage(made):
    short = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=1"]
    source = made("short-pictures.mp4", *short, *TONE, *X264, "-c:a", "aac")
    done = await ask(source, "animation", {"end": 3})
    assert done.warnings == [] and done.output["duration"] == pytest.approx(1, abs=0.1)
