"""The sandbox from inside: what a program that has taken over FFmpeg tries, row by row, is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest

from mediapipe import kernel
from mediapipe.engine import prober, system_calls
from mediapipe.engine.encode import ROOT, ffmpeg_path, sandboxed
from mediapipe.management.commands.worker import Command
from tests.support.engine import X264

pytestmark = pytest.mark.skipif(
    not (kernel.landlock_abi() and kernel.has_seccomp()), reason="this kernel lacks a layer"
)

ATTACKS = {
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "tcp": "socket.create_connection(('127.0.0.1', PORT), 2)",
    "listening": "socket.create_server(('127.0.0.1', 0))",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "a packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "a Unix socket": "socket.socket(socket.AF_UNIX).connect(FOLDER + '/unix')",
    "a pair of sockets": "socket.socketpair()",
    "fork": "os._exit(0) if os.fork() == 0 else None",
    "vfork": "call(58)",
    "clone without a thread": "call(56, 17, 0, 0, 0, 0)",
    "clone3": "call(435, ctypes.create_string_buffer(88), 88)",
    "another session": "os.setsid()",
    "another group": "os.setpgid(0, 0)",
    "to outlive its parent": "call(157, 1, 0, 0, 0, 0)",
    "chmod outside": "os.chmod(FOLDER + '/secret', 0o644)",
    "fchmod by a path": "call(268, -100, (FOLDER + '/secret').encode(), 0o644)",
    "utime outside": "os.utime(FOLDER + '/secret', (1, 1))",
    "chown outside": "os.chown(FOLDER + '/secret', 1, 1)",
    "an attribute outside": "os.setxattr(FOLDER + '/secret', 'user.x', b'x')",
    "reading outside": "open(FOLDER + '/secret').read()",
    "writing outside": "open(FOLDER + '/made', 'w')",
    "a symbolic link": "os.symlink('/etc/passwd', OWN + '/link')",
    "a hard link": "os.link(OWN + '/own', OWN + '/link')",
    "a device": "os.mknod(OWN + '/device', 0o020644, os.makedev(1, 3))",
    "a user namespace": "call(272, 0x10000000)",
    "another's namespace": "call(308, os.open('/proc/self', os.O_RDONLY), 0)",
    "mount": "call(165, b'none', OWN.encode(), b'tmpfs', 0, None)",
    "io_uring": "call(425, 8, ctypes.create_string_buffer(120))",
    "keys": "call(250, 0, -3, 1)",
    "adding a key": "call(248, b'user', b'x', b'y', 1, -3)",
    "ptrace of its parent": "call(101, 16, os.getppid(), 0, 0)",
    "memory of its parent": "call(310, os.getppid(), None, 0, None, 0, 0)",
    "a signal to its parent": "os.kill(os.getppid(), 0)",
    "a signal to its group": "os.kill(0, 0)",
    "a file descriptor of its parent": "call(434, os.getppid(), 0)",
    "bpf": "call(321, 0, ctypes.create_string_buffer(128), 128)",
    "performance events": "call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0)",
    "userfaultfd": "call(323, 0)",
    "handing over the terminal’s input": "fcntl.ioctl(0, 0x5412, b'x')",
    "more memory": "call(302, 0, 9, struct.pack('QQ', 1 << 60, 1 << 60), None)",
    "limits of its parent": "call(302, os.getppid(), 7, struct.pack('QQ', 3, 3), None)",
    "another filter": "call(317, 1, 0, None)",
    "capabilities": "call(126, struct.pack('=Ii', 0x20080522, 0), b'\\xff' * 8 + bytes(16))",
    "another user": "os.setuid(1)",
    "calls of another table": "call(0x40000000 + 41, 2, 1, 0)",
}
INSIDE = """
import ctypes, fcntl, os, socket, struct, sys
PORT, FOLDER, OWN, WHAT = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)) < 0:
        raise OSError(ctypes.get_errno(), 'refused')
for what in WHAT.split('|'):
    try:
        exec(what)
        print('DONE')
    except OSError as error:
        print('refused', error.errno)
