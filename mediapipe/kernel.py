"""What this machine's kernel has to hold a program with, and a sentence where a layer is missing.

Standard library only, since a sandbox imports it (mediapipe/engine/sandbox.py). It confines nothing itself.
"""

from __future__ import annotations

import ctypes
import os
import struct

PR_SET_SECCOMP = 22
FILTER_MODE = 2
LANDLOCK_CREATE_RULESET = 444  # the same number on every architecture
ARCHITECTURES = ("x86_64", "aarch64")  # whose system calls mediapipe/engine/system_calls.py knows

libc = ctypes.CDLL(None, use_errno=True)


def landlock_abi() -> int:
    """The version of Landlock; 0 where there is none, or where it is switched off."""
    return max(0, int(libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1)))


def has_seccomp() -> bool:
    """Whether system calls can be filtered here: a filter at no address is refused for its address."""
    if os.uname().machine not in ARCHITECTURES or struct.calcsize("P") != 8:
        return False
    no_filter = ctypes.c_void_p(None)
    return libc.prctl(PR_SET_SECCOMP, FILTER_MODE, no_filter, 0, 0) == 0 or ctypes.get_errno() == 14  # EFAULT


def protection() -> dict[str, bool]:
    """What holds a decoder here that a hostile file has taken over. *user*: it isn't run by root."""
    return {"landlock": landlock_abi() > 0, "seccomp": has_seccomp(), "user": os.geteuid() != 0}


def weaknesses() -> list[str]:
    """A sentence for an admin about each layer that is missing; none where all is well."""
    sentences = []
    if not landlock_abi():
        sentences.append(
            "This kernel has no Landlock (Linux 5.13 or newer has it, unless it is switched off), so a "
            "hostile media file that takes over FFmpeg could read and change what the worker’s user can. "
            "Use a newer kernel, or run the worker as a user who can reach nothing but MEDIAPIPE_HOME."
        )
    elif landlock_abi() < 4 and not has_seccomp():
        sentences.append("This kernel’s Landlock can’t keep FFmpeg off the network; Linux 6.7 or newer can.")
    if not has_seccomp():
        sentences.append(
            "System calls can’t be filtered here (seccomp), so a hostile media file that takes over "
            "FFmpeg could open sockets and start programs. Run the worker on x86_64 or arm64 with seccomp."
        )
    if os.geteuid() == 0:
        sentences.append(
            "The worker runs as root. FFmpeg gives up root’s capabilities, but still owns root’s files: "
            "run mediapipe as a user of its own."
        )
    return sentences
