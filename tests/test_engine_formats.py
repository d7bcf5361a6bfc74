"""Sound, formats and damage: what comes out of any container, and what is said where it cannot."""

from __future__ import annotations

import json
import random

import pytest

from mediapipe import storage
from mediapipe.engine.errors import TaskError
from mediapipe.engine.kinds import KINDS
from tests.support.drawn import pictures
from tests.support.engine import PICTURE, STAGES, TONE, X264, ask, facts, loudness, probe

pytestmark = pytest.mark.anyio


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
    assert abs(loudness(storage.path(audio["name"])) - loudness(source)) < 2
    assert abs(audio["duration"] - 4) < 0.1


async def test_places_and_names_are_removed_from_copies_too(made):
    source = made(
        "gps.mp4",
        *[*PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac", "-metadata", "location=+48.8566+002.3522/"],
        *["-metadata", "title=secret title", "-metadata", "comment=home"],
    )
    ingest = (await ask(source, *STAGES["ingest"])).output
    data = storage.path(ingest["name"]).read_bytes()
    assert b"48.8566" not in data and b"secret title" not in data


async def test_a_video_without_sound_and_sound_without_a_picture_say_so(made):
    silent = made("silent.mp4", *PICTURE, *X264, "-an")
    with pytest.raises(TaskError, match="no audio track") as caught:
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
    with pytest.raises(TaskError, match="no video track") as caught:
        await ask(song, *STAGES["transcode"], task="s")
    assert caught.value.kind == "no_video"


async def test_what_is_cut_off_is_processed_and_flagged(made, tmp_path):
    source = made("long.mkv", *PICTURE, *TONE, *X264, "-g", "30", "-c:a", "aac")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    answer = await ask(cut, *STAGES["transcode"])
    assert 1 < answer.output["duration"] < 3.5
    assert "stops or is damaged at 0:" in answer.warnings[0]


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


@pytest.mark.parametrize("form", KINDS["audio"].options["format"].choices)
async def test_every_audio_format_plays_for_its_whole_length(made, form):
    source = made("plain.mp4", *PICTURE, *TONE, *X264, "-g", "60", "-c:a", "aac")
    output = (await ask(source, "audio", {"format": form})).output
    assert facts(output)["audio"] and abs(output["duration"] - 4) < 0.2


async def test_sound_whose_codec_changes_midway_is_encoded_anew_and_flagged(made, tmp_path):
    """As where a broadcast switches: AAC, then AC-3, then AAC in one transport stream."""
    one, other = (
        made(f"{codec}.ts", *PICTURE, *TONE, *X264, "-g", "30", "-c:a", codec).read_bytes()
        for codec in ("aac", "ac3")
    )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one + other + one)
    answer = await ask(joined, *STAGES["ingest"])
    assert answer.output["duration"] == pytest.approx(12, abs=0.5)
    assert answer.output["codecs"] == {"video": "h264", "audio": "aac"} and "damaged" in answer.warnings[0]


async def test_sound_with_a_hole_stays_in_step(made):
    """Where sound is missing there is silence, so that what follows is heard where it belongs."""
    hole = "aselect='not(between(t,1,3))'"
    source = made("hole.mkv", *PICTURE, *TONE, "-af", hole, *X264, "-g", "30", "-c:a", "pcm_s16le")
    audio = (await ask(source, *STAGES["audio"])).output
    assert audio["duration"] == pytest.approx(4, abs=0.15)
    wave = (await ask(source, "audio", {"waveform": "json", "waveform_points": 40})).output
    peaks = json.loads(storage.path(wave["name"]).read_text())["peaks"]
    assert max(peaks[12:28]) == 0 < min(peaks[2:8]) and min(peaks[32:38]) > 0.05


@pytest.mark.parametrize("megabytes", [0.2, 4])
async def test_sound_behind_garbage_is_found(made, tmp_path, megabytes):
    tone = made("tone.mp3", *TONE)
    source = tmp_path / "garbage.mp3"
    source.write_bytes(random.Random(7).randbytes(int(megabytes * 1e6)) + tone.read_bytes())
    answer = await ask(source, *STAGES["audio"])
    assert answer.output["duration"] == pytest.approx(4, abs=0.3)


async def test_a_length_that_nobody_wrote_down_is_not_taken_for_damage(made):
    """FFmpeg guesses the length of such files by their first bit rates."""
    noise = ["-f", "lavfi", "-i", "anullsrc=d=4", "-f", "lavfi", "-i", "anoisesrc=d=4", "-filter_complex"]
    source = made("vbr.mp3", *noise, "[1][0]concat=n=2:v=0:a=1", "-q:a", "2", "-write_xing", "0")
    assert (await ask(source, "audio", {})).warnings == []


@pytest.mark.parametrize("name", ["sun.au", "pack.wv", "true.tta", "wide.w64", "apple.caf"])
async def test_old_and_rare_sound_files_are_read(made, name):
    source = made(name, *TONE)
    assert (await ask(source, "audio", {}, task=name)).output["duration"] == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("layout", ["mono", "7.1", "7.1(wide)", "hexadecagonal"])
async def test_any_number_of_channels_becomes_two_at_most(made, layout):
    source = made(f"{layout}.wav", "-f", "lavfi", "-i", f"sine=440:d=1,aformat=channel_layouts={layout}")
    audio = (await ask(source, "audio", {"format": "flac"}, task=layout)).output
    assert facts(audio)["channels"] == (1 if layout == "mono" else 2)


@pytest.mark.release
async def test_a_film_of_an_hour_goes_through_all_stages_in_full(made):
    """Two small pictures a second keep it quick; its length is what counts."""
    picture = [
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=160x90:r=2:d=3600",
        "-f",
        "lavfi",
        "-i",
        "sine=300:r=8000:d=3600",
    ]
    source = made("hour.mkv", *picture, *X264, "-g", "10", "-c:a", "aac", "-b:a", "16k")
    for stage in ("ingest", "thumbnails", "audio", "transcode"):
        output = (await ask(source, *STAGES[stage])).output
        if stage != "thumbnails":
            assert output["duration"] == pytest.approx(3600, abs=0.6), stage
    streamed = (await ask(source, "adaptive_video", {"format": "hls"})).output
    assert streamed["duration"] == pytest.approx(3600, abs=0.6)


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
async def test_pictures_that_come_in_bursts_all_stay_where_they_were(made, codec):
    bursts = "settb=1/1000,setpts='(N*0.02+floor(N/10)*0.8)/TB'"
    kept = ["-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-frames:v", "50"]
    source = made("bursts.mkv", *PICTURE, "-vf", bursts, *kept, *X264)
    done = await ask(source, "video", {"format": "mp4", "codec": codec, "width": 160}, task=codec)
    assert done.warnings == []
    times = [[at for at, _ in pictures(each)] for each in (source, storage.path(done.output["name"]))]
    assert len(times[0]) == 50 and times[1] == pytest.approx(times[0], abs=0.002)


@pytest.mark.parametrize("order", ["forwards", "backwards"])
async def test_a_clock_that_jumps_is_no_damage_and_no_length(made, tmp_path, order):
    parts = [
        made(f"clock{at}.ts", *PICTURE, *TONE, *X264, "-g", "30", "-c:a", "aac", "-output_ts_offset", at)
        for at in ("0", "7200")
    ]
    source = tmp_path / "jumps.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in sorted(parts, reverse=order == "backwards")))
    done = await ask(source, *STAGES["ingest"])
    assert done.warnings == [] and done.output["duration"] == pytest.approx(8, abs=0.2)
    assert len(pictures(storage.path(done.output["name"]))) == pytest.approx(240, abs=3)
