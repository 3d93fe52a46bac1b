"""One keepalived: a parent process, and its child that speaks VRRP.

It runs in the foreground in the network namespace and in a session of its own, so neither the end of the agent nor a signal for the agent's
group ends it. Its death is seen through a pidfd, whether this agent has started it or found it.

It never respawns its child (`--dont-respawn`): a child that starts takes the VIPs down and waits, which is for `service` to prevent.

Source: keepalived(8).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from amphorad.errors import AmphoradError
from amphorad.files import remove

if TYPE_CHECKING:
    from collections.abc import Callable

    from amphorad.vrrp.paths import Paths

__all__ = ["Keepalived", "NotStarted", "find_running", "launch"]

log = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 5.0
STOP_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.005
_SYSLOG: Final = Path("/dev/log")


class NotStarted(AmphoradError):
    """keepalived does not start; the message tells why."""


class Keepalived:
    """One running keepalived. Made by `launch` and `find_running`.

    Args:
        process: if this process is its parent.
        pidfd: owned by this object.
        on_exit: called once when it ends, in the event loop; not after `release`.
    """

    def __init__(
        self, paths: Paths, pid: int, pidfd: int, on_exit: Callable[[], None], process: subprocess.Popen[bytes] | None
    ) -> None:
        self.pid = pid
        self._paths = paths
        self._pidfd = pidfd
        self._on_exit = on_exit
        self._process = process
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, self._note_end)

    @property
    def is_alive(self) -> bool:
        return not self._ended.is_set()

    @property
    def exit_text(self) -> str:
        """How it ended, for the log; of one that was found nobody can tell."""
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return "ended"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def reload(self) -> None:
        """Makes it read its file again, without a moment without VIPs."""
        self._signal(signal.SIGHUP)

    async def stop(self) -> bool:
        """Ends it in order: priority 0 to the peer, VIPs, routes and rules removed. False when it had to be killed, which leaves them."""
        self._signal(signal.SIGTERM)
        if await self._wait_ended(STOP_TIMEOUT_S) and await wait_child_gone(self._paths, STOP_TIMEOUT_S):
            return True
        log.error("keepalived does not end, killed pid=%d", self.pid)
        kill_child(self._paths)
        self._signal(signal.SIGKILL)
        await self._wait_ended(STOP_TIMEOUT_S)
        return False

    async def wait_running(self) -> None:
        """Until its VRRP process is there.

        Raises:
            NotStarted: it has ended instead.
        """
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while child_pid(self._paths) is None:
            if not self.is_alive:
                raise NotStarted(f"keepalived has ended: {self.exit_text}")
            if asyncio.get_running_loop().time() > deadline:
                raise NotStarted(f"keepalived does not run after {START_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)

    def release(self) -> None:
        """Lets it run on and forgets it."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._process is not None and self._process.returncode is None:
            self._process.returncode = 0  # nobody waits for it any more, which is on purpose

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)

    def _note_end(self) -> None:
        if self._process is not None:
            self._process.wait()  # it is a zombie already, so this does not wait
        self._ended.set()
        self.release()
        self._on_exit()

    async def _wait_ended(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        return self._ended.is_set()


def launch(paths: Paths, command: str, namespace: Path, facility: int, on_exit: Callable[[], None]) -> Keepalived:
    """Starts one with the effective file. There must be none.

    Args:
        command: the program, looked up in PATH.
        facility: 0..7, syslog's local0 to local7. Without a system log it writes to this process's standard error.

    Raises:
        OSError: there is no such program or namespace, or no process is to be had.
    """
    for left in (paths.pid, paths.child_pid):  # of one that was killed; its zombie would count as one that runs
        remove(left)
    os.stat(namespace)
    has_syslog = _SYSLOG.is_socket()
    process = subprocess.Popen(
        [
            "nsenter",
            f"--net={namespace}",
            command,
            "--dont-fork",
            "--vrrp",
            "--dont-respawn",
            *([f"--log-facility={facility}"] if has_syslog else ["--log-console", "--no-syslog"]),
            f"--use-file={paths.effective}",
            f"--pid={paths.pid}",
            f"--vrrp_pid={paths.child_pid}",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if has_syslog else None,
        start_new_session=True,
    )
    try:
        return Keepalived(paths, process.pid, os.pidfd_open(process.pid), on_exit, process)
    except OSError:
        process.kill()
        process.wait()
        raise


def find_running(paths: Paths, on_exit: Callable[[], None]) -> Keepalived | None:
    """The one that an earlier agent has started, if it lives: its pid file names a process with our file in its command line."""
    pid = _read_pid(paths.pid)
    if pid is None:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    # Asked after the pidfd was opened: if that process was ours, it is the one that the pidfd stands for.
    if not _is_ours(pid, paths):
        os.close(pidfd)
        return None
    return Keepalived(paths, pid, pidfd, on_exit, None)


def child_pid(paths: Paths) -> int | None:
    """Of the process that speaks VRRP; None while there is none."""
    pid = _read_pid(paths.child_pid)
    return pid if pid is not None and _is_ours(pid, paths) else None


async def wait_child_gone(paths: Paths, timeout_s: float) -> bool:
    """Whether the VRRP process has ended within that time. It outlives its parent for as long as it needs to put things away."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while child_pid(paths) is not None:
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def kill_child(paths: Paths) -> None:
    pid = child_pid(paths)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _read_pid(path: Path) -> int | None:
    try:
        pid = int(path.read_text())
    except (OSError, ValueError):
        return None
    return pid if pid > 1 else None


def _is_ours(pid: int, paths: Paths) -> bool:
    """Whether that process has the effective file as argument. A zombie has no arguments."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return f"--use-file={paths.effective}".encode() in arguments
