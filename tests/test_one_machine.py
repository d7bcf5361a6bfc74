"""One machine from nothing, and its backup on another one that is empty: typed as docs/deploy says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support import namespaces
from tests.support.namespaces import Machine, Unit, machines
from tests.support.product import CALM, make_clip, until
from tests.test_deploy import DEPLOY
from tests.test_several_machines import INSTALLING, STANDS_FOR, blocks, is_made

pytestmark = [pytest.mark.release, pytest.mark.whole, pytest.mark.timeout(900)]
UNIT = Unit(DEPLOY / "systemd" / "mediapipe.service")
NO_SYSTEMD = STANDS_FOR.format(password="") + "systemctl() { :; }\njournalctl() { :; }\nnginx() { :; }\n"
# Asked of the engine's rows: a command takes seconds, in which every encoder would stand still.
AT_WORK = """
import sqlite3, sys
asked = "select json_extract(metadata, '$.stage') from engine_enginetask where status = 'processing'"
rows = sqlite3.connect("file:/var/lib/mediapipe/mediapipe.sqlite3?mode=ro", uri=True)
print(*(stage for stage, in rows.execute(asked + " and json_extract(metadata, '$.job') = ?", sys.argv[1:])))
"""
FOLDER = "install -d -m 700 -o mediapipe -g mediapipe /mnt/backups"


def install(machine: Machine) -> None:
    """Types what makes a machine ready."""
    machine.run(
        "sh", "-ec", NO_SYSTEMD + blocks(INSTALLING, "One machine, from nothing", "sh")[0], check=True
    )


def start(machine: Machine, log: Path) -> None:
    """As `systemctl start` does: returns when a browser can use it."""
    UNIT.prepare(machine)
    process = machine.start(log, *UNIT.command())
    until(lambda: process.poll() is not None or "\nReady: http://127.0.0.1:8000" in log.read_text(), 300)
    assert process.poll() is None, log.read_text()


def command(machine: Machine, *words: str) -> str:
    """What a command prints, given as the page says how `doctor` is."""
    script = blocks(INSTALLING, "One machine, from nothing", "sh")[-1]
    assert script.endswith("manage.py doctor\n")
    return machine.run("sh", "-ec", script.replace("doctor\n", shlex.join(words)), check=True).stdout


def carried(one: Machine, other: Machine, folder: str) -> None:
    """Copies a folder, with whose it is, from one to the other."""
    with subprocess.Popen(one.command("tar", "-C", folder, "-c", "."), stdout=subprocess.PIPE) as sent:
        taken = other.command("tar", "-C", folder, "-x")
        assert subprocess.run(taken, stdin=sent.stdout).returncode == 0
    assert sent.returncode == 0


def stages(machine: Machine, job: str) -> dict[str, str]:
    return {
        each["name"]: each["state"]
        for each in json.loads(command(machine, "status", job, "--json"))["stages"]
    }


def is_held(machine: Machine, job: str) -> bool:
    """Whether the transcode is under way, and its encoder stands still; another one's goes on."""
    if machine.run("pkill", "-STOP", "ffmpeg").returncode:
        return False
    if machine.run("python3", "-c", AT_WORK, job, check=True).stdout == "transcode\n":
        return True
    machine.run("pkill", "-CONT", "ffmpeg")
    return False


@pytest.fixture
def there(tmp_path):
    if reason := namespaces.missing():
        pytest.skip(reason)
    if not is_made():
        pytest.skip(".venv isn't this checkout's")
    with machines(tmp_path, {"first": "10.0.0.20", "second": "10.0.0.21"}) as found:
        yield found["first"], found["second"]


def test_the_job_that_was_running_is_finished_by_an_empty_machine_that_has_the_backup(there, tmp_path):
    first, second = there
    _, backup, restore = re.findall(r"```sh\n(.*?)```", (DEPLOY / "backups.md").read_text(), re.S)
    assert FOLDER in (DEPLOY / "backups.md").read_text()
    install(first)
    start(first, tmp_path / "first.log")
    assert "storage: ok" in command(first, "doctor")
    film = make_clip(tmp_path / "film.mp4", 60, "1280x720", *CALM)
    first.run("install", "-m", "644", str(film), "/var/film.mp4", check=True)
    job = json.loads(command(first, "submit", "/var/film.mp4", "--owner", "admin", "--json"))["id"]
    until(lambda: is_held(first, job), 300, 0.1)
    first.run("sh", "-ec", f"{FOLDER}\n{backup}", check=True)
    first.run("pkill", "-KILL", "-u", "mediapipe")

    install(second)
    second.run("sh", "-ec", FOLDER, check=True)
    carried(first, second, "/mnt/backups")
    second.run("sh", "-ec", NO_SYSTEMD + restore, check=True)
    start(second, tmp_path / "second.log")
    until(lambda: set(stages(second, job).values()) == {"succeeded"}, 300)
    assert "jobs: ok" in command(second, "doctor")
