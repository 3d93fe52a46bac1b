"""Where log lines go: standard error, the system log, or a file that may be rotated."""

from __future__ import annotations

import logging
import logging.handlers

__all__ = ["set_up"]

_LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"


def set_up(target: str, level: str, facility: int = logging.handlers.SysLogHandler.LOG_DAEMON) -> None:
    """Sends the log of this process to `stderr`, `syslog` (/dev/log, with that facility) or the file of that name.

    Raises:
        OSError: the target cannot be opened.
    """
    handler: logging.Handler
    if target == "stderr":
        handler = logging.StreamHandler()
    elif target == "syslog":
        handler = logging.handlers.SysLogHandler(address="/dev/log", facility=facility)
        handler.ident = "amphorad: "
    else:
        handler = logging.handlers.WatchedFileHandler(target)  # notices when the file is rotated away
    handler.setFormatter(logging.Formatter("%(name)s %(message)s" if target == "syslog" else _LINE))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
