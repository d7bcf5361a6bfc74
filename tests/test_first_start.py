"""The first start: a home that can't be written, secrets that several make at once, odd environments."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from mediapipe import database, environment, home, supervisor
from mediapipe.management.commands.up import Command
from tests.support.environment import RUN
from tests.support.home import open_parts
from tests.support.product import MANAGE, ROOT, free_port, until
from tests.support.tiers import further

# Root may write everywhere: without this it is like anybody, and what isn't made writable is not.
ANYBODY = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def manage(home: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    """A command with a home of its own, the variables that are *given*, and none from here."""
    keep = {"PATH": os.environ["PATH"], "MEDIAPIPE_NO_VENV": "1", "MEDIAPIPE_HOME": str(home)}
    command = [*ANYBODY, *MANAGE, *arguments]
    return subprocess.run(command, env={**keep, **given}, capture_output=True, text=True, timeout=240)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence with which it ended, and no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.strip()


@pytest.fixture
def disk(tmp_path):
    """Mounts a real small disk with these options, where this machine lets us."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this machine lets nobody mount a file system")
        return folder

    yield mount
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True)


@pytest.mark.parametrize(
    "free", [0, pytest.param(16 << 10, marks=pytest.mark.release)], ids=["full", "room for the secrets alone"]
)
def test_a_full_disk_is_a_sentence_and_the_next_start_finds_nothing_half_written(disk, free):
    small = disk("size=256k")
    (ballast := small / "ballast").write_bytes(b"x" * (shutil.disk_usage(small).free - free))
    for command in (["up", "--port", "1"], ["migrate"])[not free :]:
        assert told(manage(small, *command)) == (
            f"MEDIAPIPE_HOME ({small}) can’t be written: no space left on device. "
            "Free some space and start again."
        )
    kept = {path.name: path.read_text() for path in small.glob("*_key")}
    assert all(len(text) == 64 for text in kept.values()) and len(kept) == (3 if free else 0)
    assert not list(small.glob(".*")), "temporary files were left"
    if free:
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=16m", str(small)], check=True)
        assert manage(small, "migrate", "--verbosity", "0").returncode == 0
        assert kept == {path.name: path.read_text() for path in small.glob("*_key")}


def test_a_read_only_home_is_a_sentence(disk):
    folder = disk("size=64k,ro")
    assert told(manage(folder, "status", "x")) == (
        f"MEDIAPIPE_HOME ({folder}) can’t be written: its file system is read-only. "
        "Make it writable. Or choose another folder: set MEDIAPIPE_HOME."
    )


def test_a_home_of_somebody_elses_is_a_sentence(tmp_path):
    folder = tmp_path / "home"
    folder.write_text("no folder")
    assert "can’t be written: it isn’t a folder. Move that file away." in told(manage(folder, "migrate"))
    folder.unlink()
    folder.mkdir(mode=0o500)
    assert told(manage(folder, "migrate")) == (
        f"MEDIAPIPE_HOME ({folder}) can’t be written: permission denied. "
        "Start as the user it belongs to. Or choose another folder: set MEDIAPIPE_HOME."
    )
    assert home.sentence(PermissionError(13, "Permission denied", "/elsewhere/film.mp4")) == ""


@pytest.fixture
def open_home(tmp_path):
    """A home as an older version or a package has left it: everybody may look in, and write."""
    folder = tmp_path / "open"
    (folder / "media" / "sources" / "1").mkdir(parents=True)
    (folder / "elsewhere").symlink_to(MANAGE[1])
    for name in ("mediapipe.sqlite3-wal", "media/sources/1/source.mp4", "secret_key"):
        (folder / name).write_text("k" * 64)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o777)
    return folder


@pytest.mark.parametrize("command", ["web", "worker"])
def test_a_home_that_was_open_is_closed_by_who_works_in_it_and_so_is_all_that_they_make(open_home, command):
    keep = {"PATH": os.environ["PATH"], "MEDIAPIPE_NO_VENV": "1", "MEDIAPIPE_HOME": str(open_home)}
    keep |= {"TEMPORAL_ADDRESS": "127.0.0.1:1", "MEDIAPIPE_PORT": str(free_port())}
    keep["DATABASE_URL"] = "postgres://ada@127.0.0.1:1/away"  # of one that answers it wants the tables
    before = Path(MANAGE[1]).stat().st_mode
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*MANAGE, command], env=keep, **quiet)
    try:
        until(lambda: not open_parts(open_home))
        assert "Umask:\t0077" in Path(f"/proc/{process.pid}/status").read_text()
    finally:
        process.terminate()
        process.wait(30)
    assert Path(MANAGE[1]).stat().st_mode == before, "what a link leads to isn’t the home’s"


