"""Where log lines go: standard error, the system log, or a file that may be rotated."""

from __future__ import annotations

import atexit
import contextlib
import logging
import logging.handlers
import os
import queue

__all__ = ["set_up"]

_LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"
_QUEUED = 10000  # lines that wait for a slow target; more are dropped
_FLUSH_S = 2.0  # at the end, for what still waits


def set_up(
    target: str, level: str, facility: int = logging.handlers.SysLogHandler.LOG_DAEMON, *, waits: bool = True
) -> None:
    """Sends the log of this process to `stderr`, `syslog` (/dev/log, with that facility) or the file of that name.

    Args:
        waits: a line is written before the program goes on. Otherwise a thread writes, so a log daemon that takes nothing holds
            nobody up; lines beyond a limit are dropped then, and the next one that finds its place says how many.

    Raises:
        OSError: the target cannot be opened.
    """
    handler: logging.Handler
    if target == "stderr":
        handler = _StandardError()
    elif target == "syslog":
        handler = logging.handlers.SysLogHandler(address="/dev/log", facility=facility)
        handler.ident = "amphorad: "
    else:
        handler = logging.handlers.WatchedFileHandler(target)  # notices when the file is rotated away
    handler.setFormatter(logging.Formatter("%(name)s %(message)s" if target == "syslog" else _LINE))
    if not waits:
        waiting = _Waiting()
        listener = _Listener(waiting.queue, handler)
        listener.start()
        atexit.register(listener.flush, waiting)
        handler = waiting
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _StandardError(logging.Handler):
    """Writes without a buffer, whose lock a thread that is stuck would keep until the end of the process, and prevent that."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            while line:
                line = line[os.write(2, line) :]
        except Exception:  # as every handler of the logging package: a line must not end a program
            self.handleError(record)


class _Waiting(logging.handlers.QueueHandler):
    """Puts lines into a bounded queue, and never waits for a place in it."""

    def __init__(self) -> None:
        self.queue: queue.Queue[logging.LogRecord | None]
        super().__init__(queue.Queue(_QUEUED))
        self.setFormatter(logging.Formatter("%(message)s"))  # the handler behind it adds the rest
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.confess(0.0)
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def confess(self, wait_s: float) -> None:
        """Says how many lines were dropped, if any.

        Raises:
            queue.Full: there is no place for that either.
        """
        if self._dropped:
            text = f"log lines dropped because the target took none count={self._dropped}"
            record = logging.makeLogRecord({"name": __name__, "levelname": "ERROR", "msg": text})
            self.queue.put(record, block=wait_s > 0, timeout=wait_s)
            self._dropped = 0


class _Listener(logging.handlers.QueueListener):
    def flush(self, waiting: _Waiting) -> None:
        """Ends the thread when everything is written, or after a while: a stuck target must not keep the process."""
        with contextlib.suppress(queue.Full):
            waiting.confess(_FLUSH_S)
            waiting.queue.put(None, timeout=_FLUSH_S)  # what the listener's thread takes for the end
        if self._thread is not None:
            self._thread.join(_FLUSH_S)
            if self._thread.is_alive():
                for handler in self.handlers:
                    handler.createLock()  # the thread keeps the old one, and the logging package wants to close the handler
