"""What systemd is told of this process: ready, alive, stopping, and one line of text.

Datagrams to the socket that NOTIFY_SOCKET names, a protocol of a few lines (sd_notify(3), systemd.service(5) Type=notify and
WatchdogSec=). Without that variable nothing is sent, so the same program runs under anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["ServiceManager"]

log = logging.getLogger(__name__)

LATE_AFTER: Final = 0.5  # of the watchdog's period: what is said twice per period is never late by accident


class ServiceManager:
    """Tells the service manager. Sending never blocks and never raises: a service manager in trouble must not stop the service.

    Args:
        environment: its NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read and removed, so that no child takes them for its own.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        path = environment.pop("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract address (unix(7)).
        self._address = "\0" + path[1:] if path.startswith("@") else path
        period_us = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        is_watched = bool(self._address) and period_us.isdecimal() and pid == str(os.getpid())
        self.watchdog_s: float | None = int(period_us) / 1e6 if is_watched and int(period_us) > 0 else None

    def ready(self, text: str) -> None:
        """Everything serves; `text` is the line that `systemctl status` shows."""
        self._send(f"READY=1\nSTATUS={text}")

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=stopping")

    def reloading(self) -> None:
        """Settings are read again; `ready` follows. Needed with Type=notify-reload only, and right with Type=notify too."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    async def run_watchdog(self) -> None:
        """Says for ever that this process is alive. It runs in the event loop on purpose: when that hangs, nobody says it."""
        if self.watchdog_s is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s * LATE_AFTER)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with contextlib.closing(socket.socket(socket.AF_UNIX, kind)) as sending:
            try:
                sending.sendto(text.encode(), self._address)
            except OSError as error:
                log.warning("service manager not told text=%r error=%s", text, error)
