"""The traffic log of a configuration: where its lines go, the programs that compose them, and the socket they leave by."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from amphorad.errors import ConfigError
from amphorad.proxy.json_log import JSON_LINE_LIMIT, as_json
from amphorad.proxy.log_format import FACILITIES, LogFormatError, parse
from amphorad.proxy.wire.log_line import LogProgram

if TYPE_CHECKING:
    from amphorad.model import Listener, LoadBalancer
    from amphorad.proxy.settings import Settings

__all__ = ["TrafficLogSocket", "log_path", "log_program"]

ALARM_INTERVAL_S = 60.0
LINE_LIMIT = 1025  # as HAProxy's
_TAG = b"haproxy"  # log pipelines of Octavia deployments select on it (Octavia contract section 4.13)


def log_path(load_balancer: LoadBalancer, settings: Settings) -> str | None:
    """The socket that lines go to; None for no traffic log."""
    if settings.log_socket is not None:
        return settings.log_socket or None
    return load_balancer.log_targets[0].path if load_balancer.log_targets else None


def log_program(load_balancer: LoadBalancer, listener: Listener, settings: Settings) -> LogProgram | None:
    """What composes the listener's lines; None when it logs nothing.

    Raises:
        ConfigError: the listener's log format cannot be carried out.
    """
    if listener.log_format is None or log_path(load_balancer, settings) is None:
        return None
    facility = FACILITIES[load_balancer.log_targets[0].facility] if load_balancer.log_targets else 16
    try:
        segments = parse(listener.log_format)
    except LogFormatError as error:
        raise ConfigError(f"listener {listener.id}: {error}") from error
    room = LINE_LIMIT
    if settings.extras.traffic_log_json:
        segments, room = as_json(segments), JSON_LINE_LIMIT
    return LogProgram(
        segments, facility=facility, tag=_TAG, pid=os.getpid(), host=socket.gethostname().encode(), room=room
    )


class TrafficLogSocket:
    """A datagram socket to the system log that is connected again when the other side was restarted."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._socket: socket.socket | None = None
        self._failed = False
        self._seen_drops = 0
        self._alarmed_at = float("-inf")

    def use(self, path: str | None) -> tuple[int, int]:
        """The descriptor to send to, or -1, and the one used so far that is to be closed later, or -1."""
        replaced = -1
        if path != self._path:
            if self._socket is not None:
                replaced = self._socket.detach()
                self._socket = None
            self._path = path
        if path is not None and self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._connect()
        return self._socket.fileno() if self._socket is not None else -1, replaced

    def look(self, drops: int, now: float) -> list[str]:
        """To be told how many lines were dropped so far: connects again when there are new ones. Returns alarms."""
        if drops == self._seen_drops:
            return []
        self._seen_drops = drops
        alarm = self._connect()
        if alarm is None and now - self._alarmed_at >= ALARM_INTERVAL_S:
            self._alarmed_at = now
            alarm = "traffic log: its reader is too slow"
        return [f"{alarm} ({drops} lines dropped so far)"] if alarm is not None else []

    def _connect(self) -> str | None:
        """Tries to (re)connect. Returns an alarm when that has begun to fail."""
        if self._socket is None or self._path is None:
            return None
        try:
            self._socket.connect(self._path)
        except OSError as error:
            if self._failed:
                return None
            self._failed = True
            return f"traffic log lost: {self._path}: {error.strerror}"
        self._failed = False
        return None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
