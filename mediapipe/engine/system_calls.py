"""Which system calls a sandboxed program may make, as a BPF program for seccomp. Pure but for `install`.

What isn't listed is refused: sockets, new processes and sessions, changes of modes and times, namespaces,
io_uring, keys, ptrace. Standard library only; it knows nothing of FFmpeg.
"""

from __future__ import annotations

import ctypes
import struct

# Of each call its number on x86_64 and on aarch64; "-" where it has none. Landlock says which files.
FREELY = """
read 0 63 | write 1 64 | readv 19 65 | writev 20 66 | pread64 17 67 | pwrite64 18 68 | preadv 295 69
pwritev 296 70 | lseek 8 62 | close 3 57 | openat 257 56 | openat2 437 437 | close_range 436 436
fstat 5 80 | newfstatat 262 79 | statx 332 291 | fstatfs 138 44 | statfs 137 43 | faccessat 269 48
faccessat2 439 439 | readlinkat 267 78 | getdents64 217 61 | getcwd 79 17 | fcntl 72 25 | flock 73 32
fsync 74 82 | fdatasync 75 83 | ftruncate 77 46 | fallocate 285 47 | fadvise64 221 223 | dup 32 23
dup3 292 24 | pipe2 293 59 | mkdirat 258 34 | unlinkat 263 35 | renameat 264 38 | renameat2 316 276
copy_file_range 326 285 | sendfile 40 71 | open 2 - | stat 4 - | lstat 6 - | access 21 - | readlink 89 -
dup2 33 - | pipe 22 - | mkdir 83 - | rmdir 84 - | unlink 87 - | rename 82 - | getdents 78 - | mmap 9 222
munmap 11 215 | mprotect 10 226 | mremap 25 216 | brk 12 214 | madvise 28 233 | mincore 27 232
mlock 149 228 | munlock 150 229 | msync 26 227 | membarrier 324 283 | get_mempolicy 239 236
set_mempolicy 238 237 | mbind 237 235 | futex 202 98 | futex_waitv 449 449 | set_robust_list 273 99
rseq 334 293 | get_robust_list 274 100 | set_tid_address 218 96 | gettid 186 178 | getpid 39 172
getppid 110 173 | exit 60 93 | exit_group 231 94 | getuid 102 174 | geteuid 107 175 | getgid 104 176
getegid 108 177 | getgroups 115 158 | getpgid 121 155 | getsid 124 156 | getcpu 309 168 | uname 63 160
sysinfo 99 179 | getrusage 98 165 | times 100 153 | getrandom 318 278 | sched_yield 24 124
sched_getaffinity 204 123 | sched_getscheduler 145 120 | sched_getparam 143 121 | getpriority 140 141
sched_get_priority_max 146 125 | sched_get_priority_min 147 126 | wait4 61 260 | arch_prctl 158 -
getrlimit 97 - | rt_sigaction 13 134 | rt_sigprocmask 14 135 | rt_sigreturn 15 139 | rt_sigtimedwait 128 137
rt_sigpending 127 136 | sigaltstack 131 132 | restart_syscall 219 128 | nanosleep 35 101
clock_nanosleep 230 115 | clock_gettime 228 113 | clock_getres 229 114 | gettimeofday 96 169
setitimer 38 103 | getitimer 36 102 | time 201 - | alarm 37 - | ppoll 271 73 | pselect6 270 72 | poll 7 -
select 23 - | epoll_create1 291 20 | epoll_ctl 233 21 | epoll_pwait 281 22 | epoll_pwait2 441 441
eventfd2 290 19 | epoll_create 213 - | epoll_wait 232 - | eventfd 284 -
"""
# Of these one argument decides: its place, and the values that it may have.
TERMINAL = (
    0x5401,
    0x802C542A,
    0x5413,
    0x5450,
    0x5451,
    0x541B,
)  # is it one, its size, close-on-exec, bytes to read
NAMES = (15, 16)  # of a thread, to set and to get; not PDEATHSIG: it ends with its parent
BY_ARGUMENT = {
    "ioctl": ((16, 29), 1, TERMINAL),
    "prctl": ((157, 167), 0, NAMES),
    "prlimit64": ((302, 261), 0, (0,)),  # its own
    "setpriority": ((141, 140), 1, (0,)),
    "sched_setaffinity": ((203, 122), 0, (0,)),
    "sched_setscheduler": ((144, 119), 0, (0,)),
    "sched_setparam": ((142, 118), 0, (0,)),
}
TO_ITSELF = {"kill": (62, 129), "tgkill": (234, 131)}  # signals
CLONE = (56, 220)
CLONE_THREAD = 0x10000
CLONE_NEW = 0x7E020080  # namespaces of every sort
EXECVE = (59, 221)
MACHINES = {
    "x86_64": (0, 0xC000003E),
    "aarch64": (1, 0xC00000B7),
}  # place in the pairs above, the audit number
# C libraries try what is newer than this, and do without where there is no such call.
NEWER = {"x86_64": 335, "aarch64": 294}
X32 = 0x40000000  # another table of calls on x86_64

ALLOW = 0x7FFF0000
REFUSE = 0x00050001  # EPERM
UNKNOWN = 0x00050026  # ENOSYS
KILL = 0x80000000
LOAD = 0x20  # BPF's operations
EQUAL = 0x15
AT_LEAST = 0x35
ANY_BIT = 0x45
RETURN = 0x06


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _returns_if(code: int, value: int, verdict: int) -> bytes:
    return _step(code, value, 0, 1) + _step(RETURN, verdict)


def _if_call(number: int, inner: bytes) -> bytes:
    """*inner* for that call alone; what it doesn't decide is refused."""
    inner += _step(RETURN, REFUSE)
    return _step(EQUAL, number, 0, len(inner) // 8) + inner


def _argument(place: int) -> bytes:
    return _step(LOAD, 16 + 8 * place)  # its lower half: all that the kernel reads of these


def program(machine: str, own: int, *, executes: bool) -> bytes:
    """The filter of the process *own*; *executes*: whether it may still become another program."""
    at, audit = MACHINES[machine]
    code = _step(LOAD, 4) + _step(EQUAL, audit, 1, 0) + _step(RETURN, KILL) + _step(LOAD, 0)
    if machine == "x86_64":
        code += _returns_if(AT_LEAST, X32, KILL)
    freely = [call.split()[1 + at] for call in FREELY.replace("\n", "|").strip("|").split("|")]
    for number in [*(int(number) for number in freely if number != "-"), *([EXECVE[at]] if executes else [])]:
        code += _returns_if(EQUAL, number, ALLOW)
    by_value = [*BY_ARGUMENT.values(), *((numbers, 0, (own,)) for numbers in TO_ITSELF.values())]
    for numbers, place, values in by_value:
        allowed = b"".join(_returns_if(EQUAL, value, ALLOW) for value in values)
        code += _if_call(numbers[at], _argument(place) + allowed)
    threads = _returns_if(ANY_BIT, CLONE_NEW, REFUSE) + _returns_if(ANY_BIT, CLONE_THREAD, ALLOW)
    code += _if_call(CLONE[at], _argument(0) + threads)
    return code + _returns_if(AT_LEAST, NEWER[machine], UNKNOWN) + _step(RETURN, REFUSE)


def install(libc: ctypes.CDLL, filter_program: bytes) -> None:
    """Filters this process' calls from now on, and those of what it becomes. Raises OSError."""
    prog = _Program(len(filter_program) // 8, filter_program)
    if libc.prctl(22, 2, ctypes.byref(prog), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp")