def test_a_port_that_up_chooses_is_given_to_nobody_else_while_its_server_comes_back():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        chosen = supervisor.free_port(port := taken.getsockname()[1])
        ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range")
        lowest = int(ephemeral.read_text().split()[0]) if ephemeral.exists() else 32768
        assert chosen != port and 1024 <= chosen < lowest
    assert supervisor.free_port(port) == port


def test_every_command_closes_the_folder_before_it_writes_into_it(open_home):
    assert manage(open_home, "showmigrations").returncode == 0
    assert open_home.stat().st_mode & 0o777 == 0o700
    assert (open_home / "mediapipe.sqlite3").stat().st_mode & 0o777 == 0o600


def test_nginx_passes_to_the_media_where_it_sends_them_and_to_nothing_else(open_home, monkeypatch):
    monkeypatch.setattr(home, "HOME", open_home)
    assert home.close(open_home / "media") == ""
    modes = {
        str(path.relative_to(open_home)): f"{path.stat().st_mode & 0o777:o}"
        for path in (open_home, *open_home.rglob("*"))
        if not path.is_symlink()
    }
    assert modes == {
        ".": "710",
        "media": "750",
        "media/sources": "750",
        "media/sources/1": "750",
        "media/sources/1/source.mp4": "640",
        "mediapipe.sqlite3-wal": "600",
        "secret_key": "600",
    }
    assert home.close() == "" and not open_parts(open_home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_that_cannot_be_closed_is_named(open_home):
    os.chown(open_home, 65534, 65534)
    code = "from mediapipe import home; print(home.close())"
    command = ["setpriv", "--bounding-set", "-fowner", sys.executable, "-c", code]
    told = subprocess.run(
        command, cwd=ROOT, env={"MEDIAPIPE_HOME": str(open_home)}, capture_output=True, text=True
    )
    assert told.stdout.startswith(f"Others on this machine can look into MEDIAPIPE_HOME ({open_home})"), told


@pytest.mark.django_db
def test_the_first_password_is_shown_on_a_terminal_and_elsewhere_only_where_its_file_is(
    settings, tmp_path, monkeypatch, capsys, django_user_model
):
    settings.HOME = tmp_path
    up = Command()
    up.create_first_admin()
    said = capsys.readouterr().out
    password = (path := tmp_path / "first_password").read_text().strip()
    assert said == f"Admin: name admin, password in {path}\n" and path.stat().st_mode & 0o777 == 0o600
    admin = django_user_model.objects.get()
    assert admin.check_password(password)
    up.create_first_admin()
    assert path.exists() and not capsys.readouterr().out
    django_user_model.objects.update(last_login=timezone.now())
    up.create_first_admin()
    assert not list(tmp_path.iterdir()), "it has done its service"
    admin.delete()
    ours, terminal = os.openpty()
    with os.fdopen(terminal, "w") as screen:
        monkeypatch.setattr(sys, "stdout", screen)
        up.create_first_admin()
        shown = os.read(ours, 200).decode()
    os.close(ours)
    password = shown.split("password ")[1].split()[0]
    assert shown.endswith("(shown once)\r\n") and not list(tmp_path.iterdir())
    assert django_user_model.objects.get().check_password(password)


@pytest.mark.parametrize("links", [None, errno.EPERM, errno.ENOTSUP], ids=["links", "FAT", "a network’s"])
def test_of_many_first_starts_at_once_one_makes_the_secret(tmp_path, monkeypatch, links):
    """Also where a file system has no hard links."""

    def no_link(source: Path, target: Path) -> None:
        raise OSError(links, "x", str(target))

    if links:
        monkeypatch.setattr(os, "link", no_link)
    path = tmp_path / "secret_key"
    together = threading.Barrier(16)

    def start(_: int) -> str:
        together.wait()
        return home.stored_secret(path)

    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(start, range(16)))
    assert found == {path.read_text()} and len(path.read_text()) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secret_key"]


