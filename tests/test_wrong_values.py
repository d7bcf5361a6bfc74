"""What an operator mistypes is a sentence that says what to write instead, and never a traceback."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandError

from jobs.management import remote
from mediapipe import supervisor
from mediapipe.management.commands.up import Command, own_address
from mediapipe.management.commands.web import check_port
from tests.support.product import MANAGE, ROOT, free_port, until

ELSEWHERE = "203.0.113.1"  # an address that no machine has


def manage(home, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    """A command with a home of its own, the variables that are *given*, and none from here."""
    keep = {"PATH": os.environ["PATH"], "MEDIAPIPE_NO_VENV": "1", "MEDIAPIPE_HOME": str(home)}
    return subprocess.run(
        [*MANAGE, *arguments], env={**keep, **given}, capture_output=True, text=True, timeout=240
    )


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("up", ["--port", "70000"], "--port: '70000': write a whole number from 1 to 65535"),
        ("up", ["--port", "0"], "--port: '0': write a whole number from 1 to 65535"),
        ("web", ["--port", "-1"], "--port: '-1': write a whole number from 1 to 65535"),
        ("web", ["--port", "http"], "--port: 'http': write a whole number from 1 to 65535"),
        ("web", ["--port", "9" * 5000], "write a whole number from 1 to 65535"),
        ("up", ["--host", ""], "--host: '': write an address of this machine, or 0.0.0.0 for all of them"),
        ("share", ["JOB", "--days", "0"], "--days: '0': write a whole number from 1 to 30"),
        ("share", ["JOB", "--revoke", "x"], "--revoke: 'x': write a whole number from 1"),
        ("audit", ["--since", "yesterday"], "'yesterday' is no moment: write 2026-11-28"),
    ],
)
def test_an_option_that_is_none_says_what_to_write(command, arguments, says):
    parser = load_command_class(get_commands()[command], command).create_parser("manage.py", command)
    with pytest.raises(CommandError) as error:
        parser.parse_args(arguments)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["status", "x"], 2, "There is no job 'x'. A job’s id is in the address of its page."),
        (["migrate", "nothing"], 1, "No installed app with label 'nothing'."),  # Django's own
    ],
)
def test_a_command_that_is_refused_says_its_sentence_alone(tmp_path, command, status, says):
    done = manage(tmp_path, *command)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"{says}\n")
    assert "Traceback" in manage(tmp_path, *command, "--traceback").stderr


@pytest.mark.parametrize("host", [ELSEWHERE, "nowhere.invalid", "300.1.1.1", "::1%nothing"])
def test_an_address_that_this_machine_has_not_is_no_port_that_is_taken(host):
    for attempt in (check_port, Command().listen):
        with pytest.raises(CommandError) as error:
            attempt(host, port := free_port())
        assert str(error.value) == (
            f"{host} is no address of this machine, so nothing can listen at its port {port}. Choose one that"
            " it has, 127.0.0.1 for itself alone, or 0.0.0.0 for all: --host"
        )


def test_a_port_that_is_taken_or_is_roots_says_which_to_take():
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        for attempt in (check_port, Command().listen):
            with pytest.raises(CommandError, match=rf"Port {taken} is taken .*: --port {taken + 1}$"):
                attempt("127.0.0.1", taken)
        with pytest.raises(CommandError, match=r"is taken .* choose another: MEDIAPIPE_METRICS_ADDRESS$"):
            check_port("127.0.0.1", taken, setting="MEDIAPIPE_METRICS_ADDRESS")
    code = (
        "import socket; from mediapipe.management.commands.web import check_port\n"
        "try: check_port('127.0.0.1', 80)\nexcept Exception as error: print(error)"
    )
    anybody = ["setpriv", "--bounding-set", "-net_bind_service"] if os.geteuid() == 0 else []
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first.exists() or int(first.read_text()) <= 80:
        pytest.skip("this machine gives everybody its first ports")
    done = subprocess.run(
        [*anybody, *MANAGE, "shell", "-v", "0", "-c", code],
        env={**os.environ, "MEDIAPIPE_NO_VENV": "1"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == (
        "Port 80 is one of those that root alone may listen at. Choose one from 1024 on: --port 8000"
    ), done.stderr


def test_the_last_port_has_one_beside_it_that_can_be_taken_instead():
    if not supervisor.is_free(65535):
        pytest.skip("somebody has the last port")
    with supervisor.listen(65535), pytest.raises(CommandError, match=r"--port 65534$"):
        check_port("127.0.0.1", 65535)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("fd00::5", "http://[fd00::5]:8000"),
        ("web.internal", "http://web.internal:8000"),
    ],
)
def test_where_up_listens_is_an_address_that_can_be_opened(host, url):
    assert own_address(host, 8000) == url


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MEDIAPIPE_PORT", "0", "write a whole number from 1 to 65535"),
        ("MEDIAPIPE_EMAIL_PORT", "99999", "write a whole number from 1 to 65535"),
        ("MEDIAPIPE_SESSION_IDLE_HOURS", "9999999999999", "write a whole number from 1 to 8760"),
        ("MEDIAPIPE_MAX_UPLOAD_MB", "0", "write a whole number from 1 to 1000000000"),
        ("MEDIAPIPE_MAX_ENCODE_HOURS", "0", "write a whole number from 1 to 8760"),
        ("MEDIAPIPE_HOLD_DAYS", "99999999999", "write a whole number from 0 to 36500"),
        ("MEDIAPIPE_TRASH_DAYS", "-1", "write a whole number from 0 to 36500"),
        ("MEDIAPIPE_KEEP_AUDIT_DAYS", "999999", "write a whole number from 0 to 36500"),
        ("MEDIAPIPE_KEEP_TASKS_DAYS", "9" * 5000, "write a whole number from 0 to 36500"),
        ("MEDIAPIPE_HEARTBEAT_SECONDS", "2", "write a whole number from 3 to 3600"),
        ("MEDIAPIPE_DATABASE_CONNECTIONS", "0", "write a whole number from 1 to 1000"),
        ("MEDIAPIPE_METRICS_ADDRESS", "127.0.0.1:99999", "write host:port, such as 127.0.0.1:9464"),
        ("MEDIAPIPE_METRICS_ADDRESS", "127.0.0.1:0", "write host:port, such as 127.0.0.1:9464"),
        ("MEDIAPIPE_ACCEL_PREFIX", "sent", "write the path of nginx’s location, such as /sent-by-nginx/"),
        ("MEDIAPIPE_ALLOWED_HOSTS", "a.example,http://b", "'http://b': write names or addresses alone"),
        ("MEDIAPIPE_ALLOWED_HOSTS", "10.0.0.5:8000", "'10.0.0.5:8000': write names or addresses alone"),
        ("MEDIAPIPE_OIDC_ISSUER", "login.example.com", "write https://host"),
        ("TEMPORAL_ADDRESS", ":", "write host:port, such as 127.0.0.1:7233"),
        ("TEMPORAL_ADDRESS", "http://temporal.internal:7233", "write host:port"),
        ("TEMPORAL_ADDRESS", "127.0.0.1:99999", "write host:port"),
        ("TEMPORAL_TLS", "maybe", "write 1 or 0"),
        ("DATABASE_URL", "postgres://", "write postgres://user:password@host:5432/name"),
        ("DATABASE_URL", "sqlite://", "write postgres://user:password@host:5432/name"),
    ],
)
def test_a_setting_that_is_none_says_what_to_write(name, value, says, settings_of):
    with pytest.raises(ImproperlyConfigured) as error:
        settings_of(**{name: value})
    assert str(error.value).startswith(name) and says in str(error.value)


@pytest.fixture
def settings_of(monkeypatch):
    """Reads the settings anew, by these variables."""

    def read(**given: str) -> dict[str, object]:
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(ROOT / "mediapipe" / "settings.py"))

    return read


def test_settings_that_are_right_are_taken(settings_of):
    given = {
        "MEDIAPIPE_ALLOWED_HOSTS": "*,.example.org,10.0.0.5,[fd00::5]",
        "MEDIAPIPE_LOCAL_URL": "http://[fd00::7]:8000",
        "MEDIAPIPE_ACCEL_PREFIX": "/sent-by-nginx/",
        "TEMPORAL_ADDRESS": "[fd00::6]:7233",
        "TEMPORAL_TLS": "yes",
        "MEDIAPIPE_KEEP_AUDIT_DAYS": "36500",
    }
    read = settings_of(**given)
    assert read["ALLOWED_HOSTS"] == ["*", ".example.org", "10.0.0.5", "[fd00::5]", "[fd00::7]"]
    settings_of(TEMPORAL_TLS="")
    assert "TEMPORAL_TLS" not in os.environ, "the SDK takes an empty one for yes"


def test_a_database_that_lies_elsewhere_is_not_taken_for_the_home(tmp_path):
    url = f"sqlite:///{tmp_path}/nowhere/films.sqlite3"
    done = manage(tmp_path / "home", "prune", "--dry-run", DATABASE_URL=url)
    assert (done.returncode, done.stderr.strip()) == (
        2,
        f"The database {tmp_path}/nowhere/films.sqlite3 can’t be used: unable to open database file."
        " Check DATABASE_URL, and that its folder can be written.",
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"DATABASE_URL": "postgres://ada:h1dden@127.0.0.1/films?nonsense=1"},
            'The database can’t be reached: invalid connection option "nonsense". Check DATABASE_URL, and'
            " that the server runs.",
        ),
        (
            {"MEDIAPIPE_HOME": "/proc/1/home"},
            "MEDIAPIPE_HOME (/proc/1/home) can’t be written: it can’t be made there. Make that folder. Or"
            " choose another folder: set MEDIAPIPE_HOME.",
        ),
    ],
)
def test_a_setting_that_only_a_try_finds_wrong_is_a_sentence_too(tmp_path, given, says):
    done = manage(tmp_path, "prune", **given)
    assert (done.returncode, done.stderr.strip()) == (2, says)


@pytest.mark.release
def test_a_worker_with_metrics_waits_for_a_temporal_that_comes_later(tmp_path):
    """The SDK opens its own port of metrics once."""
    keep = {"PATH": os.environ["PATH"], "MEDIAPIPE_NO_VENV": "1", "MEDIAPIPE_HOME": str(tmp_path)}
    at = f"127.0.0.1:{free_port()}"
    settings = {"MEDIAPIPE_METRICS_ADDRESS": at, "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}"}
    assert manage(tmp_path, "migrate", "-v", "0").returncode == 0
    log = tmp_path / "log"
    with open(log, "w") as output:
        worker = subprocess.Popen([*MANAGE, "worker"], env=keep | settings, stderr=output, stdout=output)
        try:
            until(lambda: "waiting for Temporal" in log.read_text() or worker.poll() is not None)
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(3)
        finally:
            worker.terminate()
            assert worker.wait(30) == 0
    assert log.read_text().count("\n") == 1, log.read_text()


@pytest.mark.parametrize(
    ("url", "token"),
    [("http://[x", "t"), ("http://", "t"), ("http://x:99999", "t"), ("http://media.example.org", "t t")],
)
def test_another_installation_that_is_none_is_not_asked_for(url, token, monkeypatch):
    monkeypatch.setenv("MEDIAPIPE_URL", url)
    monkeypatch.setenv("MEDIAPIPE_TOKEN", token)
    with pytest.raises(CommandError, match=r"set MEDIAPIPE_URL .* and MEDIAPIPE_TOKEN"):
        remote.from_environment()


def test_who_waits_for_another_installation_is_told_so_at_once(tmp_path):
    url = f"http://127.0.0.1:{free_port()}"
    keep = {"PATH": os.environ["PATH"], "MEDIAPIPE_NO_VENV": "1", "MEDIAPIPE_HOME": str(tmp_path)}
    given = keep | {"MEDIAPIPE_URL": url, "MEDIAPIPE_TOKEN": "t"}
    command = [*MANAGE, "status", "00000000-0000-0000-0000-000000000000"]
    asking = subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True)
    try:
        assert asking.stderr.readline().startswith(f"{url} can’t be reached yet: ")
    finally:
        asking.kill()
        asking.communicate()
