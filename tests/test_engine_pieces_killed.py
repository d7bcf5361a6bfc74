"""A worker is killed while a film is encoded in pieces: those in flight are encoded again, and no others."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.bucket import Bucket
from tests.support.machines import of_bucket, one_core, second_machine
from tests.support.product import Product, make_clip, until
from tests.support.timeline import Row, activities

pytestmark = [pytest.mark.release, pytest.mark.timeout(900)]
PATIENCE = 600.0


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def film_at_work(product: Product, folder: Path, seconds: float) -> tuple[str, str]:
    """A job and the task of its transcode, which has begun."""
    film = make_clip(folder / "film.mp4", seconds, "1920x1080")
    done = product.command("submit", str(film), "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)["id"]
    until(lambda: transcode(product, job)["progress"], PATIENCE)
    return job, transcode(product, job)["task_id"]


def transcode(product: Product, job: str) -> dict:
    return next(each for each in product.status(job)["stages"] if each["name"] == "transcode")


def ended(product: Product, job: str) -> dict:
    """A job that has succeeded."""
    until(lambda: product.status(job)["status"] != "running", PATIENCE, every=0.5)
    status = product.status(job)
    assert status["status"] == "succeeded", status
    return status


def pieces(product: Product, task: str) -> list[Row]:
    return [row for row in activities(product, task) if row.what.startswith("piece ")]


def test_a_worker_killed_at_ninety_percent_costs_the_piece_that_it_was_at(home, tmp_path):
    with one_core():
        product = Product(home).start()
    try:
        job, task = film_at_work(product, tmp_path, 90)
        until(lambda: (transcode(product, job)["progress"] or 0) > 90, PATIENCE, every=0.1)
        done = {row.what for row in pieces(product, task) if row.ends}
        product.kill("worker")
        ended(product, job)
        found = pieces(product, task)
        assert len(found) >= 4 and len(done) == len(found) - 1
        assert {row.what for row in found if row.attempt > 1} == {row.what for row in found} - done
        assert all(row.ends and row.attempt <= 2 for row in found)
    finally:
        product.stop()


def test_a_worker_killed_within_a_stream_costs_the_piece_that_it_was_at(home, tmp_path):
    with one_core():
        product = Product(home).start()
    key = (home / "engine_key").read_text()
    about = {"headers": {"Authorization": f"Bearer {key}"}, "trust_env": False, "timeout": 60}
    engine = httpx.Client(base_url=f"{product.url}/ittybit", **about)
    try:
        (home / "media" / "sources").mkdir(parents=True, exist_ok=True)
        make_clip(home / "media" / "sources" / "film.mp4", 90, "1920x1080")
        link = product.shell("from mediapipe import storage; print(storage.signed_url('sources/film.mp4'))")
        task = engine.post("/tasks", json={"kind": "adaptive_video", "input": link}).json()["id"]
        until(lambda: (engine.get(f"/tasks/{task}").json()["progress"] or 0) > 60, PATIENCE, every=0.1)
        done = {row.what for row in pieces(product, task) if row.ends}
        product.kill("worker")
        until(lambda: engine.get(f"/tasks/{task}").json()["status"] == "succeeded", PATIENCE, every=0.5)
        found = pieces(product, task)
        again = {row.what for row in found if row.attempt > 1}
        assert len(found) >= 4 and done and len(again) == 1 and not again & done, (again, done)
        made = engine.get(f"/tasks/{task}").json()
        assert made["warnings"] == [] and made["output"]["duration"] == pytest.approx(90, abs=0.5), made
    finally:
        engine.close()
        product.stop()


def test_a_machine_that_dies_costs_the_piece_that_it_was_at_and_the_other_goes_on(home, tmp_path):
    bucket = Bucket(tmp_path / "s3").start()
    with one_core():
        product = Product(home, **of_bucket(bucket)).start()
    second: subprocess.Popen[bytes] | None = None
    try:
        second = second_machine(product, tmp_path / "second")
        job, task = film_at_work(product, tmp_path, 120)

        def has_shared() -> bool:
            return any(row.ends and is_of(row, second.pid) for row in pieces(product, task))

        until(has_shared, PATIENCE, every=0.1)
        second.kill()
        second.wait()
        done = {row.what for row in pieces(product, task) if row.ends}
        ended(product, job)
        found = pieces(product, task)
        again = {row.what for row in found if row.attempt > 1}
        assert len(again) == 1 and not again & done, (again, done)
        assert all(row.ends and (row.what in done or not is_of(row, second.pid)) for row in found)
    finally:
        if second:
            second.kill()
            second.communicate()  # it closes its pipe
        product.stop()
        bucket.kill()


def is_of(row: Row, pid: int) -> bool:
    """Whether a worker with this process id had it last."""
    return row.worker.startswith(f"{pid}@")