def test_a_secret_that_could_not_be_put_in_its_place_leaves_no_part_behind(tmp_path, monkeypatch):
    def no_space(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "x", str(target))

    monkeypatch.setattr(os, "link", no_space)
    with pytest.raises(OSError, match="x"):
        home.stored_secret(tmp_path / "secret_key")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "what"), [("", "empty"), ("\n", "empty"), ("Vq3x8", "cut off")])
def test_a_secret_that_was_cut_off_is_refused_and_not_used(tmp_path, text, what):
    (path := tmp_path / "engine_key").write_text(text)
    with pytest.raises(home.BadSecret) as error:
        home.stored_secret(path)
    assert str(error.value).startswith(f"The secret in {path} is {what}.")
    assert "remove it and start again" in str(error.value) and path.read_text() == text


@pytest.mark.parametrize(
    ("variable", "value", "length"),
    [
        ("MEDIAPIPE_ENGINE_KEY_FALLBACKS", "secret", 6),
        ("MEDIAPIPE_SECRET_KEY_FALLBACKS", "k" * 40 + ",x" + "k" * 40 + ",y", 1),
    ],
)
def test_a_key_that_could_be_guessed_is_a_sentence(tmp_path, variable, value, length):
    """A key with a comma is several: its parts would count for signing."""
    sentence = told(manage(tmp_path, "check", **{variable: value}))
    assert sentence.startswith(f"{variable}: a key needs at least 32 characters, and this one has {length}.")
    assert value not in sentence


def test_every_command_says_so(tmp_path):
    (path := tmp_path / "secret_key").touch()
    assert told(manage(tmp_path, "up", "--port", "1")).startswith(f"The secret in {path} is empty.")


@pytest.mark.parametrize(
    ("given", "zone"),
    [
        ({"TZ": ":/etc/localtime"}, "UTC"),
        ({"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}, "UTC"),
        ({"TZ": ""}, "UTC"),
        ({"TZ": "/etc/passwd"}, "UTC"),
        ({"TZ": "Europe/Berlin"}, "Europe/Berlin"),
        ({"TZ": "CET-1CEST", "MEDIAPIPE_TIME_ZONE": "Asia/Kolkata"}, "Asia/Kolkata"),
    ],
)
def test_every_legal_time_zone_of_the_machine_starts(given, zone, monkeypatch):
    from mediapipe import settings

    for name in ("TZ", "MEDIAPIPE_TIME_ZONE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert settings.time_zone() == zone


def test_a_time_zone_or_number_that_is_none_is_a_sentence(tmp_path):
    for given, says in (
        ({"MEDIAPIPE_TIME_ZONE": "Berlin"}, "MEDIAPIPE_TIME_ZONE is 'Berlin': write an IANA name, such as"),
        ({"MEDIAPIPE_PORT": "eighty"}, "MEDIAPIPE_PORT is 'eighty': write a whole number from 1 to 65535."),
        (
            {"MEDIAPIPE_LOG_LEVEL": "loud"},
            "MEDIAPIPE_LOG_LEVEL is 'loud': write DEBUG, INFO, WARNING or ERROR.",
        ),
        ({"MEDIAPIPE_PORT": "70000"}, "MEDIAPIPE_PORT is '70000': write a whole number from 1 to 65535."),
    ):
        assert told(manage(tmp_path, "up", **given)).startswith(says)


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        (
            "DATABASE_URL",
            ["garbage", "mysql://a:h1dden@b/c", "postgres://a:h1d#den@b/c"],
            "write postgres://",
        ),
        ("MEDIAPIPE_PUBLIC_URL", ["media.example.org", "https://"], "write https://host or http://host:port"),
        ("MEDIAPIPE_CA_FILE", [__file__], "that file isn’t PEM"),
    ],
)
def test_an_address_or_a_certificate_that_is_none_is_a_sentence_without_a_password(
    name, values, says, monkeypatch
):
    read = {"DATABASE_URL": environment.database, "MEDIAPIPE_CA_FILE": environment.pem_file}
    for value in values:
        monkeypatch.setenv(name, value)
        with pytest.raises(ImproperlyConfigured, match=says) as error:
            read.get(name, environment.url)(name)
        assert str(error.value).startswith(name) and "h1d" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "The database lacks tables of this version. Run `manage.py migrate`"),
        ("postgres://ada:h1dden@127.0.0.1:1/films", "Connection refused. Check DATABASE_URL"),
    ],
)
def test_a_command_that_finds_no_database_says_so_in_a_sentence(tmp_path, url, says):
    sentence = told(manage(tmp_path, "prune", "--dry-run", DATABASE_URL=url))
    assert sentence.startswith("The database ") and says in sentence and "h1dden" not in sentence


