"""Entering a network namespace, for a whole process or for the time of one call.

setns(2) moves the calling thread only, so a process must enter before it has threads, and `call_inside` borrows a thread that
ends with the call: the caller's own thread never changes its namespace. A socket belongs for life to the namespace in which it was made.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["call_inside", "enter"]

_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12

T = TypeVar("T")


def enter(path: Path) -> None:
    """Moves the calling thread, and threads and processes that it makes from now on, into a network namespace. Needs root.

    Raises:
        OSError: there is none at that path, or it may not be entered.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def call_inside(path: Path | None, function: Callable[[], T]) -> T:
    """What `function` returns or raises when it runs inside that namespace; None: just here. Blocks until then.

    Raises:
        OSError: as for `enter`.
    """
    if path is None:
        return function()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter(path)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
