"""Machines of their own, as far as one machine can: each has its own network, files and processes.

What a machine writes to /etc, /mnt, /opt, /run and /var is its own and goes with it. It takes root and
iproute2, and leaves nothing behind: everything is in namespaces that end with their first process.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.product import ROOT, until

CLONE_NEWNET = 0x40000000
NEW = ("--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
OWN = ("/etc", "/mnt", "/opt", "/var")
PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "adduser")
# What a machine's programs are given, whatever we have.
PYTHON = f"{sys.base_prefix}/bin"  # of which .venv is made
PATH = f"{PYTHON}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLEAN: dict[str, Any] = {"umask": 0o022, "env": {"PATH": PATH, "HOME": "/", "LANG": "C.UTF-8"}}
CHECKOUT = "/opt/mediapipe"  # where the docs have it


def missing() -> str:
    """What keeps us from having machines here; "" where nothing does."""
    if os.geteuid():
        return "it takes root"
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"there is no {absent[0]}"
    tried = subprocess.run(["unshare", *NEW, "mount", "-t", "tmpfs", "none", "/opt"], capture_output=True)
    return tried.stderr.decode() if tried.returncode else ""


def _hidden(path: Path) -> Path | None:
    """The first folder above *path* that only its owner may pass through."""
    return next((each for each in reversed(path.parents) if not each.stat().st_mode & 1), None)


class Machine:
    """One of them, called *name*."""

    def __init__(self, name: str, scratch: Path) -> None:
        self.name = name
        self.started: list[subprocess.Popen[bytes]] = []
        scratch.mkdir()
        command = ["unshare", *NEW, "sh", "-c", f"hostname {name}; exec sleep infinity"]
        self.first = subprocess.Popen(command)
        children = Path(f"/proc/{self.first.pid}/task/{self.first.pid}/children")
        until(lambda: children.read_text().strip())
        self.pid = int(children.read_text())
        until(lambda: self.run("hostname").stdout.strip() == name)
        self.run("sh", "-ec", _files_of_its_own(scratch), check=True)

    def command(self, *command: str) -> list[str]:
        """How *command* is run there, by root."""
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", "--uts", "--pid", *command]

    def run(self, *command: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Its end and what it wrote."""
        done = subprocess.run(self.command(*command), capture_output=True, text=True, **CLEAN)
        assert not check or done.returncode == 0, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done

    def start(self, log: Path, *command: str) -> subprocess.Popen[bytes]:
        """A program that goes on, and writes to *log*."""
        with open(log, "a") as out:
            started = subprocess.Popen(self.command(*command), stdout=out, stderr=out, **CLEAN)
        self.started.append(started)
        return started

    def write(self, path: str, text: str) -> None:
        """A file of its own."""
        command = self.command("sh", "-ec", f"mkdir -p {Path(path).parent}; cat > {path}")
        subprocess.run(command, input=text, text=True, check=True, **CLEAN)

    @contextmanager
    def network(self) -> Iterator[None]:
        """What this thread connects to and starts in the block, it does in the machine's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as before, open(f"/proc/{self.pid}/ns/net") as there:
            assert libc.setns(there.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(before.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())

    def stop(self) -> None:
        """Ends it with all that runs on it."""
        self.first.kill()
        for each in (self.first, *self.started):
            each.wait(30)


def _files_of_its_own(scratch: Path) -> str:
    """Shell: its own files, the checkout at its place, and Python where anybody may run it."""
    python = Path(sys.base_prefix)
    lines = [f"mount -t tmpfs none {scratch}", f"mkdir {scratch}/python"]
    for at in OWN:
        upper, work = f"{scratch}{at}/upper", f"{scratch}{at}/work"
        lines += [f"mkdir -p {upper} {work}"]
        lines += [f"mount -t overlay -o lowerdir={at},upperdir={upper},workdir={work} overlay {at}"]
    lines += ["mount -t tmpfs -o mode=755 none /run"]
    upper, work = f"{scratch}/checkout/upper", f"{scratch}/checkout/work"
    lines += [f"mkdir -p {CHECKOUT} {upper} {work}"]
    lines += [f"mount -t overlay -o lowerdir={ROOT},upperdir={upper},workdir={work} overlay {CHECKOUT}"]
    made = (ROOT / ".venv").resolve()  # a test installs nothing there
    lines += [f"mount --bind {made} {made}", f"mount -o remount,bind,ro {made}"]
    if hidden := _hidden(python):
        lines += [f"mount --bind {python} {scratch}/python", f"mount -t tmpfs -o mode=755 none {hidden}"]
        lines += [f"mkdir -p {python}", f"mount --bind {scratch}/python {python}"]
    return "\n".join(lines)


@contextmanager
def machines(folder: Path, addresses: dict[str, str]) -> Iterator[dict[str, Machine]]:
    """A machine for each of the names, at its address in one network 10.0.0.0/24 of their own."""
    switch = Machine("switch", folder / "switch")
    there = {"switch": switch}
    try:
        switch.run("sh", "-ec", "ip link add lan type bridge; ip link set lan up", check=True)
        for name, address in addresses.items():
            there[name] = machine = Machine(name, folder / name)
            into = ["nsenter", "--target", str(switch.pid), "--net", "ip", "link"]
            port = f"to-{name}"
            subprocess.run(
                [*into, "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid)],
                check=True,
            )
            subprocess.run([*into, "set", port, "master", "lan", "up"], check=True)
            machine.run(
                "sh",
                "-ec",
                f"ip link set lo up; ip addr add {address}/24 dev eth0; ip link set eth0 up",
                check=True,
            )
        yield there
    finally:
        for each in reversed(there.values()):
            each.stop()


class Unit:
    """A unit of systemd, as far as it says who runs what, where."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        self.user = self._value("User")

    def _value(self, key: str) -> str:
        (found,) = re.findall(rf"^{key}=(.+)$", self.text, re.M)
        return found

    def prepare(self, machine: Machine) -> None:
        """Makes its folder of state, as systemd does before each start."""
        home = f"/var/lib/{self._value('StateDirectory')}"
        owned = f"-o {self.user} -g {self._value('Group')}"
        machine.run(
            "install", "-d", "-m", self._value("StateDirectoryMode"), *owned.split(), home, check=True
        )

    def command(self, *command: str) -> list[str]:
        """*command*, or the unit's own, by its user, in its folder, with its environment and nothing else."""
        given = [f'"{each}"' for each in re.findall(r"^Environment=(.+)$", self.text, re.M)]
        file = self._value("EnvironmentFile").removeprefix("-")
        argv = shlex.join(command or shlex.split(self._value("ExecStart")))
        argv = argv.replace("/usr/bin/python3 ", f"{PYTHON}/python3 ")
        settings = f"$(grep -E '^[A-Z0-9_]+=' {file})"
        who = f"setpriv --reuid {self.user} --regid {self.user} --init-groups --no-new-privs"
        clean = f"env -i PATH=/usr/local/bin:/usr/bin:/bin {' '.join(given)} {settings}"
        run = f"cd {self._value('WorkingDirectory')}; exec {clean} {who} {argv}"
        return ["sh", "-ec", run]
