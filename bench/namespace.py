"""A network namespace of our own for a run: known congestion control, all ports free, nobody else's traffic.

Large bodies behave differently under BBR (pacing), and an amphora image uses cubic, so the congestion control is part of the
method. It can only be set for the whole namespace, and changing the machine's own default is not ours to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["congestion_control", "enter"]

_MARK = "AMPHORAD_BENCH_NETNS"
_IPV4 = Path("/proc/sys/net/ipv4")


def congestion_control() -> str:
    """The congestion control new sockets get here."""
    return (_IPV4 / "tcp_congestion_control").read_text().strip()


def enter(module: str, arguments: Sequence[str], congestion: str) -> str | None:
    """Restart this program inside a new network namespace, or set up the one it was restarted in.

    Args:
        module: module to run again with `python -m`.
        arguments: its command line.
        congestion: congestion control wanted, for example cubic or reno.

    Returns:
        None when inside and set up, else the reason why the run goes on without a namespace. Does not return when the
        restart works: the process is replaced.
    """
    if os.environ.get(_MARK):
        return _set_up(congestion)
    tool = shutil.which("unshare")
    if tool is None:
        return "unshare(1) is missing"
    # without root, a user namespace gives the right to set up the network namespace where the kernel allows it; the user id stays
    # as it is, because a program that believes to be root (nginx) would try to change it
    user = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    command = [tool, *user, "--net"]
    if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        return "a network namespace cannot be created (not root)"
    environment = {**os.environ, _MARK: "1"}
    os.execve(tool, [*command, "--", sys.executable, "-m", module, *arguments], environment)


def _set_up(congestion: str) -> str | None:
    done = subprocess.run(["ip", "link", "set", "lo", "up"], capture_output=True, text=True)
    if done.returncode != 0:
        return f"loopback cannot be brought up: {done.stderr.strip()}"
    try:
        (_IPV4 / "ip_local_port_range").write_text("10240 65000")
    except OSError as error:
        return f"the port range cannot be set: {error.strerror}"
    # outside the first namespace the kernel takes only what tcp_allowed_congestion_control lists; reno is always there, and
    # like cubic it does not pace
    for name in (congestion, "reno"):
        try:
            (_IPV4 / "tcp_congestion_control").write_text(name)
        except OSError:
            continue
        return None
    return f"congestion control {congestion} cannot be set"
