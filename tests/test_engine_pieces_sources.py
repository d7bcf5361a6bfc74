"""A film of any codec or container, encoded in pieces: it is that of an uncut encode, picture by picture."""

from __future__ import annotations

import pytest

from tests.support.engine import ffmpeg
from tests.support.tiers import further
from tests.test_engine_pieces import new, put, same_film

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]
MOVING = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=10,scroll=h=0.02:v=0.01"]
TONE = ["-f", "lavfi", "-i", "sine=440:d=10:r=48000", "-c:a", "pcm_s16le"]
MPEG2 = [*MOVING, *TONE, "-c:v", "mpeg2video", "-q:v", "4", "-bf", "2"]
MPEG4 = [*MOVING, *TONE, "-c:v", "mpeg4", "-q:v", "4", "-bf", "2", "-g", "60"]
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
}
SOME = ("open.mxf", "vp8.webm")


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
