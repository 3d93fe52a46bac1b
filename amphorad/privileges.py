"""Giving up root for good: an unprivileged user, no groups, no capability, and no way to get any back.

The process is then not dumpable (prctl(2) PR_SET_DUMPABLE, which the kernel clears when the user changes): no core file with keys in it,
and no other process of that user can trace it or look into its memory. So its `/proc/PID` belongs to root; it must not count on
reading its own. Resource limits stay as they were; descriptors that are open stay open.

What such a process still needs of the machine, and what the image sets for it:

    net.ipv4.ping_group_range       PING health monitors use datagram ICMP sockets (icmp(7))
    fs.pipe-user-pages-soft         pages in pipes of one user (pipe(7)); beyond it pipes are two pages, and streams spliced slower
    traffic log socket, CA files of health monitors     readable (the socket: writable) for that user
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import struct
from pathlib import Path

__all__ = ["drop_to", "see_read_only", "set_name"]

# <linux/prctl.h>, <linux/capability.h>
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 40  # when the kernel does not tell

# <linux/sched.h>, <linux/mount.h>, <linux/fcntl.h>; the number of mount_setattr is the same on all architectures
_CLONE_NEWNS = 0x00020000
_MS_SLAVE_RECURSIVE = 0x80000 | 0x4000
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY_NOSUID = 0x1 | 0x2

_libc = ctypes.CDLL(None, use_errno=True)


def drop_to(user: str) -> None:
    """Makes this process that user's, for ever. To be called before there are threads. Without root: only for its own user.

    Raises:
        KeyError: there is no such user.
        OSError: it may not become that user; nothing may be assumed of the process then.
    """
    entry = pwd.getpwnam(user)
    if os.geteuid() == 0 and entry.pw_uid != 0:
        _empty_bounding_set()
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    elif os.geteuid() != entry.pw_uid:
        raise PermissionError(f"only root can become user {user}")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if entry.pw_uid != 0:
        _clear_capabilities()


def see_read_only() -> None:
    """Gives this process a view of all file systems that nothing can be written through, and where no set-user-ID bit counts.

    Sockets in it can be connected to, devices written; what others mount or unmount later is seen here too. Needs root, and one thread.

    Raises:
        OSError: also of a kernel before 5.12.
    """
    _call(_libc.unshare(_CLONE_NEWNS))
    _call(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_SLAVE_RECURSIVE), None))  # first, or the others get it too
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY_NOSUID, 0, 0, 0)
    size = ctypes.c_size_t(len(attributes))
    _call(_libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, attributes, size))


def set_name(name: str) -> None:
    """Names the calling thread, and so the process for ps(1), when it is the main one: at most 15 bytes."""
    with contextlib.suppress(OSError):
        _call(_libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()), 0, 0, 0))


def _empty_bounding_set() -> None:
    try:
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    except (OSError, ValueError):
        last = _LAST_CAPABILITY
    for capability in range(last + 1):
        with contextlib.suppress(OSError):  # without CAP_SETPCAP it stays; no_new_privs makes it worthless
            _prctl(_PR_CAPBSET_DROP, capability)


def _clear_capabilities() -> None:
    """The kernel has cleared what was effective and permitted; this clears what might be inherited."""
    with contextlib.suppress(OSError):  # kernels without ambient capabilities
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _call(_libc.capset(header, bytes(24)))


def _prctl(option: int, argument: int) -> None:
    _call(_libc.prctl(option, ctypes.c_ulong(argument), 0, 0, 0))


def _call(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
