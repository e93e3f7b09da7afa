"""Walls around a process that runs untrusted code: limits, an audit hook, and Landlock."""

import contextlib
import json
import os
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

MEMORY = 4 << 30  # bytes of address space that a process may use beyond what it has


def python_folders() -> list[str]:
    """The folders and files that Python and the installed packages read while they run.

    The course is in none of them, though its .venv may be inside the course.
    """
    roots = dict.fromkeys(
        ["", "/usr", "/usr/local", sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]
    )
    folders = [f"{root}/{part}" for root in roots for part in ("bin", "lib", "lib64", "share")]
    folders += [
        os.path.dirname(os.__file__),
        *(place for place in sys.path if place.endswith("-packages")),
        "/sys/devices/system",
    ]
    files = [
        "/etc/ld.so.cache",
        "/etc/localtime",
        "/dev/null",
        "/dev/urandom",
        "/proc/self",
        "/proc/cpuinfo",
        "/proc/meminfo",
    ]
    return [*folders, *files, f"{sys.prefix}/pyvenv.cfg"]


def limit(patience: float) -> None:
    """Limits memory, files, processes and CPU time of this process."""
    try:
        import resource
    except ImportError:
        return
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    seconds = int(patience) + 10  # of one core; this ends it even if the server has died
    for what, most in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CPU, seconds),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (most, most))


def guard(readable: Sequence[str]) -> Callable[[str, tuple], None]:
    """An audit hook that forbids to read anything else, to write, and to reach beyond the process.

    The events are those of CPython 3.11 to 3.13. `os.remove` includes unlink, `os.rename` replace.
    """
    places = tuple(os.path.realpath(place) + os.sep for place in readable)
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    # Literals and defaults: an answer could change what has a name, or what the frame of an error
    # that it catches leads to.
    def hook(
        event, details, places=places, writes=writes, real=os.path.realpath, text=os.fsdecode, kind=type, number=int
    ):
        if event.startswith(
            (
                *(
                    "subprocess.",
                    "os.system",
                    "os.exec",
                    "os.posix_spawn",
                    "os.fork",
                    "os.kill",
                    "socket.",
                    "ctypes.",
                    "sqlite3.",
                ),
                *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.utime"),
                *("os.chmod", "os.chown", "os.chflags", "os.setxattr", "os.removexattr", "gc.get_", "resource."),
            )
        ):
            raise PermissionError(f"an answer may not do this while it is graded: {event}")
        if event == "open" and kind(details[0]) is not number:
            if (details[2] or 0) & writes:
                raise PermissionError("an answer may not write files while it is graded")
            if not f"{real(text(details[0]))}/".startswith(places):
                raise PermissionError("an answer may not read files while it is graded")

    return hook


# Landlock, from linux/landlock.h: the numbers of its system calls, which are the same on every
# machine, and bits of struct landlock_ruleset_attr.
CREATE, ADD, RESTRICT = 444, 445, 446
ACCESSES = {1: 13, 2: 14, 3: 15, 4: 15}  # version -> how many kinds of access to files it knows; 16 from version 5 on
EXECUTE, READ = 0b0001, 0b1100  # to read is one bit for files and one for folders
OF_A_FILE = 0b1100_0000_0000_0111  # the kinds of access that a single file can have
NO_NEW_PRIVILEGES = 38  # of prctl; the kernel requires it


def landlock() -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    return max(0, _call(CREATE, None, 0, 1)) if sys.platform == "linux" else 0


def wall(readable: Sequence[str], writable: Sequence[str] = (), programs: bool = False) -> bool:
    """From here on, this process and its children read and write only there.

    With `programs`, they may also start programs that lie there, and use the network. Returns False
    where the kernel cannot enforce it.
    """
    if not (version := landlock()):
        return False
    files = (1 << ACCESSES.get(version, 16)) - 1
    handled = struct.pack("QQQ", files, 0b11 if version >= 4 and not programs else 0, 0b11 if version >= 6 else 0)
    rules = _call(CREATE, handled, len(handled), 0)
    for places, access in ((readable, READ | EXECUTE * programs), (writable, files)):
        for place in places:
            with contextlib.suppress(OSError):
                opened = os.open(place, os.O_PATH)
                allowed = access if os.path.isdir(place) else access & OF_A_FILE & files
                _call(ADD, rules, 1, struct.pack("=Qi", allowed, opened), 0)
                os.close(opened)
    _libc().prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    held = _call(RESTRICT, rules, 0) == 0
    os.close(rules)
    return held


def _call(number: int, *arguments) -> int:
    from ctypes import c_long

    return _libc().syscall(c_long(number), *(c_long(a) if isinstance(a, int) else a for a in arguments))


def _libc():
    import ctypes

    return ctypes.CDLL(None)


def walled(command: Sequence[str], root: Path, readable: Sequence[str], writable: Sequence[str]) -> list[str]:
    """The command that runs another one behind a wall. The network stays open to it."""
    code = (
        f"import json, os, sys; sys.path.insert(0, {str(root)!r}); from {__name__} import wall; "
        "readable, writable, *command = json.loads(sys.argv[1]); wall(readable, writable, programs=True); "
        "os.execv(command[0], command)"
    )
    return [sys.executable, "-P", "-c", code, json.dumps([[*readable], [*writable], *command])]
