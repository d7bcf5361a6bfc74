"""Starts a program in a sandbox, then becomes it: limits, no capabilities, no files, no sockets, no forks.

`main` takes NAME=VALUE … -- PROGRAM ARGUMENTS…: `parent`, `read` and `write` (a path each), `memory`, `cpu`,
`file_size` (limits). Standard library only, and of that what loads at once: every encode starts it. Where the
kernel has no Landlock or no seccomp the rest remains (mediapipe/kernel.py tells the admin). It knows nothing
of media.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys

from mediapipe import kernel
from mediapipe.engine import system_calls
from mediapipe.kernel import LANDLOCK_CREATE_RULESET as CREATE_RULESET
from mediapipe.kernel import libc

SIGKILL = 9
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
CLEAR_ALL = 4  # of ambient capabilities
CAPABILITIES_3 = 0x20080522  # the version of their structure
MOST_THREADS = 8192  # of this user's at once, where the user isn't root: no bomb, and room for a busy machine
# System calls of Landlock: the same numbers on every architecture
ADD_RULE = 445
RESTRICT_SELF = 446
SYSTEM = (
    *("/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/proc/self", "/sys/devices/system/cpu"),
    *("/usr/local/lib", "/etc/localtime"),
)
# Landlock's rights to files, by bit (linux/landlock.h)
RIGHTS = (
    *("execute", "write", "read", "read_dir", "remove_dir", "remove_file", "make_char", "make_dir"),
    *("make_reg", "make_sock", "make_fifo", "make_block", "make_sym", "refer", "truncate", "ioctl"),
)
BIT = {name: 1 << at for at, name in enumerate(RIGHTS)}
READ = BIT["read"] | BIT["read_dir"] | BIT["execute"]
WRITE = (
    READ
    | BIT["write"]
    | BIT["make_reg"]
    | BIT["remove_file"]
    | BIT["truncate"]
    | BIT["make_dir"]
    | BIT["refer"]
)
LIMITS = {"memory": resource.RLIMIT_AS, "cpu": resource.RLIMIT_CPU, "file_size": resource.RLIMIT_FSIZE}
ON_FILES = BIT["execute"] | BIT["write"] | BIT["read"] | BIT["truncate"] | BIT["ioctl"]


def limit(limits: dict[str, int]) -> None:
    """Resource limits, and a low priority."""
    for name, what in LIMITS.items():
        if most := limits.get(name):
            resource.setrlimit(what, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = MOST_THREADS if most == resource.RLIM_INFINITY else min(most, MOST_THREADS)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    os.nice(10)


def drop_capabilities() -> None:
    """Gives up what root may do beyond its own files, for what it becomes too. Raises OSError."""
    capability = 0
    while capability < 64 and libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    libc.prctl(PR_CAP_AMBIENT, CLEAR_ALL, 0, 0, 0)
    if libc.capset(struct.pack("=Ii", CAPABILITIES_3, 0), bytes(24)):
        raise OSError(ctypes.get_errno(), "capset")


def landlock(read: list[str], write: list[str]) -> None:
    """Files outside *read* and *write* are out of reach, and so is TCP, where the kernel can."""
    abi = kernel.landlock_abi()
    if not abi:
        return
    rights = (1 << 13) - 1
    for least, name in ((2, "refer"), (3, "truncate"), (5, "ioctl")):
        rights |= BIT[name] if abi >= least else 0
    attributes = struct.pack("QQQ", rights, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    length = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = libc.syscall(CREATE_RULESET, attributes, length, 0)

    def allow(path: str, access: int) -> None:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        access &= rights if os.path.isdir(path) else rights & ON_FILES
        if libc.syscall(ADD_RULE, ruleset, 1, struct.pack("=Qi", access, fd), 0):
            raise OSError(ctypes.get_errno(), f"landlock_add_rule {path}")
        os.close(fd)

    for path in (*SYSTEM, *read):
        allow(path, READ)
    for path in ("/dev/null", "/dev/urandom"):
        allow(path, BIT["read"] | BIT["write"])
    for path in write:
        allow(path, WRITE)
    if libc.syscall(RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")


def enter(
    parent: int, limits: dict[str, int], read: list[str], write: list[str], *, executes: bool = False
) -> None:
    """Puts this process into the sandbox; from then on it ends with its *parent*. Raises OSError.

    *executes*: it is to become another program.
    """
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != parent:
        sys.exit(125)  # the parent has died already
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    limit(limits)
    landlock(read, write)
    drop_capabilities()
    if kernel.has_seccomp():
        program = system_calls.program(os.uname().machine, os.getpid(), executes=executes)
        system_calls.install(libc, program)


def main() -> None:
    """Enters the sandbox, and becomes the program."""
    at = sys.argv.index("--")
    program = sys.argv[at + 1 :]
    given = [word.partition("=")[::2] for word in sys.argv[1:at]]
    numbers = {name: int(value) for name, value in given if name not in ("read", "write")}
    read, write = ([value for name, value in given if name == which] for which in ("read", "write"))
    enter(numbers["parent"], numbers, read, write, executes=True)
    environment = {"PATH": "/usr/bin", "LC_ALL": "C.UTF-8", "AV_LOG_FORCE_NOCOLOR": "1"}
    os.execve(program[0], program, environment)  # noqa: S606 - to become it is the point
