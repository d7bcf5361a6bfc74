"""What pieces of a film cost beside their encodes: nothing is decoded, read or waited for without need."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.db.models.signals import post_init
from django.utils import timezone

from mediapipe.engine import course, encode, piece_files
from mediapipe.engine.course import PieceCourse
from mediapipe.engine.hooks import Hooks
from mediapipe.engine.kinds import KINDS
from mediapipe.engine.models import EngineTask
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


def test_how_far_a_film_is_costs_the_same_however_many_pieces_it_has(db, django_assert_num_queries):
    """It is asked each second, by each that is at work; one that is silent is so no more."""
    task = EngineTask.objects.create(kind="video", input="https://example.org/film.mp4", options={})
    for number in range(40):
        course.say(task.pk, number, seconds=10, speed=0, at_work=False)
    course.say(task.pk, 40, seconds=4, speed=1.5, at_work=True)
    course.say(task.pk, 41, seconds=6, speed=0.5, at_work=True)
    course.say(task.pk, 42, seconds=9, speed=9, at_work=True)
    gone = timezone.now() - course.MAX_AGE - timedelta(seconds=1)
    PieceCourse.objects.filter(number=42).update(updated_at=gone)
    read: list[object] = []
    post_init.connect(lambda **about: read.append(about), sender=PieceCourse, weak=False, dispatch_uid="read")
    try:
        with django_assert_num_queries(1):
            far = course.so_far(task.pk, 820)
    finally:
        post_init.disconnect(sender=PieceCourse, dispatch_uid="read")
    assert far == {"progress": 50.0, "speed": 2.0, "time_left": 205.0} and not read


@contextmanager
def far_bucket(port: int) -> Iterator[dict[str, bytes]]:
    """A bucket that answers nobody until two have asked; what it was given."""
    given: dict[str, bytes] = {}
    both = threading.Barrier(2)

    class Far(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            both.wait(30)
            self.answer(self.path.encode())

        def do_PUT(self) -> None:
            given[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            both.wait(30)
            self.answer(b"")

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", port), Far) as far:
        far.daemon_threads = True
        serving = threading.Thread(target=far.serve_forever)
        serving.start()
        try:
            yield given
        finally:
            far.shutdown()
            serving.join()


@pytest.mark.anyio
async def test_a_piece_and_what_is_known_of_it_travel_together(bucket, settings, tmp_path):
    """An encoder stands still meanwhile: a bucket that is far is waited for once and not twice."""
    settings.WORK_ROOT = tmp_path / "here"
    piece_files.folder("key").mkdir(parents=True)
    made = Path(tmp_path / "0001.mp4")
    made.write_bytes(b"film")
    with far_bucket(bucket.port) as given:
        await piece_files.keep(made, "key", {"frames": 3}, Hooks(endless_space))
        await asyncio.wait_for(piece_files.bring("key", ["0002.mp4"], Hooks(endless_space)), 60)
    assert {name.rpartition("/")[2] for name in given} == {"0001.mp4", "0001.json"}
    kept = {each.name for each in piece_files.folder("key").iterdir()}
    assert kept == {"0001.mp4", "0001.json", "0002.mp4", "0002.json"}
