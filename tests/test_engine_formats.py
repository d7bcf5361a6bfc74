"""Sound, formats and damage: what comes out of any container, and what is said where it cannot."""

from __future__ import annotations

import json
import random
import struct
from itertools import pairwise
from pathlib import Path

import av
import pytest

from mediapipe import storage
from mediapipe.engine import prober
from mediapipe.engine.errors import TaskError
from mediapipe.engine.kinds import KINDS
from tests.support.drawn import Recipe, beeps, make, pictures
from tests.support.engine import PICTURE, STAGES, TONE, X264, ask, facts, loudness, probe
from tests.support.tiers import further

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


HEARD = "0.5*sin(2*PI*1000*t)*gt(mod(t,1),0.5)"
OPUS = ["-c:a", "libopus", "-mapping_family", "2"]


@pytest.mark.parametrize(
    ("layout", "channels", "heard", "codec"),
    [
        ("FL", 1, 0, ["-c:a", "pcm_s16le"]),  # AAC takes one channel in the middle alone
        further("BC", 1, 0, ["-c:a", "pcm_s16le"]),
        further("LFE", 1, 0, ["-c:a", "pcm_s16le"]),
        further("ambisonic 1", 4, 0, OPUS),
        ("ambisonic 1+stereo", 6, 5, OPUS),
        further("5.1.4", 10, 9, ["-c:a", "pcm_s16le"]),  # above
        ("24 channels", 24, 23, ["-c:a", "pcm_s16le"]),  # of which nobody knows where they are
    ],
)
async def test_sound_is_heard_wherever_it_is_placed(made, layout, channels, heard, codec):
    each = "|".join(HEARD if number == heard else "0" for number in range(channels))
    placed = f":c={layout}" if channels < 24 else ""
    source = made(
        f"{layout}.{'mka' if codec is OPUS else 'mov'}",
        *["-f", "lavfi", "-i", f"aevalsrc='{each}':s=48000:d=3{placed}", *codec],
    )
    for kind, asked in (
        STAGES["ingest"],
        STAGES["audio"],
        ("adaptive_video", {}),
        ("audio", {"format": "opus"}),
    ):
        done = await ask(source, kind, asked, task=f"{kind}{len(asked)}{asked.get('format', '')}")
        assert done.warnings == []
        if kind != "adaptive_video":
            assert facts(done.output)["channels"] <= 2
            assert len(beeps(storage.path(done.output["name"]))[0]) == 3


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


@pytest.mark.parametrize("name", ["long.mkv", "long.avi", "long.wmv"])
async def test_what_is_cut_off_is_processed_and_flagged(made, tmp_path, name):
    """FFmpeg counts how long an AVI or a WMV is by what is there."""
    encode = {"long.avi": ["-c:a", "libmp3lame"], "long.wmv": ["-c:v", "wmv2", "-c:a", "wmav2"]}
    kept = encode.get(name, [*X264, "-g", "30", "-c:a", "aac"])
    source = made(name, *PICTURE, *TONE, *kept)
    cut = tmp_path / name
    cut.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    answer = await ask(cut, *STAGES["transcode"])
    assert 1 < answer.output["duration"] < 3.5
    assert "stops or is damaged at 0:" in answer.warnings[-1]


@pytest.mark.parametrize(
    ("kind", "asked", "form", "codec"),
    [
        ("video", {"format": "webm", "width": 160}, "matroska,webm", "vp9"),
        ("video", {"codec": "h265", "width": 160}, "mov,mp4,m4a,3gp,3g2,mj2", "hevc"),
        ("video", {"codec": "av1", "width": 160}, "mov,mp4,m4a,3gp,3g2,mj2", "libdav1d"),
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
        made(f"{codec}.ts", *PICTURE, *TONE, "-s", "160x90", *X264, "-g", "30", "-c:a", codec).read_bytes()
        for codec in ("aac", "ac3")
    )
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one + other + one)
    answer = await ask(joined, *STAGES["ingest"])
    assert answer.output["duration"] == pytest.approx(12, abs=0.5)
    assert answer.output["codecs"] == {"video": "h264", "audio": "aac"} and "damaged" in answer.warnings[0]