@pytest.mark.parametrize("command", ["worker", further("web")])
def test_a_version_whose_tables_are_not_there_yet_does_not_begin(tmp_path, command):
    """It would answer with errors and cost jobs attempts; systemd and Compose try again by themselves."""
    elsewhere = {"TEMPORAL_ADDRESS": "127.0.0.1:1", "MEDIAPIPE_PORT": str(free_port())}
    for migrated in ([], ["migrate", "jobs", "0020", "-v", "0"]):
        if migrated:
            assert manage(tmp_path, *migrated).returncode == 0
        assert told(manage(tmp_path, command, **elsewhere)) == database.LACKS_TABLES


def test_a_key_that_can_be_guessed_is_said_at_each_start(tmp_path):
    """It works as before: who has had one since 0.1 replaces it when it suits them."""
    given = {"MEDIAPIPE_SECRET_KEY": "quite-short", "MEDIAPIPE_PORT": str(free_port())}
    said = manage(tmp_path, "web", **given).stderr.splitlines()  # ends, since it has no tables
    assert said[0].startswith(
        "MEDIAPIPE_SECRET_KEY is too short: it can be guessed. Make one of 32 characters"
    )
    assert len(said) == 2 and "quite-short" not in said[0]


@pytest.fixture
def checkout(tmp_path):
    """manage.py and its locks, and what stands for an environment: its Python prints how it was called."""
    folder = tmp_path / "checkout"
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("manage.py", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / "bin" / "python").symlink_to(shutil.which("echo"))
    yield folder
    folder.chmod(0o755)


def test_a_ready_environment_is_only_read_and_one_that_cannot_be_made_is_a_sentence(checkout):
    """A service's user may not write to the checkout."""

    def web() -> subprocess.CompletedProcess[str]:
        command = [*ANYBODY, sys.executable, "manage.py", "web"]
        return subprocess.run(command, cwd=checkout, env={}, capture_output=True, text=True)

    checkout.chmod(0o555)
    refused = web()
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert refused.stderr.startswith(f"{checkout}/.venv isn't ready, and can't be made: Permission denied")
    stamp = "import manage; manage.STAMP.write_text(manage.digest(manage.RUNTIME))"
    subprocess.run([sys.executable, "-c", stamp], cwd=checkout, env={}, check=True)
    ready = web()
    assert ready.returncode == 0 and ready.stdout == f"{checkout}/manage.py web\n", ready.stderr
    assert not (checkout / ".venv.lock").exists()


def test_an_environment_that_a_closed_user_makes_can_be_read_by_the_service(checkout):
    """Root's umask is 077 on some machines; the service has another user."""
    made = checkout / ".venv" / "made"
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\nset -e\ntouch {made}\n")
    (checkout / ".venv" / "bin" / "python").chmod(0o755)
    code = "import os; os.umask(0o077); import manage; manage.install(manage.RUNTIME)"
    path = {"PATH": "/usr/bin:/bin"}  # where there is no uv: it is the environment's own pip that installs
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, env=path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for path in (made, checkout / ".venv" / ".installed"):
        assert path.stat().st_mode & 0o777 == 0o644


LOOK = """
from django.test import Client
answer = Client(headers={"Host": "media.example.org"}).get("/login/", secure=True)
print(answer.headers.get("Strict-Transport-Security"))
print({name: (each["secure"], each["samesite"]) for name, each in answer.cookies.items()})
"""


@pytest.mark.parametrize(
    ("scheme", "told", "secure"),
    [("https", "max-age=31536000", True), pytest.param("http", "None", "", marks=pytest.mark.release)],
)
def test_behind_https_cookies_are_secure_and_browsers_keep_to_it(tmp_path, scheme, told, secure):
    for name in ("static", "static.stamp"):
        (tmp_path / name).symlink_to(RUN / name)
    found = manage(
        tmp_path, "shell", "-v", "0", "-c", LOOK, MEDIAPIPE_PUBLIC_URL=f"{scheme}://media.example.org"
    )
    assert found.stdout.splitlines() == [told, str({"csrftoken": (secure, "Lax")})], found
