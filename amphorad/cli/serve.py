"""`amphorad serve`: the supervisor in the foreground, and what signals do to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import sys
from typing import TYPE_CHECKING

import uvloop

from amphorad.admin import Refused
from amphorad.cli import logs
from amphorad.cli.arguments import ExitCode, default_state_dir, extras_of
from amphorad.cli.files import read_file
from amphorad.dialects.haproxy import Escaping
from amphorad.errors import AmphoradError, ConfigError, ListenError
from amphorad.supervisor import AlreadyRunning, Options, Supervisor
from amphorad.vrrp.health import HealthFiles
from amphorad.vrrp.paths import Paths

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["serve"]

log = logging.getLogger(__name__)

TAKEOVER_S = 0.3  # for the other node of a pair, before this one accepts nothing more


def serve(arguments: argparse.Namespace) -> ExitCode:
    """Runs until a signal ends it."""
    try:
        logs.set_up(arguments.log_target, arguments.log_level)
    except OSError as error:
        print(f"amphorad: log target {arguments.log_target}: {error.strerror or error}", file=sys.stderr)
        return ExitCode.USAGE
    _raise_descriptor_limit()
    state_dir = arguments.state_dir or default_state_dir()
    options = Options(
        file=arguments.file,
        threads=arguments.threads,
        state_dir=state_dir,
        admin_socket=arguments.admin_socket or state_dir / "admin.sock",
        grace_s=arguments.grace,
        reuse=arguments.http_reuse,
        escaping=Escaping(arguments.escaping),
        algorithms=tuple(arguments.algorithm),
        minimum_body_rate=arguments.minimum_body_rate,
        extras=extras_of(arguments),
        traffic_log=arguments.traffic_log,
        free_bind=arguments.free_bind,
        local_peer=arguments.local_peer,
        survive=arguments.survive,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(Supervisor(options, read_file), state_dir if arguments.vrrp else None))


def _raise_descriptor_limit() -> None:
    """A session takes two descriptors, and the usual soft limit is 1024; the data plane inherits it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(supervisor: Supervisor, vrrp_dir: Path | None) -> ExitCode:
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    code = ExitCode.OK
    try:
        if await _start(supervisor, signals):
            async with _told_to_keepalived(supervisor, vrrp_dir):
                print(supervisor.ready_line, flush=True)
                await _obey(supervisor, signals)
    except AmphoradError as error:
        code = _report(error)
    await _stop(supervisor, signals, at_once=code is not ExitCode.OK)
    return code


@contextlib.asynccontextmanager
async def _told_to_keepalived(supervisor: Supervisor, state_dir: Path | None) -> AsyncIterator[None]:
    """Inside, a keepalived knows whether this node can serve; afterwards, that it cannot, and the other node has taken over."""
    if state_dir is None:
        yield
        return
    health = HealthFiles(
        Paths(state_dir, state_dir),
        lambda: supervisor.is_serving,
        lambda: [pid for pid in (supervisor.data_plane_pid,) if pid],
    )
    try:
        health.prepare()
    except OSError as error:
        raise AmphoradError(f"health for keepalived in {state_dir}: {error.strerror}") from error
    looking = asyncio.create_task(health.run(), name="vrrp health")
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        with contextlib.suppress(OSError):
            health.resign()
        await asyncio.sleep(TAKEOVER_S)


async def _start(supervisor: Supervisor, signals: asyncio.Queue[signal.Signals]) -> bool:
    """False when a signal came before it had started."""
    starting = asyncio.create_task(supervisor.start(), name="start")
    ended = asyncio.create_task(_wait_end_signal(signals), name="signals")
    await asyncio.wait((starting, ended), return_when=asyncio.FIRST_COMPLETED)
    for task in (starting, ended):
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if starting.cancelled():
        return False
    starting.result()
    return not (ended.done() and not ended.cancelled())


async def _wait_end_signal(signals: asyncio.Queue[signal.Signals]) -> None:
    while await signals.get() is signal.SIGHUP:
        pass


async def _obey(supervisor: Supervisor, signals: asyncio.Queue[signal.Signals]) -> None:
    """Until the first signal that ends."""
    while (number := await signals.get()) is signal.SIGHUP:
        try:
            receipt = await supervisor.reread()
        except AmphoradError as error:
            for reason in _reasons(error):
                log.error("file refused, the running configuration stays reason=%s", reason)
        else:
            log.info("file applied generation=%d changes=%s", receipt.generation, receipt.summary)
    log.info("stopping on signal=%s", number.name)


async def _stop(supervisor: Supervisor, signals: asyncio.Queue[signal.Signals], *, at_once: bool) -> None:
    """Gracefully; a second signal ends the grace period."""
    stopping = asyncio.create_task(supervisor.stop(0.0 if at_once else None), name="stop")
    impatient = asyncio.create_task(_wait_end_signal(signals), name="signals")
    await asyncio.wait((stopping, impatient), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        await supervisor.hurry()
    await stopping
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)


def _reasons(error: AmphoradError) -> list[str]:
    return [str(inner) for inner in error.errors] if isinstance(error, Refused) else [str(error)]


def _report(error: AmphoradError) -> ExitCode:
    for reason in _reasons(error):
        print(f"amphorad: {reason}", file=sys.stderr)
    match error:
        case Refused() | ConfigError():
            return ExitCode.REFUSED
        case ListenError():
            return ExitCode.CANNOT_LISTEN
        case AlreadyRunning():
            return ExitCode.ALREADY_RUNNING
        case _:
            return ExitCode.FAILED