@pytest.mark.parametrize("codec", [further("aac"), "ac3"])
async def test_sound_that_becomes_another_in_the_middle_is_as_long_as_before(made, tmp_path, codec):
    """A broadcast's film in 5.1 after what was in stereo: FFmpeg put 2 s of silence between them."""
    short = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=2", "-f", "lavfi", "-i", "sine=440:r=48000:d=2"]
    parts = [
        made(f"part{at}.ts", *short, *X264, "-c:a", codec, "-ac", count, "-output_ts_offset", at)
        for at, count in (("0", 2), ("2", 6 if codec == "ac3" else 1))
    ]
    source = tmp_path / f"{codec}.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    for stage in ("ingest", "audio"):
        done = await ask(source, *STAGES[stage], task=f"{stage}{codec}")
        assert beeps(storage.path(done.output["name"]))[2] == pytest.approx(4, abs=0.3)


async def test_sound_with_a_hole_stays_in_step(made):
    """Where sound is missing there is silence, so that what follows is heard where it belongs."""
    hole = "aselect='not(between(t,1,3))'"
    source = made("hole.mkv", *PICTURE, *TONE, "-af", hole, *X264, "-g", "30", "-c:a", "pcm_s16le")
    audio = (await ask(source, *STAGES["audio"])).output
    assert audio["duration"] == pytest.approx(4, abs=0.15)
    wave = (await ask(source, "audio", {"waveform": "json", "waveform_points": 40})).output
    peaks = json.loads(storage.path(wave["name"]).read_text())["peaks"]
    assert max(peaks[12:28]) == 0 < min(peaks[2:8]) and min(peaks[32:38]) > 0.05


@pytest.mark.parametrize("name", ["lost.mkv", further("lost.mp4")])
async def test_sound_with_a_hole_is_not_copied_because_some_players_would_play_the_rest_too_early(
    made, tmp_path, name
):
    plain = made("lost-plain.mp4", *PICTURE, *TONE, "-s", "160x90", *X264, "-c:a", "aac")
    source = tmp_path / name
    with av.open(str(plain)) as given, av.open(str(source), "w") as out:
        copies = [out.add_stream_from_template(stream) for stream in given.streams]
        for packet in given.demux():
            lost = packet.stream.type == "audio" and packet.size and 1 < packet.pts * packet.time_base < 2
            if packet.size and not lost:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    done = await ask(source, *STAGES["ingest"], task=source.stem)
    assert done.warnings == [] and beeps(storage.path(done.output["name"]))[2] == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("megabytes", [further(0.2), 4])
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


@pytest.mark.parametrize("name", ["late.mkv", further("late.wmv"), further("late.opus")])
async def test_a_file_whose_clock_begins_late_is_as_long_as_what_is_in_it(made, name):
    """As recorders cut a long recording into files: FFmpeg writes when they end, for how long they are."""
    codecs = {"mkv": [*PICTURE, *X264, "-c:a", "aac"], "wmv": [*PICTURE], "opus": ["-c:a", "libopus"]}
    source = made(name, *TONE, *codecs[name[5:]], "-output_ts_offset", "90000")
    for stage in ("ingest", "audio"):
        done = await ask(source, *STAGES[stage], task=stage)
        assert done.warnings == [] and done.output["duration"] == pytest.approx(4, abs=0.2)


async def test_a_length_that_was_counted_from_a_late_beginning_stays(made, tmp_path):
    """As other muxers write Matroska's."""
    source = made("late.mkv", *TONE, *PICTURE, *X264, "-c:a", "aac", "-output_ts_offset", "90000")
    data = source.read_bytes()
    at = data.index(b"\x44\x89\x88", 0, 4096) + 3
    own = tmp_path / "own.mkv"
    own.write_bytes(data[:at] + struct.pack(">d", 4000) + data[at + 8 :])
    assert (await prober.probe(own)).duration == pytest.approx(4, abs=0.1)


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


@pytest.mark.parametrize("codec", ["h264", further("h265"), "av1"])
async def test_pictures_that_come_in_bursts_all_stay_where_they_were(made, codec):
    bursts = "settb=1/1000,setpts='(N*0.02+floor(N/10)*0.8)/TB'"
    kept = ["-fps_mode", "passthrough", "-enc_time_base", "1:1000", "-frames:v", "50"]
    source = made("bursts.mkv", *PICTURE, "-vf", bursts, *kept, *X264)
    done = await ask(source, "video", {"format": "mp4", "codec": codec, "width": 160}, task=codec)
    assert done.warnings == []
    times = [[at for at, _ in pictures(each)] for each in (source, storage.path(done.output["name"]))]
    assert len(times[0]) == 50 and times[1] == pytest.approx(times[0], abs=0.002)


