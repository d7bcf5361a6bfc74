"""A film of any codec or container, encoded in pieces: it is that of an uncut encode, picture by picture."""

from __future__ import annotations

import pytest

from mediapipe import storage
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.piecework import Film
from tests.support.engine import X264, endless_space, ffmpeg
from tests.support.tiers import further
from tests.test_engine_pieces import ASKED, new, put, same_film

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]
MOVING = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=10,scroll=h=0.02:v=0.01"]
TONE = ["-f", "lavfi", "-i", "sine=440:d=10:r=48000", "-c:a", "pcm_s16le"]
MPEG2 = [*MOVING, *TONE, "-c:v", "mpeg2video", "-q:v", "4", "-bf", "2"]
MPEG4 = [*MOVING, *TONE, "-c:v", "mpeg4", "-q:v", "4", "-bf", "2", "-g", "60"]
OPEN = [*MOVING, *TONE, *X264, "-bf", "3", "-g", "50", "-x264-params", "open-gop=1"]
HEVC = "log-level=error:open-gop=1:keyint=50"
AS_FINE = ["-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
# where it could be cut, every other time the encoder has a picture a turn late, until one is left out
RESTLESS = (
    "settb=1/1000,setpts='(N+0.48+0.1*eq(mod(N,100),39)-0.05*eq(mod(N,100),40))/25/TB',"
    "select='not(eq(mod(n,100),75))'"
)
HIDDEN = ["-auto-alt-ref", "1", "-lag-in-frames", "25"]
VP8 = [*MOVING, "-c:v", "libvpx", "-b:v", "200k", "-cpu-used", "8", "-g", "90", *HIDDEN]
SOURCES = {
    "open.mxf": [*MPEG2, "-g", "12"],
    "closed.mov": [*MPEG2, "-g", "31", "-flags", "+cgop", "-sc_threshold", "1000000000"],
    "interlaced.mkv": [*MPEG2, "-g", "15", "-vf", "setfield=tff", "-flags", "+ildct+ilme"],
    "dnxhr.mxf": [*MOVING, *TONE, "-c:v", "dnxhd", "-profile:v", "dnxhr_lb", "-pix_fmt", "yuv422p"],
    "prores.mov": [*MOVING, *TONE, "-c:v", "prores_ks", "-profile:v", "0"],
    "mpeg4.mp4": [*MPEG4, "-c:a", "aac"],
    "mpeg4.mkv": MPEG4,
    "vp8.webm": VP8,
    "ffv1.mkv": [*MOVING, *TONE, "-c:v", "ffv1", "-g", "40"],
    "dv.mov": [*MOVING, *TONE, "-vf", "scale=720:576", "-pix_fmt", "yuv420p", "-c:v", "dvvideo"],
    "uncompressed.mov": [*MOVING, *TONE, "-c:v", "v210", "-pix_fmt", "yuv422p10le"],
    "jpeg2000.mxf": [*MOVING, *TONE, "-pix_fmt", "yuv422p10le", "-c:v", "jpeg2000", "-q:v", "6"],
    "huffyuv.avi": [*MOVING, *TONE, "-pix_fmt", "yuv422p", "-c:v", "huffyuv"],
    "utvideo.avi": [*MOVING, *TONE, "-c:v", "utvideo"],
    "cineform.mov": [*MOVING, *TONE, "-pix_fmt", "yuv422p10le", "-c:v", "cfhd"],
    "raw.avi": [*MOVING, *TONE, "-pix_fmt", "yuv420p", "-c:v", "rawvideo"],
    "video-cd.mpg": [*MOVING, *TONE, "-c:v", "mpeg1video", "-q:v", "4", "-bf", "2", "-c:a", "mp2"],
    "av1.mp4": [*MOVING, *TONE, "-c:v", "libsvtav1", "-preset", "10", "-g", "70", "-c:a", "aac"],
    # the clock begins anew after two seconds
    "wraps.ts": [*MPEG2, "-g", "12", "-c:a", "mp2", "-output_ts_offset", "95441.5"],
    "late-picture.ts": [*OPEN, "-vf", "trim=start=0.4", "-fps_mode", "passthrough", "-c:a", "aac"],
    "late-sound.ts": [*OPEN, "-af", "atrim=start=0.45", "-c:a", "aac", "-output_ts_offset", "36000"],
    "fields.m2ts": [*MPEG2, "-vf", "setfield=tff", "-flags", "+ildct+ilme", "-c:a", "ac3"],
    "hevc.ts": [*MOVING, *TONE, "-c:v", "libx265", "-x265-params", HEVC, "-c:a", "aac"],
    "dvd.mpg": [*MPEG2, "-g", "15", "-c:a", "mp2", "-f", "vob"],
    "reordered.avi": [*MPEG4, "-c:a", "libmp3lame"],
    "simple.avi": [*MOVING, *X264, "-pix_fmt", "yuv420p", "-profile:v", "baseline", "-bf", "0", "-g", "50"],
    "late.avi": [*MOVING, *TONE, *X264, "-bf", "2", "-g", "50"],
    "late.mxf": [*MOVING, *TONE, *X264, "-bf", "2", "-g", "50", "-pix_fmt", "yuv422p10"],
    "photos.avi": [*MOVING, *TONE, "-c:v", "mjpeg", "-q:v", "4"],
    "restless.mkv": [*MOVING, *TONE, "-vf", RESTLESS, *AS_FINE, *X264, "-bf", "2"],
}
SOME = ("wraps.ts", "restless.mkv")


@pytest.mark.parametrize("name", [name if name in SOME else further(name) for name in SOURCES])
async def test_a_film_of_pieces_is_that_of_an_uncut_encode_whatever_its_source_is(
    short_pieces, made, tmp_path, name
):
    """Of broadcasters, of cameras, of archives: open groups of pictures, fields, pictures that are hidden."""
    arguments = SOURCES[name]
    if name == "vp8.webm":  # it hides pictures where it knows the film
        log = tmp_path / "passes"
        ffmpeg(*arguments, "-pass", "1", "-passlogfile", log, "-f", "null", "-")
        arguments = [*arguments, "-pass", "2", "-passlogfile", str(log)]
    link = put(made, name, arguments)
    await same_film(await new(link), await new(link))


@pytest.mark.release
@pytest.mark.parametrize("name", ["wraps.ts", "late-sound.ts"])
async def test_a_recording_that_begins_in_the_middle_is_that_of_an_uncut_encode(short_pieces, made, name):
    """Its first pictures need others that aren't there, and no decoder shows them."""
    link = put(made, f"joined-{name}", SOURCES[name])
    recording = storage.path(f"sources/p/joined-{name}")
    recording.write_bytes(recording.read_bytes()[60_021:])
    await same_film(await new(link), await new(link))


async def test_a_film_of_which_nobody_knows_when_its_pictures_are_shown_stays_in_one(short_pieces, made):
    link = put(made, "without-times.mpg", [*OPEN, "-c:a", "mp2", "-f", "vob"])
    film = await Film.of("t", KINDS["video"], ASKED, link, Hooks(endless_space))
    assert film.is_long and await film.division() is None
