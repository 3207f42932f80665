"""Where an answer's code runs: new Linux namespaces, a root of its own, a user without rights, and limits. Standard library only.

Inside there is no network (not even loopback), no other process, no /proc, no home and no environment; every folder is read-only but /tmp,
which is in memory, small, and gone with the last process. Needs Linux 5.12 or later (mount_setattr).
"""

from __future__ import annotations

import ctypes
import os
import random
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

_NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000  # mounts, host name, IPC, processes, network
_NEW_USER = 0x10000000
_NEW_PIDS = 0x20000000
_BIND, _RECURSIVE, _PRIVATE, _DETACH = 4096, 16384, 1 << 18, 2
_MOUNT_SETATTR, _PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41}
_PDEATHSIG, _DUMPABLE, _NO_NEW_PRIVS = 1, 4, 38
_STRANGERS = (40_000, 60_000)  # user ids that own nothing; one each, since the kernel counts processes by user

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _check(result: int, doing: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    _check(
        _libc.mount(source.encode(), bytes(target), kind.encode() if kind else None, ctypes.c_ulong(flags), options.encode()),
        f"mount {target}",
    )


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def die_with_parent() -> None:
    _prctl(_PDEATHSIG, signal.SIGKILL)


def hide_memory() -> None:
    """No other process of this user may read or trace this one."""
    _prctl(_DUMPABLE, 0)


def enter(root: Path, shown: Sequence[str], *, disk_bytes: int) -> None:
    """Namespaces and the new root, mounted at the empty folder `root`; its children are the first of a new process namespace.

    shown: absolute paths that stay visible, read-only. Raises OSError where the kernel refuses.
    """
    user, group = os.geteuid(), os.getegid()
    _check(_libc.unshare(_NEW_NAMESPACES | (_NEW_USER if user else 0)), "unshare")
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_text(text)
    _mount("none", Path("/"), None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", 2 | 4, f"size={disk_bytes},nr_inodes=10000,mode=755")
    for path in shown:
        _show(Path(path), root)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    os.chdir(root)
    _check(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _DETACH), "umount")
    os.chdir("/tmp")  # noqa: S108  # in the new root, where nobody else is


def _show(path: Path, root: Path) -> None:
    """Binds a file or folder at the same path below `root`, read-only; a symbolic link is made again."""
    target = root / path.relative_to("/")
    if target.exists() or target.is_symlink() or not path.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        target.symlink_to(path.readlink())
        return
    target.mkdir() if path.is_dir() else target.touch()
    _mount(str(path), target, None, _BIND | _RECURSIVE)
    read_only = _MountAttributes(1)
    _check(
        _libc.syscall(_MOUNT_SETATTR, -100, bytes(target), 0x8000, ctypes.byref(read_only), ctypes.sizeof(read_only)),
        f"mount_setattr {target}",
    )


def new_process_namespace() -> None:
    """For the children to come."""
    _check(_libc.unshare(_NEW_PIDS), "unshare")


def drop_rights() -> None:
    """root becomes a user that owns nothing; nobody gains rights by running a program."""
    if os.geteuid() == 0:
        stranger = random.SystemRandom().randint(*_STRANGERS)
        os.setgroups([])
        os.setresgid(stranger, stranger, stranger)
        os.setresuid(stranger, stranger, stranger)
    _prctl(_NO_NEW_PRIVS, 1)


def limit(*, cpu_s: int, memory_bytes: int, file_bytes: int, processes: int) -> None:
    """Hard limits of this process and its children, each by itself but for `processes`, which counts the user's."""
    for kind, most in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
