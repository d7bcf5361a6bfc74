"""A long stream encoded in pieces: its renditions are those of an uncut encode, cut at the same places."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediapipe import storage
from mediapipe.engine import piece_files, pieces, plan
from mediapipe.engine.folders import folder
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.models import EngineTask
from mediapipe.engine.piecework import Film
from tests.support.engine import X264, endless_space, likeness, packets
from tests.support.tiers import further
from tests.test_engine_pieces import TONE, encode_both, put
from tests.test_engine_stream import KEYS, VARIANT, inside

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def small_enough(monkeypatch):
    """A second rendition of small films already."""
    monkeypatch.setattr(plan, "SMALL", 90)


def large(rate: str = "20") -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc2=s=320x180:r={rate}:d=10"]


AS_FINE = ["-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
OWN_KEYS = [*KEYS, "0,1.3,3.1,4.7,8.1"]  # no grid of ours
PAUSES = "select='not(between(t,3,5.3))*not(between(t,7.1,7.9))*not(eq(mod(n,3),1))'"
FAST_HEVC = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:open-gop=1"]
LATE = ["-vf", "trim=start=0.4", "-fps_mode", "passthrough"]
SOURCES = {
    "copied.mp4": [*large(), *TONE, *X264, "-bf", "2", *OWN_KEYS],
    "encoded.mkv": [*large(), *TONE, *FAST_HEVC, "-c:a", "libopus"],
    "late.mp4": [*large(), *TONE, *LATE, *FAST_HEVC, "-c:a", "aac"],
    "late-copied.mp4": [*large(), *TONE, *LATE, *X264, "-bf", "2", *OWN_KEYS],
    "turned.mov": ["-display_rotation", "90", *large(), *X264, "-g", "24"],
    "small.mkv": ["-f", "lavfi", "-i", "testsrc2=s=128x72:r=25:d=10", *TONE, "-c:v", "mjpeg"],
    "pauses.mp4": [*large("25"), "-vf", PAUSES, "-fps_mode", "vfr", "-enc_time_base", "1/90000", *X264],
    "long-sound.mp4": [*large(), *TONE, "-af", "apad=pad_dur=1.5", *X264, "-bf", "2", "-c:a", "aac"],
    "broadcast.ts": [*large("25"), *TONE, "-ar", "48000", *LATE, *X264, "-bf", "2", "-c:a", "aac"],
}


async def new(link: str, **options) -> EngineTask:
    return await EngineTask.objects.acreate(kind="adaptive_video", input=link, options=options)


def playlists(task: EngineTask) -> list[Path]:
    index = storage.path(task.output["name"])
    return sorted(index.parent.glob("rendition*.m3u8")) or [index]


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {}) if name in ("copied.mp4", "encoded.mkv") else further(name, {}) for name in SOURCES]
    + [further("encoded.mkv", {"start": 0.7, "end": 9.3})],
)
async def test_a_stream_of_pieces_is_that_of_an_uncut_encode(short_pieces, monkeypatch, made, name, options):
    """Whether the large rendition is a copy or not: the same pictures, cuts and sound, told as truly."""
    for limit in ("MAX_PIECES", "MIN_PIECES"):
        monkeypatch.setattr(pieces, limit, 2)
    link = put(made, name, SOURCES[name])
    cut, whole = await new(link, **options), await new(link, **options)
    await encode_both(cut, whole)
    assert [each.name for each in playlists(cut)] == [each.name for each in playlists(whole)]
    source = storage.path(f"sources/p/{name}")
    for one, other in zip(playlists(cut), playlists(whole), strict=True):
        lengths, theirs = (inside(each)["lengths"] for each in (one, other))
        assert lengths[:-1] == theirs[:-1] and lengths[-1] == pytest.approx(theirs[-1], abs=0.05)
        for kind in ("video", "audio"):
            assert packets(one, kind) == packets(other, kind)
        if not options:
            assert likeness(one, source) == pytest.approx(likeness(other, source), abs=0.003)
    assert cut.output["filesize"] == pytest.approx(whole.output["filesize"], rel=0.02)
    masters = [VARIANT.findall(storage.path(each.output["name"]).read_text()) for each in (cut, whole)]
    for (rate, *ours), (uncut, *theirs) in zip(*masters, strict=True):
        assert ours == theirs and int(rate) == pytest.approx(int(uncut), rel=0.05)  # of its largest segment
    assert not list(piece_files.folder("").iterdir()) and not folder(cut.pk).exists()


@pytest.mark.parametrize(
    ("name", "options", "stays"),
    [
        ("copied.mp4", {"quality": "low"}, False),
        ("open.mp4", {}, True),
        ("restless.mkv", {}, True),
        ("small.mp4", {}, True),
        ("broken-rate.ts", {}, True),
    ],
)
async def test_a_stream_that_is_a_copy_alone_or_is_not_known_to_come_out_the_same_stays_in_one(
    short_pieces, made, name, options, stays
):
    """Of an open group the pictures before a keyframe would be another piece's; segments are counted by how
    long pictures stand, which a piece of a restless film doesn't say; 44.1 kHz fit no broadcast's clock.
    """
    sources = {
        **SOURCES,
        "open.mp4": [*large(), *X264, "-bf", "3", "-g", "24", "-x264-params", "open-gop=1"],
        "restless.mkv": [*large(), "-vf", "settb=1/1000,setpts='(N+0.1*sin(N))/20/TB'", *AS_FINE, *X264],
        "broken-rate.ts": [*large(), *TONE, *X264, "-c:a", "aac"],
        "small.mp4": [*["-f", "lavfi", "-i", "testsrc2=s=128x72:r=25:d=10"], *X264],
    }
    link = put(made, name, sources[name])
    kind = KINDS["adaptive_video"]
    film = await Film.of("t", kind, {"format": "hls", **options}, link, Hooks(endless_space))
    assert (await film.division() is None) is stays