@pytest.mark.parametrize("order", ["forwards", further("backwards")])
async def test_a_clock_that_jumps_is_no_damage_and_no_length(made, tmp_path, order):
    """After the first minute, too."""
    small = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d={0}", "-f", "lavfi", "-i", "sine=440:d={0}"]
    parts = [
        made(
            f"clock{at}.ts",
            *[each.format(seconds) for each in small],
            *[*X264, "-g", "30", "-c:a", "aac", "-output_ts_offset", at],
        )
        for at, seconds in (
            ("0", 4 if order == "backwards" else 65),
            ("90000", 4 if order == "forwards" else 65),
        )
    ]
    source = tmp_path / "jumps.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in sorted(parts, reverse=order == "backwards")))
    done = await ask(source, *STAGES["ingest"])
    assert done.warnings == [] and done.output["duration"] == pytest.approx(69, abs=0.3)
    assert len(pictures(storage.path(done.output["name"]))) == pytest.approx(690, abs=3)
    assert (await ask(source, *STAGES["thumbnails"])).output["width"] == 160  # “longer than 24 hours”


def with_another_clock(source: Path, target: Path, by: float, *, kinds: tuple[str, ...]) -> Path:
    """The same packets, from second 2 on shown and heard *by* seconds later."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        copies = [out.add_stream_from_template(stream) for stream in given.streams]
        after = set()
        for packet in given.demux():
            if packet.size:
                if packet.is_keyframe and packet.pts * packet.time_base > 1.99:
                    after.add(packet.stream.type)
                late = packet.stream.type in after & set(kinds)
                packet.pts += round(by / packet.time_base) * late
                packet.dts += round(by / packet.time_base) * late
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    return target


BOTH = ("video", "audio")


@pytest.mark.parametrize(
    ("name", "by", "kinds", "seconds"),
    [
        ("far.mkv", 7200, BOTH, 4),
        further("near.mkv", 20, BOTH, 4),
        further("far.mp4", 7200, BOTH, 4),
        further("one.mp4", 7200, ("video",), 4),
        ("pause.mkv", 5, BOTH, 9),  # the camera was paused: a gap, and no jump
        further("again.flv", 0, BOTH, 8),
        ("again.mkv", 0, BOTH, 8),
    ],
)
async def test_outputs_go_on_where_a_clock_jumps(made, tmp_path, name, by, kinds, seconds):
    arguments = [*PICTURE, *TONE, "-s", "160x90", *X264, "-g", "30", "-bf", "2", "-c:a", "aac"]
    plain = made("clock.mp4", *arguments)
    if name.startswith("again"):  # a recorder that was started once more, into the same file
        data = made(f"clock{Path(name).suffix}", "-i", plain, "-c", "copy").read_bytes()
        source = tmp_path / name
        source.write_bytes(data + data[13 if name == "again.flv" else 0 :])
    else:
        source = with_another_clock(plain, tmp_path / name, by, kinds=kinds)
    done = await ask(source, *STAGES["ingest"], task=source.stem)
    assert done.warnings == [] and done.output["duration"] == pytest.approx(seconds, abs=0.15)
    times = [at for at, _ in pictures(storage.path(done.output["name"]))]
    assert len(times) == pytest.approx(240 if name.startswith("again") else 120, abs=2)
    apart = [b - a for a, b in pairwise(times)]
    assert min(apart) > 0.02 and max(apart) < (5.1 if name == "pause.mkv" else 0.11)
    alone = await ask(source, *STAGES["audio"], task=f"{source.stem}-alone")
    assert alone.warnings == [] and alone.output["duration"] == pytest.approx(seconds, abs=0.15)


async def test_slides_that_are_stored_in_another_order_are_shown_when_they_were(made):
    """Matroska's times of storing are guessed, and fell back by seconds: as if its clock did."""
    slides = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=1/4:d=16", "-f", "lavfi", "-i", "sine=440:d=16"]
    source = made("slides.mkv", *slides, *X264, "-preset", "veryfast", "-c:a", "aac")
    done = await ask(source, *STAGES["ingest"])
    assert (done.warnings, done.output["duration"]) == ([], pytest.approx(16, abs=0.1))
    shown = [at for at, _ in pictures(storage.path(done.output["name"]))]
    assert shown == pytest.approx([0, 4, 8, 12], abs=0.01)


