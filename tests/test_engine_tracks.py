"""Which track is the film and which its sound, where files hold several, and what is said of the others."""

from __future__ import annotations

import struct

import av
import pytest

from mediapipe import storage
from mediapipe.engine.media import media_from_probe
from mediapipe.engine.plan import can_copy_video
from mediapipe.engine.probe import probe
from tests.support.engine import STAGES, TONE, X264, ask, facts, ffmpeg, light
from tests.support.tiers import further

pytestmark = pytest.mark.anyio
SMALL = ["-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=2"]
LARGE = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2"]


def tone(pitch: int, seconds: float = 2) -> list[str]:
    return ["-f", "lavfi", "-i", f"sine=f={pitch}:d={seconds}"]


def read(path):
    return media_from_probe(probe(str(path), ["--gap"]))


async def test_a_still_beside_the_film_is_left_out_and_said_so(made):
    still = made(
        "tracks_still.mov", "-f", "lavfi", "-i", "color=red:s=640x360:d=1", "-frames:v", "1", "-c:v", "mjpeg"
    )
    film = made("tracks_film.mp4", *SMALL, *tone(440), *X264, "-c:a", "aac")
    for name in ("beside.mp4", "beside.mkv"):
        tracks = ["-map", "0:v", "-map", "1", "-c", "copy", "-disposition:v:0", "0"]
        media = read(made(f"tracks_{name}", "-i", still, "-i", film, *tracks))
        assert (media.video.width, media.video.height) == (160, 90)
        assert "still picture" in media.notes[0]


async def test_picture_and_sound_come_from_one_programme(made):
    programmes = ["-program", "program_num=1:st=0:st=1", "-program", "program_num=2:st=2:st=3"]
    tracks = ["-map", "0:v", "-map", "2:a", "-map", "1:v", "-map", "3:a"]
    source = made(
        "tracks_two.ts", *SMALL, *LARGE, *tone(440), *tone(880), *tracks, *X264, "-c:a", "mp2", *programmes
    )
    media = read(source)
    assert (media.video.index, media.audio.index) == (2, 3)
    assert "several programmes" in media.notes[0]


async def test_a_sound_track_that_is_heard_is_taken_before_a_silent_one(made):
    silence = ["-f", "lavfi", "-t", "2", "-i", "anullsrc=r=48000:cl=mono"]
    source = made(
        "tracks_mute.mkv", *silence, *tone(440), *SMALL, "-map", "2", "-map", "0", "-map", "1", *X264
    )
    media = read(source)
    assert media.audio.index == 2
    assert media.notes == ["The file has 2 sound tracks. Number 2 was taken, because another is silent."]


async def test_a_sound_that_begins_between_two_keyframes_is_not_silent(made):
    silence = ["-f", "lavfi", "-t", "2", "-i", "anullsrc=r=48000:cl=mono"]
    later = ["-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*440*t)*between(t,1.2,1.5)':d=2"]
    for name in ("tracks_later.mkv", "tracks_later.mp4"):
        tracks = ["-map", "2", "-map", "0", "-map", "1", *X264, "-g", "250"]
        media = read(made(name, *silence, *later, *SMALL, *tracks))
        assert media.audio.index == 2, name


@pytest.mark.parametrize("named", ["by its flag", "by its title"])
async def test_a_commentary_is_not_the_sound_of_the_film(made, named):
    tracks = ["-map", "0", "-map", "1", "-map", "2", "-disposition:a:1", "0", "-disposition:a:0"]
    flag = ["default+comment"] if named == "by its flag" else ["default"]
    title = [] if named == "by its flag" else ["-metadata:s:a:0", "title=Director’s Commentary"]
    media = read(made("tracks_comment.mkv", *SMALL, *tone(440), *tone(880), *tracks, *flag, *title, *X264))
    assert media.audio.index == 2


@pytest.mark.parametrize("name", ["empty.mkv", "empty.flv"])
async def test_a_sound_track_without_a_packet_is_absent_and_said_so(made, tmp_path, name):
    film = made("tracks_alone.mp4", *SMALL, *X264)
    with av.open(str(film)) as given, av.open(str(tmp_path / name), "w") as out:
        picture = out.add_stream_from_template(given.streams.video[0])
        out.add_stream("aac", rate=44100, layout="stereo").codec_context.open()
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                out.mux(packet)
    media = read(tmp_path / name)
    assert media.audio is None and "there is nothing in it" in media.notes[0]


async def test_a_picture_track_without_a_packet_is_absent_and_said_so(made, tmp_path):
    """It was called one that can't be decoded."""
    sound = made("tracks_tone.m4a", *tone(440), "-c:a", "aac")
    fragments = {"movflags": "empty_moov+frag_keyframe+default_base_moof"}
    with av.open(str(sound)) as given, av.open(str(tmp_path / "empty.mp4"), "w", options=fragments) as out:
        copy = out.add_stream_from_template(given.streams.audio[0])
        picture = out.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 160, 90, "yuv420p"
        picture.codec_context.open()
        for packet in given.demux(audio=0):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    media = read(tmp_path / "empty.mp4")
    assert media.video is None and "there is nothing in it" in media.notes[0]


