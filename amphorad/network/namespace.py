"""The data plane's network namespace: made when it is missing, tuned, and programs run in it.

Source: Octavia contract sections 6.2 and 6.3.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from amphorad.network.errors import PlugFailed

if TYPE_CHECKING:
    from amphorad.network.netlink import Netlink

__all__ = ["DIRECTORY", "ensure_namespace", "namespace_path", "run_program", "tune"]

log = logging.getLogger(__name__)

DIRECTORY = Path("/run/netns")
PROGRAM_LIMIT_S = 20.0

# Values of a namespace; those of the whole machine are the image's business (images/elements/amphorad).
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/ip_nonlocal_bind": "1",
    "net/ipv6/ip_nonlocal_bind": "1",
    "net/ipv4/tcp_max_syn_backlog": "100000",
    "net/ipv4/tcp_keepalive_time": "300",
    "net/ipv4/tcp_tw_reuse": "1",
    "net/ipv4/tcp_synack_retries": "3",
    "net/ipv4/tcp_mtu_probing": "1",
    "net/ipv4/tcp_fin_timeout": "5",
    "net/ipv4/tcp_rmem": "4096 87380 33554432",
    "net/ipv4/tcp_wmem": "4096 87380 33554432",
    "net/ipv4/ip_local_port_range": "1027 65534",
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/core/somaxconn": "65534",
    "net/ipv4/vs/conntrack": "1",
    "net/ipv4/vs/expire_nodest_conn": "1",
    "net/ipv4/vs/expire_quiescent_template": "1",
}


def namespace_path(name: str) -> Path:
    return DIRECTORY / name


async def run_program(*command: str, stdin: bytes = b"") -> str:
    """Runs a program for at most PROGRAM_LIMIT_S seconds; gives what it printed.

    Raises:
        OSError: it is not there.
        RuntimeError: it failed, with what it said; or it took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, said = await asyncio.wait_for(process.communicate(stdin), PROGRAM_LIMIT_S)
    except TimeoutError:
        raise RuntimeError(f"{command[0]} did not end within {PROGRAM_LIMIT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"{command[0]}: {said.decode(errors='replace').strip() or process.returncode}")
    return out.decode(errors="replace")


async def ensure_namespace(name: str) -> bool:
    """Makes the namespace if it is missing; True when it did.

    Raises:
        PlugFailed: it cannot be made.
    """
    if namespace_path(name).exists():
        return False
    try:
        await run_program("ip", "netns", "add", name)
    except (OSError, RuntimeError) as error:
        if namespace_path(name).exists():  # someone else was quicker
            return False
        raise PlugFailed("Error plugging network", f"namespace {name}: {error}") from error
    log.info("namespace made name=%s", name)
    return True


async def tune(namespace: Netlink) -> None:
    """Sets what a load balancer needs of the namespace; what the kernel does not have, or does not let change, stays."""

    async def write(_netlink: object) -> list[str]:
        refused = []
        for name, value in SYSCTLS.items():
            try:
                Path("/proc/sys", name).write_text(value)  # noqa: ASYNC240 - at once, and of this thread's namespace
            except OSError as error:
                refused.append(f"{name}: {error.strerror}")
        return refused

    refused = await namespace.run(write)
    if refused:
        log.debug("kernel settings that stay as they are: %s", "; ".join(refused))
