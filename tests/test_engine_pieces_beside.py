"""What pieces of a film cost beside their encodes: nothing is decoded, read or waited for without need."""

from __future__ import annotations

import re
import subprocess

import pytest

from mediapipe.engine import encode
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.piece_arguments import picture_arguments
from mediapipe.engine.piecework import Film
from tests.support.engine import endless_space
from tests.test_engine_pieces import ASKED, SOURCES, put

pytestmark = pytest.mark.django_db(transaction=True)
DECODED = re.compile(r"(\d+) frames decoded")
IN_FLIGHT = 15  # pictures that FFmpeg may have decoded when it learns that no more are wanted


@pytest.mark.anyio
async def test_a_piece_is_decoded_no_further_than_to_its_end(short_pieces, made, tmp_path):
    """Whatever its encoder has still to write then: x264 has fifty pictures before it."""
    link = put(made, "open.mp4", SOURCES["open.mp4"])
    film = await Film.of("t", KINDS["video"], ASKED, link, Hooks(endless_space))
    division = await film.division()
    assert division
    piece = division.pieces[0]
    asked = picture_arguments(film.plan, ASKED, film.media, str(film.source), piece)
    said = [re.sub("^level.*", "verbose", each) for each in asked]
    command = [encode.ffmpeg_path(), *said, "-f", "mp4", f"file:{tmp_path}/piece.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    decoded = DECODED.search(done.stderr)
    assert decoded and piece.frames < int(decoded[1]) < piece.frames + IN_FLIGHT