async def test_a_subtitle_that_stays_long_is_not_the_length_of_the_film(made, tmp_path):
    words = tmp_path / "s.srt"
    words.write_text("1\n00:00:01,000 --> 00:02:00,000\nThanks for watching\n")
    source = made(
        "tracks_long_words.mkv", *SMALL, *tone(440), "-i", words, "-map", "0", "-map", "1", "-map", "2", *X264
    )
    assert read(source).duration < 2.2


async def test_a_picture_that_cannot_be_decoded_does_not_take_the_sound_with_it(made):
    source = made("tracks_half.mkv", *SMALL, *tone(440), *X264, "-c:a", "pcm_s16le")
    broken = source.with_name("tracks_half_broken.mkv")
    with av.open(str(source)) as given, av.open(str(broken), "w") as out:
        copies = [out.add_stream_from_template(stream) for stream in given.streams]
        for packet in given.demux():
            if packet.dts is None:
                continue
            spoilt = (
                av.Packet(b"\xff" * packet.size)
                if packet.stream.type == "video"
                else av.Packet(bytes(packet))
            )
            spoilt.pts, spoilt.dts, spoilt.time_base = packet.pts, packet.dts, packet.time_base
            spoilt.stream = copies[packet.stream_index]
            out.mux(spoilt)
    media = read(broken)
    assert media.video is None and media.audio is not None
    assert "only the sound" in media.notes[-1]


# --- what a copy would spoil ----------------------------------------------------------------------


def test_pictures_stored_without_their_times_are_not_copied(made):
    source = made("tracks_untimed.avi", *SMALL, "-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p")
    assert not can_copy_video({"format": "mp4"}, read(source))