async def test_pictures_stay_in_step_where_a_clock_jumps_that_knows_only_when_they_are_shown(made, tmp_path):
    """Matroska’s: the first pictures after the jump lie before that of their order of storing."""
    few = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=6"]
    plain = made("clock-slow.mp4", *few, *TONE, *X264, "-g", "20", "-bf", "3", "-c:a", "aac")
    source = with_another_clock(plain, tmp_path / "jump.mkv", 4000, kinds=BOTH)
    done = await ask(source, *STAGES["ingest"])
    times = [[at for at, _ in pictures(each)] for each in (plain, storage.path(done.output["name"]))]
    assert len(times[1]) == 60 and times[1] == pytest.approx(times[0], abs=0.03)
    video = (await prober.probe(source, "--gap")).video
    assert [at for _, at, _ in video.shifts] == [20] and not video.far, "those would be shown where they lie"


async def test_a_last_picture_that_its_own_packet_holds_is_held_by_an_encode(tmp_path):
    """What an encoder stores last isn’t what it shows last."""
    plain = make(Recipe("mp4", "libx264", length=2, size=(320, 180), reordered=0), tmp_path)
    source = tmp_path / "held.mp4"
    with av.open(str(plain)) as given, av.open(str(source), "w") as out:
        copy = out.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux() if packet.size]
        packets[-1].duration = round(5 / packets[-1].time_base)
        for packet in packets:
            packet.stream = copy
            out.mux(packet)
    for stage in ("ingest", "transcode"):
        done = await ask(source, *STAGES[stage], task=stage)
        assert done.warnings == [] and done.output["duration"] == pytest.approx(6.96, abs=0.1)


@pytest.mark.parametrize("name", ["held.mp4", further("held.mkv")])
async def test_a_last_picture_that_is_held_is_held_in_every_output(made, tmp_path, name):
    """Its two seconds stand at another packet than its own, as pictures are stored in another order."""
    few = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=2", *X264, "-g", "25", "-bf", "2"]
    source = tmp_path / name
    with av.open(str(made("held-plain.mp4", *few))) as given, av.open(str(source), "w") as out:
        copy = out.add_stream_from_template(given.streams.video[0])
        packets = [packet for packet in given.demux() if packet.size]
        last = max(packets, key=lambda packet: packet.dts if name == "held.mp4" else packet.pts)
        last.duration = round(2 / last.time_base)
        for packet in packets:
            packet.stream = copy
            out.mux(packet)
    for kind, options in (STAGES["ingest"], STAGES["transcode"], ("adaptive_video", {})):
        done = await ask(source, kind, options, task=f"held{kind}{len(options)}")
        assert done.warnings == [] and done.output["duration"] == pytest.approx(3.95, abs=0.1)
    shown = [await ask(source, "image", {"start": at, "format": "png"}) for at in (1.97, 3)]
    one, other = (pictures(storage.path(each.output["name"]))[0][1] for each in shown)
    assert max(abs(a - b) for a, b in zip(one, other, strict=True)) < 12, "not the last picture"


async def test_a_copy_of_sound_alone_that_cant_be_decoded_is_not_handed_over_as_whole(made, tmp_path):
    data = bytearray(made("sound.m4a", *TONE, "-c:a", "aac").read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = b"\xff" * third
    broken = tmp_path / "broken.m4a"
    broken.write_bytes(data)
    done = await ask(broken, *STAGES["ingest"])
    assert done.warnings == ["The source is damaged; the result may have errors where it is."]


@pytest.mark.parametrize("name", ["short.flv", further("short.mkv")])
async def test_a_length_that_a_whole_file_claims_too_short_is_no_length(made, tmp_path, name):
    plain = made(f"plain{Path(name).suffix}", *PICTURE, *TONE, *X264, "-c:a", "aac", "-ar", "44100")
    data = bytearray(plain.read_bytes())
    at = data.index(b"duration\0") + 9 if name == "short.flv" else data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", 0.5 if name == "short.flv" else 500)
    source = tmp_path / name
    source.write_bytes(data)
    done = await ask(source, *STAGES["ingest"])
    assert done.warnings == [] and done.output["duration"] == pytest.approx(4, abs=0.1)