"""


def inside(code: str, *arguments: str, write: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """A Python program in the sandbox of an encode."""
    program = [sys.executable, "-I", "-S", "-c", code, *arguments]
    command = sandboxed(program, read=[sys.prefix, sys.base_prefix], write=write or [], cpu=20)
    return subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=60)


@pytest.fixture
def surroundings(tmp_path):
    """A folder with a secret and a Unix socket, a folder of its own, and a UDP port."""
    (tmp_path / "secret").write_text("SECRET")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "own").touch()
    with socket.socket(socket.AF_UNIX) as unix, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        unix.bind(str(tmp_path / "unix"))
        unix.listen()
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        yield tmp_path, udp


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are of x86_64; the table has both")
def test_what_a_taken_over_encoder_tries_is_refused(surroundings):
    folder, udp = surroundings
    secret = (folder / "secret").stat()
    killing = ATTACKS["calls of another table"]
    others = {name: code for name, code in ATTACKS.items() if code != killing}
    where = [str(udp.getsockname()[1]), str(folder), str(folder / "own")]
    done = inside(INSIDE, *where, "|".join(others.values()), write=[str(folder / "own")])
    answers = dict(zip(others, done.stdout.splitlines(), strict=True))
    assert {name: said for name, said in answers.items() if not said.startswith("refused")} == {}, done.stderr
    assert inside(INSIDE, *where, killing).returncode == -31, "SIGSYS"
    assert (folder / "secret").stat() == secret and {*os.listdir(folder)} == {"secret", "own", "unix"}
    with pytest.raises(BlockingIOError):
        udp.recv(10)


def test_a_program_in_the_sandbox_has_no_rights_of_root_and_may_still_use_threads():
    code = (
        "import threading; done = []\n"
        "threads = [threading.Thread(target=done.append, args=[1]) for _ in range(20)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; print(len(done))\n"
        "print(open('/proc/self/status').read())"
    )
    done = inside(code)
    count, _, status = done.stdout.partition("\n")
    facts = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert count == "20", done.stderr
    assert all(int(facts[f"Cap{kind}"], 16) == 0 for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")


def test_a_program_in_the_sandbox_ends_with_the_one_that_started_it():
    code = "import signal, sys, time; print('in', flush=True); time.sleep(600)"
    command = sandboxed(
        [sys.executable, "-I", "-S", "-c", code], read=[sys.prefix, sys.base_prefix], write=[], cpu=9
    )
    start = (
        "import json, os, subprocess, sys; command = json.loads(sys.argv[1]);"
        "at = next(at for at, word in enumerate(command) if word.startswith('parent='));"
        "command[at] = f'parent={os.getpid()}';"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True);"
        "child.stdout.readline(); print(child.pid, flush=True); os._exit(0)"
    )
    parent = subprocess.run(
        [sys.executable, "-c", start, json.dumps(command)], capture_output=True, text=True
    )
    status = Path(f"/proc/{int(parent.stdout)}/stat")
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if status.read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.02)
                continue
        return
    raise AssertionError("it outlived its parent")


@pytest.mark.parametrize(
    "encoder",
    [
        "libx264",
        pytest.param("libx265 -x265-params log-level=none", marks=pytest.mark.release),
        "libsvtav1 -preset 12",
        pytest.param("libvpx-vp9 -deadline realtime", marks=pytest.mark.release),
    ],
)
def test_every_encoder_works_in_the_sandbox_with_its_threads(made, tmp_path, encoder):
    source = made("short.mp4", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", *X264)
    output = tmp_path / "out" / "made.mkv"
    output.parent.mkdir()
    arguments = [
        "-v",
        "error",
        "-nostdin",
        "-threads",
        "4",
        "-i",
        str(source),
        "-c:v",
        *encoder.split(),
        str(output),
    ]
    program = sandboxed(
        [ffmpeg_path(), *arguments], read=[ffmpeg_path(), str(source)], write=[str(output.parent)], cpu=60
    )
    done = subprocess.run(program, capture_output=True, text=True, cwd=output.parent)
    assert done.returncode == 0 and output.stat().st_size > 500, done.stderr


@pytest.mark.anyio
async def test_the_reader_of_a_file_may_not_become_another_program(tmp_path):
    os.mkfifo(tmp_path / "endless.mp4")
    asking = asyncio.create_task(prober.read_facts(str(tmp_path / "endless.mp4")))
    found = ""
    for _ in range(400):
        await asyncio.sleep(0.02)
        forking = prober._prober.process
        if forking is None:
            continue
        children = Path(f"/proc/{forking.pid}/task/{forking.pid}/children").read_text().split()
        with contextlib.suppress(OSError):
            found = Path(f"/proc/{children[0]}/status").read_text() if children else ""
        if "Seccomp:\t2" in found:
            break
    asking.cancel()
    assert "Seccomp:\t2" in found and "CapEff:\t0000000000000000" in found
    code = system_calls.program("x86_64", 1, executes=False)
    assert verdict(code, "x86_64", 59) == system_calls.REFUSE


def verdict(code: bytes, machine: str, number: int, *arguments: int) -> int:
    """What the kernel would say: BPF's few operations, as the filter uses them."""
    audit = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003}[machine]
    data = struct.pack("=IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    at = value = 0
    while True:
        operation, yes, no, operand = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        if operation == system_calls.LOAD:
            (value,) = struct.unpack_from("=I", data, operand)
        elif operation == system_calls.RETURN:
            return operand
        else:
            holds = {
                system_calls.EQUAL: value == operand,
                system_calls.AT_LEAST: value >= operand,
                system_calls.ANY_BIT: bool(value & operand),
            }[operation]
            at += yes if holds else no


THREAD = 0x3D0F00  # what a C library passes for a thread
# name, number on x86_64, on aarch64, arguments, whether it is allowed
TABLE = [
    ("read", 0, 63, [], True),
    ("openat", 257, 56, [], True),
    ("newfstatat", 262, 79, [], True),
    ("futex", 202, 98, [], True),
    ("execve", 59, 221, [], True),
    ("a thread", 56, 220, [THREAD], True),
    ("a process", 56, 220, [17], False),
    ("a thread in a network of its own", 56, 220, [THREAD | 0x40000000], False),
    ("prctl for a thread’s name", 157, 167, [15], True),
    ("prctl for the signal at its parent’s end", 157, 167, [1], False),
    ("tgkill of itself", 234, 131, [77], True),
    ("tgkill of another", 234, 131, [78], False),
    ("prlimit of itself", 302, 261, [0], True),
    ("prlimit of another", 302, 261, [78], False),
    ("ioctl TCGETS", 16, 29, [1, 0x5401], True),
    ("ioctl TIOCSTI", 16, 29, [1, 0x5412], False),
    ("socket", 41, 198, [2, 1, 0], False),
    ("connect", 42, 203, [], False),
    ("fchmodat", 268, 53, [], False),
    ("utimensat", 280, 88, [], False),
    ("setsid", 112, 157, [], False),
    ("unshare", 272, 97, [], False),
    ("ptrace", 101, 117, [], False),
    ("keyctl", 250, 219, [], False),
    ("io_uring_setup", 425, 425, [], False),
    ("execveat", 322, 281, [], False),
    ("a call of next year", 900, 900, [], False),
]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_decides_by_the_numbers_of_each_architecture(machine):
    code = system_calls.program(machine, 77, executes=True)
    for name, intel, arm, arguments, allowed in TABLE:
        said = verdict(code, machine, intel if machine == "x86_64" else arm, *arguments)
        assert (said == system_calls.ALLOW) == allowed, name
    assert verdict(code, machine, 435) == system_calls.UNKNOWN, "clone3: the C library goes on with clone"
    assert verdict(code, "i386", 3) == system_calls.KILL, "calls of another architecture"


def test_a_worker_says_at_its_start_what_holds_ffmpeg_and_what_is_missing():
    said = StringIO()
    Command(stdout=said)._tell_protection()
    first, *others = said.getvalue().splitlines()
    assert first == "FFmpeg is held by Landlock, seccomp and resource limits."
    assert others == kernel.weaknesses() and any("root" in each for each in others) == (os.geteuid() == 0)


def test_an_admin_is_told_of_each_layer_that_is_missing(monkeypatch):
    monkeypatch.setattr(os, "uname", lambda: type("Machine", (), {"machine": "riscv64"}))
    assert not kernel.has_seccomp() and kernel.protection()["seccomp"] is False
    assert any("seccomp" in sentence for sentence in kernel.weaknesses())


def test_no_reader_of_a_file_has_to_load_code(made):
    source = made("short.mp4", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=1", *X264)
    looks = {"video": 0, "audio": None, "moments": [0.5], "places": [], "around": 0.1, "start": 0.0}
    looks |= {"keys": False, "crop": [], "late": 0.0, "turn": 0, "budget": 1}
    code = (
        "import sys; from mediapipe.engine import prober, probe; prober.load(); known = {*sys.modules}\n"
        "probe.print_facts(sys.argv[1], ['--gap', '--whole', '--heard'])\n"
        "probe.print_facts(sys.argv[1], ['--looks', sys.argv[2]]); print(*({*sys.modules} - known))"
    )
    command = [sys.executable, "-c", code, str(source), json.dumps(looks)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    facts, seen, loaded = done.stdout.split("\n")[:3]
    assert json.loads(facts)["streams"] and json.loads(seen)["pictures"] and loaded == ""


def test_what_every_encode_starts_loads_nothing_that_takes_longer_than_the_sandbox_itself():
    code = "import mediapipe.engine.sandbox, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"enum", "json", "re", "typing"} & set(done.stdout.split())