def test_what_an_edit_list_cuts_out_is_not_copied(made):
    """Two seconds from 0.5 s on: the pictures before are still in the file, decoded for the others."""
    source = made("tracks_whole.mp4", *SMALL, *X264, "-g", "100", "-bf", "0", "-movie_timescale", "1000")
    assert can_copy_video({"format": "mp4"}, read(source))
    data = source.read_bytes()
    at = data.index(b"elst") + 12  # length, then where in the track it begins
    scale = struct.unpack(">I", data[data.index(b"mdhd") + 16 :][:4])[0]
    cut = source.with_name("tracks_cut.mp4")
    cut.write_bytes(data[:at] + struct.pack(">II", 1000, scale // 2) + data[at + 8 :])
    media = read(cut)
    assert media.video.discarded and not can_copy_video({"format": "mp4"}, media)


@pytest.mark.parametrize("pixels", ["yuv422p", "yuv444p", "yuv420p10le"])
def test_profiles_that_players_refuse_are_not_copied(made, pixels):
    source = made(
        f"tracks_{pixels}.mp4", *SMALL, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", pixels
    )
    assert not can_copy_video({"format": "mp4"}, read(source))


# --- posters --------------------------------------------------------------------------------------


async def test_a_poster_is_not_black_where_the_film_soon_is_not_unless_that_moment_is_meant(made):
    black = ["-f", "lavfi", "-i", "color=black:s=320x180:r=25:d=3"]
    joined = ["-filter_complex", "[0:v][1:v]concat=n=2:v=1[v]", "-map", "[v]"]
    source = made("tracks_intro.mp4", *black, *LARGE, *joined, *X264)
    near = (await ask(source, *STAGES["thumbnails"])).output
    assert light(storage.path(near["name"]))[0] > 60
    asked = {"format": "png", "start": 2, "moment": "exact"}
    exact = (await ask(source, "image", asked)).output
    assert light(storage.path(exact["name"]))[0] < 20


# --- odd sides ------------------------------------------------------------------------------------


EVERY = [
    STAGES["ingest"],
    ("video", {"width": 101}),
    ("video", {"format": "webm", "width": 101}),
    ("video", {"width": 99, "height": 57, "fit": "cover"}),
    ("adaptive_video", {}),
    ("animation", {"end": 0.5}),
    ("animation", {"end": 0.5, "format": "webp"}),
    ("image", {"interval": 0.3}),
    *[("image", {"format": form, "width": 97, "start": 0.2}) for form in ("jpeg", "png", "webp", "avif")],
]
HDR10 = ["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc"]


def named(*colours: str) -> list[str]:
    return ["-vf", "format=yuv420p,setparams=" + ":".join(colours)]


@pytest.mark.parametrize(
    ("pixels", "colours"),
    [
        ("yuv420p", []),
        ("yuv420p10le", HDR10),
        further("yuva420p", []),
        further("yuv420p", named("colorspace=ycgco")),
        further("yuv420p", named("colorspace=bt2020c", "color_primaries=bt2020")),
    ],
    ids=["plain", "hdr", "transparent", "ycgco", "constant luminance"],
)
async def test_odd_sides_pass_through_every_kind(tmp_path, pixels, colours):
    source = tmp_path / "odd.mkv"
    lossless = ["-pix_fmt", pixels, "-c:v", "ffv1", *colours]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=322x182:r=10:d=1,crop=321:181:exact=1", *lossless, source)
    for number, (kind, asked) in enumerate(EVERY):
        done = (await ask(source, kind, asked, task=f"odd{number}")).output
        assert done["width"] % 2 == done["height"] % 2 == 0, (kind, asked)
        if kind == "video" and "height" not in asked:
            assert abs(done["width"] / done["height"] - 321 / 181) < 0.03


async def test_recordings_in_a_row_are_told_of_where_only_the_first_can_be_read(made, tmp_path):
    """Of nine seconds four were handed over, without a word."""
    both = ["-f", "lavfi", "-i", "testsrc2=s=64x36:r=25:d=2", "-f", "lavfi", "-i", "sine=440:d=2"]
    one, other = (made(f"{n}.ogv", *both, "-c:v", "libtheora", "-c:a", "libvorbis") for n in (1, 2))
    chained = tmp_path / "chained.ogv"
    chained.write_bytes(one.read_bytes() + other.read_bytes())
    done = await ask(chained, *STAGES["ingest"], task="chained")
    assert ["several recordings" in each for each in done.warnings] == [True]
    assert (await ask(one, *STAGES["ingest"], task="one")).warnings == []


@pytest.mark.parametrize(("rate", "told"), [("48000", False), ("44100", True)])
async def test_sound_in_a_row_is_told_of_where_it_becomes_another(made, tmp_path, rate, told):
    """FFmpeg ends where Vorbis changes its rate: half of it was handed over, without a word."""
    tone = ["-f", "lavfi", "-i", "sine=440:d=2", "-c:a", "libvorbis", "-ar"]
    parts = [made("one.ogg", *tone, "48000"), made("other.ogg", *tone, rate, "-serial_offset", "77")]
    chained = tmp_path / "chained.ogg"
    chained.write_bytes(b"".join(part.read_bytes() for part in parts))
    done = await ask(chained, *STAGES["ingest"])
    assert any("several recordings" in text for text in done.warnings) == told
    assert done.output["duration"] == pytest.approx(2 if told else 4, abs=0.2)


async def test_an_mp3_with_much_behind_its_end_is_not_cut_off(made, tmp_path):
    """FFmpeg believes no length of a file that is larger than it says, and guesses another."""
    padded = tmp_path / "padded.mp3"
    padded.write_bytes(made("2.mp3", "-f", "lavfi", "-i", "sine=440:d=2", "-c:a", "libmp3lame").read_bytes())
    padded.write_bytes(padded.read_bytes() + bytes(50_000))
    for stage in ("ingest", "audio"):
        done = await ask(padded, *STAGES[stage], task=stage)
        assert done.warnings == [] and abs(done.output["duration"] - 2) < 0.2


async def test_a_joined_mp3_is_not_damaged(made, tmp_path):
    """The tag of its second part was taken for sound that can't be decoded."""
    parts = [
        made(f"{n}.mp3", "-f", "lavfi", "-i", f"sine=440:d={n}", "-c:a", "libmp3lame") for n in (1, 2, 3)
    ]
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join(each.read_bytes() for each in parts))
    for stage in ("ingest", "audio"):
        done = await ask(joined, *STAGES[stage], task=stage)
        assert done.warnings == [] and abs(done.output["duration"] - 6) < 0.3


async def test_the_still_of_an_animated_photo_is_its_first_picture_and_not_told_of(made):
    moving = ["-f", "lavfi", "-i", "testsrc2=s=64x36:r=10:d=1"]
    source = made("moving.avif", *moving, "-c:v", "libsvtav1", "-preset", "12")
    done = await ask(source, *STAGES["ingest"])
    assert done.warnings == [] and done.output["duration"] == 1


async def test_the_sound_of_a_film_that_stands_still_at_first_is_not_taken_for_empty(made):
    """Theora stores a picture that stays as it was as a packet of nothing."""
    still = ["-f", "lavfi", "-i", "color=c=teal:s=320x180:r=25:d=2,format=yuv420p"]
    source = made("film.ogv", *still, *TONE, "-c:v", "libtheora", "-c:a", "libvorbis")
    done = await ask(source, *STAGES["ingest"])
    assert done.warnings == [] and facts(done.output)["audio"] == "aac"


@pytest.mark.parametrize(("number", "seconds"), [("1", 4), ("2", 2)])
async def test_a_broadcast_goes_on_where_its_tracks_get_other_numbers(made, tmp_path, number, seconds):
    """Where the programme is another one, what follows is missing, and told of."""
    both = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2", "-f", "lavfi", "-i", "sine=440:d=2"]
    both += [*X264, "-c:a", "mp2"]
    other = ["-mpegts_start_pid", "0x200", "-output_ts_offset", "2", "-mpegts_service_id", number]
    parts = [made("one.ts", *both), made("other.ts", *both, *other)]
    source = tmp_path / "joined.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    done = await ask(source, *STAGES["ingest"])
    assert any("several recordings" in text for text in done.warnings) == (number == "2")
    assert done.output["duration"] == pytest.approx(seconds, abs=0.1)
