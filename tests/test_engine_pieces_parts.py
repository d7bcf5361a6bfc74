"""A part of a film, or a film at another rate, encoded in pieces: it is that of an uncut encode."""

from __future__ import annotations

import json

import av
import pytest

from mediapipe.engine import piece_files, worker
from tests.support.engine import X264
from tests.support.tiers import further
from tests.test_engine_pieces import new, put, run, same_film, works
from tests.test_engine_pieces_sources import MOVING, MPEG2, TONE

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]
NTSC = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30000/1001:d=10,scroll=h=0.02:v=0.01"]
QUICK = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=60:d=10,scroll=h=0.008:v=0.004"]
LEFT_OUT = r"select='not(eq(mod(n\,7)\,2))*not(eq(mod(n\,11)\,5))*not(between(t\,4.1\,4.9))'"
SOURCES = {
    "open.mp4": [*NTSC, *TONE, "-c:a", "aac", *X264, "-bf", "3", "-g", "48", "-x264-params", "open-gop=1"],
    "late.mkv": [*MOVING, *TONE, "-vf", "trim=start=0.4", "-fps_mode", "passthrough", *X264, "-bf", "2"],
    "uneven.mp4": [
        *[*QUICK, *TONE, "-c:a", "aac", "-vf", LEFT_OUT, "-fps_mode", "vfr"],
        *["-enc_time_base", "1/90000", *X264, "-bf", "2"],
    ],
    "interlaced.mxf": [*MPEG2, "-g", "15", "-vf", "setfield=tff", "-flags", "+ildct+ilme"],
    "silent.mp4": [*MOVING, *X264],
}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        # the first pictures lie before the keyframe that they need
        ("open.mp4", {"start": 1.3, "end": 9.217}),
        ("uneven.mp4", {"fps": 25}),
        further("interlaced.mxf", {"start": 2}),
        further("late.mkv", {"start": 0.2, "end": 8.2}),
        further("uneven.mp4", {"start": 0.99, "codec": "h265"}),
        further("late.mkv", {"end": 9.96}),
        further("silent.mp4", {"start": 2, "end": 100}),
        further("open.mp4", {"start": 1.3, "end": 9.2, "format": "webm"}),
        further("open.mp4", {"fps": 12}),
        further("late.mkv", {"fps": 23.976}),
        further("interlaced.mxf", {"fps": 50}),
        further("uneven.mp4", {"start": 1.3, "end": 8, "fps": 12.5}),
        further("silent.mp4", {"fps": 15, "codec": "av1"}),
    ],
)
async def test_a_part_of_a_film_and_one_at_another_rate_are_those_of_uncut_encodes(
    short_pieces, made, name, options
):
    link = put(made, name, SOURCES[name])
    await same_film(await new(link, **options), await new(link, **options))


async def test_pieces_of_before_an_update_are_not_joined(short_pieces, made):
    """They don't say how they meet."""
    task = await new(put(made, "silent.mp4", SOURCES["silent.mp4"]))
    division = await run(worker.run_task, task.pk, True)
    for work in works(task, division):
        assert await run(worker.encode_piece, work)
    for piece in division.pieces:
        beside = (piece_files.folder(division.key) / piece.name).with_suffix(".json")
        known = json.loads(beside.read_text())
        beside.write_text(json.dumps({each: known[each] for each in ("start", "took", "decoded_by")}))
    assert "don’t meet" in await run(worker.join_pieces, task.pk, division)


async def test_pieces_that_begin_at_a_keyframe_which_is_none_are_not_joined(short_pieces, made, tmp_path):
    """Nothing tells what is wrong with their pictures but those of the piece before."""
    wrong = tmp_path / "wrong.mkv"
    right = made("right.mkv", *MOVING, "-c:v", "mpeg4", "-q:v", "4", "-g", "250")
    with av.open(str(right)) as source, av.open(str(wrong), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            packet.is_keyframe = number % 25 == 0
            packet.stream = stream
            if packet.size:
                target.mux(packet)
    link = put(lambda *_: wrong, "wrong.mkv", [])
    task = await new(link)
    division = await run(worker.run_task, task.pk, True)
    for work in works(task, division):
        assert await run(worker.encode_piece, work)
    assert "don’t meet" in await run(worker.join_pieces, task.pk, division)
