"""What is said of files in which something is missing, damaged or of an unknown kind: only what is so."""

from __future__ import annotations

import io
import random
import struct

import av
import pytest

from mediapipe.engine.errors import TaskError, from_ffmpeg
from tests.support.engine import STAGES, X264, ask

pytestmark = pytest.mark.anyio
FILM = [
    *["-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=2", "-f", "lavfi", "-i", "sine=440:d=2"],
    *[*X264, "-g", "25", "-c:a", "aac"],
]
DAMAGED = "The source is damaged; the result may have errors where it is."


@pytest.fixture
def changed(made, tmp_path):
    """The film in a container, its bytes changed by a function."""

    def change(ending, by):
        film = made("sentences.mp4", *FILM)
        data = (
            film if ending == "mp4" else made(f"sentences.{ending}", "-i", film, "-c", "copy")
        ).read_bytes()
        path = tmp_path / f"changed.{ending}"
        path.write_bytes(by(data))
        return path

    return change


def noise(start: float, end: float):
    def by(data):
        changed = bytearray(data)
        first, last = (int(share * len(data)) for share in (start, end))
        changed[first:last] = random.Random(1).randbytes(last - first)
        return bytes(changed)

    return by


async def test_a_picture_of_an_unknown_kind_is_named_and_its_sound_is_kept(changed):
    source = changed("mkv", lambda data: data.replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/XSO/AVC"))
    done = await ask(source, *STAGES["ingest"])
    sentence = "The picture is in a format that this engine can’t decode"
    assert done.warnings == [f"{sentence}, so only the sound was processed."]
    for kind, asked in (STAGES["thumbnails"], STAGES["transcode"], ("animation", {"end": 1})):
        with pytest.raises(TaskError, match=sentence) as refused:
            await ask(source, kind, asked)
        assert refused.value.kind == "no_video"


async def test_a_sound_of_an_unknown_kind_is_named_and_the_picture_is_kept(changed):
    source = changed("mkv", lambda data: data.replace(b"A_AAC", b"A_XYZ"))
    done = await ask(source, *STAGES["ingest"])
    sentence = "The sound is in a format that this engine can’t decode"
    assert done.warnings == [f"{sentence}, so the result is silent."]
    with pytest.raises(TaskError, match=sentence):
        await ask(source, *STAGES["audio"])


@pytest.mark.parametrize("ending", ["mp4", "ts"])
async def test_a_damaged_film_is_not_copied_without_a_word(changed, ending):
    done = await ask(changed(ending, noise(0.4, 0.6)), *STAGES["ingest"])
    assert DAMAGED in done.warnings


@pytest.mark.parametrize(
    ("name", "encode", "told"),
    [
        ("hole.webm", ["-c:v", "libvpx", "-b:v", "1M", "-deadline", "realtime", "-c:a", "libopus"], DAMAGED),
        ("hole.avi", ["-c:v", "mpeg4", "-c:a", "libmp3lame"], "This file stops or is damaged at 0:0"),
    ],
)
async def test_what_is_missing_is_told_where_what_is_left_is_whole(made, tmp_path, name, encode, told):
    """No decoder complains, and an AVI has no times in which a hole could be seen."""
    data = bytearray(made(name, *FILM[:-2], *encode).read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 4] = bytes(len(data) // 4)
    source = tmp_path / name
    source.write_bytes(data)
    warnings = (await ask(source, *STAGES["ingest"])).warnings
    assert any(warning.startswith(told) for warning in warnings), warnings


def damaged_in_one_place(film: bytes, track: str, by: str) -> bytes:
    """The MP4 with noise, or a hole, inside one of its packets: the fourth picture behind a keyframe."""
    with av.open(io.BytesIO(film)) as container:
        packets = list(container.demux(getattr(container.streams, track)[0]))
    number = 29 if track == "video" else 40
    at, size = packets[number].pos, packets[number].size
    first, last = (at + size // 4, at + size * 3 // 4) if track == "video" else (at, at + size)
    lost = random.Random(2).randbytes(last - first) if by == "noise" else bytes(last - first)
    return film[:first] + lost + film[last:]


@pytest.mark.parametrize(("track", "by"), [("video", "noise"), ("video", "a hole"), ("audio", "noise")])
async def test_damage_in_a_single_packet_is_not_copied_without_a_word(changed, track, by):
    done = await ask(changed("mp4", lambda film: damaged_in_one_place(film, track, by)), *STAGES["ingest"])
    assert done.warnings == [DAMAGED]


async def test_a_second_that_is_missing_in_a_broadcast_is_told_and_a_join_is_not(changed, tmp_path):
    def lost(data):
        return data[: len(data) * 4 // 10 // 188 * 188] + data[len(data) * 6 // 10 // 188 * 188 :]

    assert (await ask(changed("ts", lost), *STAGES["ingest"], task="lost")).warnings == [DAMAGED]
    whole = changed("ts", lambda data: data).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(whole + whole)
    assert (await ask(joined, *STAGES["ingest"], task="joined")).warnings == []


async def test_a_recording_of_which_only_the_beginning_is_there_is_called_one(tmp_path, made):
    source = tmp_path / "head.wav"
    source.write_bytes(made("sentences.wav", "-f", "lavfi", "-i", "sine=440:d=1").read_bytes()[:44])
    with pytest.raises(TaskError, match="begins as a recording does") as refused:
        await ask(source, *STAGES["audio"])
    assert refused.value.kind == "damaged"


def test_what_our_own_filters_refuse_is_not_called_an_empty_file():
    log = "[vf#0:0] Error reinitializing filters!\n[out#0/gif] Nothing was written into output file, because"
    refused = from_ffmpeg(log, 218)
    assert refused.kind == "internal_error" and "can’t be converted" in str(refused)


@pytest.mark.parametrize(
    ("behind", "lasts"),
    [
        (b"", 3),
        (b"LIST\x04\0\0\0INFO", 1),
        (b"id3 \x08\0\0\0ID3\x03\0\0\0\0", 1),
        (b"LIST\xff\0\0\0INFO" + b"a" * 40_000, 1),
        (bytes(50_000), 1),
        (b"APETAGEX" + b"\x01" * 50_000, 1),
    ],
)
async def test_a_recording_that_was_ended_before_its_size_was_written_is_taken_whole(
    made, tmp_path, behind, lasts
):
    """It says one second, and nothing but its sound comes after that, or what programs put there."""
    tone = made("whole.wav", "-f", "lavfi", "-i", "sine=440:d=3:r=16000", "-bitexact").read_bytes()
    first = 44 + 2 * 16_000
    source = tmp_path / "recorded.wav"
    size = struct.pack("<I", 2 * 16_000)
    source.write_bytes(tone[:40] + size + tone[44:first] + (behind or tone[first:]))
    done = await ask(source, *STAGES["audio"])
    assert done.output["duration"] == pytest.approx(lasts, abs=0.1)
    assert any("ends sooner than it does" in each for each in done.warnings) == (lasts == 3)


async def test_a_sound_of_more_channels_than_any_filter_takes_is_refused_with_a_sentence(tmp_path):
    frame, seconds = 65 * 2, 8000
    head = struct.pack("<IHHIIHH", 16, 1, 65, seconds, seconds * frame, frame, 16)
    data = b"data" + struct.pack("<I", seconds * frame) + bytes(seconds * frame)
    source = tmp_path / "many.wav"
    source.write_bytes(b"RIFF" + struct.pack("<I", 28 + len(data)) + b"WAVEfmt " + head + data)
    with pytest.raises(TaskError, match="The sound is in a format that this engine can’t decode") as refused:
        await ask(source, *STAGES["ingest"])
    assert refused.value.kind == "unsupported"
