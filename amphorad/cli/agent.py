"""`amphorad agent`: settings, log and event loop for the process that a controller drives."""

from __future__ import annotations

import asyncio
import contextlib
import logging.handlers
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from amphorad.agent import process
from amphorad.agent.settings import read_settings
from amphorad.cli import logs
from amphorad.cli.arguments import ExitCode
from amphorad.errors import AmphoradError, ConfigError, ListenError
from amphorad.supervisor import AlreadyRunning

if TYPE_CHECKING:
    import argparse

__all__ = ["agent"]

DEFAULT_FILE = Path("/etc/octavia/amphora-agent.conf")


def agent(arguments: argparse.Namespace) -> ExitCode:
    """Runs until a signal ends it."""
    try:
        settings = read_settings(arguments.config_file or [DEFAULT_FILE])
    except ConfigError as error:
        print(f"amphorad: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    facility = logging.handlers.SysLogHandler.LOG_LOCAL0 + (settings.log_facility or 0)
    try:
        logs.set_up(settings.log_target, "debug" if settings.debug else "info", facility, waits=False)
    except OSError as error:
        print(f"amphorad: log target {settings.log_target}: {error.strerror or error}", file=sys.stderr)
        return ExitCode.USAGE
    _raise_descriptor_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            ended_by = runner.run(process.run(settings))
    except AmphoradError as error:
        print(f"amphorad: {error}", file=sys.stderr)
        match error:
            case ListenError():
                return ExitCode.CANNOT_LISTEN
            case AlreadyRunning():
                return ExitCode.ALREADY_RUNNING
            case _:
                return ExitCode.FAILED
    return ExitCode.INTERRUPTED if ended_by is signal.SIGINT else ExitCode.OK


def _raise_descriptor_limit() -> None:
    """Data planes inherit it, and a session takes two descriptors."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
