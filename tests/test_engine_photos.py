"""Photos and moving pictures as sources: read whole, upright, and without the place they were taken at."""

from __future__ import annotations

import struct

import pytest

from mediapipe import storage
from tests.support.engine import ask, probe

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("name", "encode", "frames"),
    [
        ("moving.png", ["-f", "apng"], 20),
        ("moving.webp", ["-c:v", "libwebp_anim", "-loop", "0"], 20),
        ("moving.avif", ["-c:v", "libaom-av1", "-cpu-used", "8", "-f", "avif"], 20),
        ("photo.bmp", ["-frames:v", "1"], 1),
        ("photo.tiff", ["-frames:v", "1"], 1),
    ],
)
async def test_every_kind_of_picture_file_is_read_whole(made, name, encode, frames):
    source = made(name, "-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=2", *encode)
    with probe((await ask(source, "video", {}, task=name)).output) as container:
        assert sum(1 for _ in container.decode(video=0)) == frames
    still = (await ask(source, "image", {"width": 80}, task=name)).output
    assert (still["width"], still["height"]) == (80, 44)


@pytest.mark.parametrize(("form", "stays"), [("png", "png"), ("webp", "webp"), ("bmp", "jpeg")])
async def test_a_photo_stays_what_it_is_where_nothing_else_is_asked_for(made, form, stays):
    photo = made(f"still.{form}", "-f", "lavfi", "-i", "testsrc2=s=160x90", "-frames:v", "1")
    assert (await ask(photo, "image", {}, task=form)).output["format"] == stays


def exif(orientation: int) -> bytes:
    """A JPEG's APP1 segment with an orientation and a place (Exif 2.3)."""
    place = struct.pack("<6I", 48, 1, 51, 1, 2448, 100)
    gps = struct.pack("<HHHI4sHHIII", 2, 1, 2, 2, b"N\0\0\0", 2, 5, 3, 68, 0) + place
    main = struct.pack("<HHHIHHHHII", 2, 0x0112, 3, 1, orientation, 0, 0x8825, 4, 1, 38) + struct.pack(
        "<I", 0
    )
    body = b"Exif\0\0II*\0" + struct.pack("<I", 8) + main + gps
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
async def test_a_phones_photo_stands_upright_and_tells_no_place(made, tmp_path, form):
    plain = made("photo.jpg", "-f", "lavfi", "-i", "testsrc2=s=320x180", "-frames:v", "1").read_bytes()
    photo = tmp_path / "phone.jpg"
    photo.write_bytes(plain[:2] + exif(6) + plain[2:])
    output = (await ask(photo, "image", {"format": form})).output
    assert (output["width"], output["height"]) == (180, 320)
    assert struct.pack("<4I", 48, 1, 51, 1) not in storage.path(output["name"]).read_bytes()


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I4s", len(data) + 8, kind) + data


def inside(data: bytes, path: list[bytes]) -> bytes:
    """A box of an ISO file."""
    at = 0
    while struct.unpack(">I4s", data[at : at + 8])[1] != path[0]:
        at += struct.unpack(">I", data[at : at + 4])[0]
    end = at + struct.unpack(">I", data[at : at + 4])[0]
    if len(path) == 1:
        return data[at:end]
    skipped = {b"stsd": 16, b"hvc1": 86}.get(path[0], 8)
    return inside(data[at + skipped : end], path[1:])


async def test_a_heic_of_tiles_is_one_picture(made, tmp_path):
    """As phones store photos: a grid of tiles (ISO/IEC 23008-12), here two beside each other, and turned."""
    tiles = [
        made(f"tile{x}.mp4", "-f", "lavfi", "-i", f"testsrc2=s=512x256,crop=256:256:{x}:0", "-frames:v", "1",
             "-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p", "-tag:v", "hvc1")
        .read_bytes()
        for x in (0, 256)
    ]  # fmt: skip
    hvcc = inside(tiles[0], [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1", b"hvcC"])
    data = [inside(tile, [b"mdat"])[8:] for tile in tiles]
    grid = struct.pack(">BBBBHH", 0, 0, 0, 1, 500, 200)
    zero = b"\0\0\0\0"

    def sizes(*two: int) -> bytes:
        return box(b"ispe", zero, struct.pack(">II", *two))

    def meta(offset: int) -> bytes:
        entries = [
            box(b"infe", struct.pack(">IHH4sB", 2 << 24 | hidden, number, 0, kind, 0))
            for number, kind, hidden in ((1, b"hvc1", 1), (2, b"hvc1", 1), (3, b"grid", 0))
        ]
        places = [(1, 0, offset, len(data[0])), (2, 0, offset + len(data[0]), len(data[1])), (3, 1, 0, 8)]
        located = b"".join(struct.pack(">HHHHII", n, how, 0, 1, at, size) for n, how, at, size in places)
        owned = b"".join(struct.pack(">HBBB", n, 2, 0x81, 2) for n in (1, 2)) + struct.pack(
            ">HBBB", 3, 2, 3, 0x84
        )
        return box(b"meta", zero, box(b"hdlr", zero, zero, b"pict", bytes(13)), box(b"pitm", zero, b"\0\3"),
                   box(b"iinf", zero, b"\0\3", *entries),
                   box(b"iref", zero, box(b"dimg", struct.pack(">HHHH", 3, 2, 1, 2))),
                   box(b"iprp", box(b"ipco", hvcc, sizes(256, 256), sizes(500, 200), box(b"irot", b"\3")),
                       box(b"ipma", zero, struct.pack(">I", 3), owned)),
                   box(b"idat", grid),
                   box(b"iloc", struct.pack(">IBBH", 1 << 24, 0x44, 0, 3), located))  # fmt: skip

    start = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    photo = tmp_path / "photo.heic"
    photo.write_bytes(start + meta(len(start) + len(meta(0)) + 8) + box(b"mdat", *data))
    output = (await ask(photo, "image", {"format": "jpeg", "width": 100})).output
    assert (output["width"], output["height"]) == (100, 250)
    assert (await ask(photo, "video", {})).output["height"] == 500
