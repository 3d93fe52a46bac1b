"""The data-plane process: engine threads, and a main loop that takes the supervisor's messages and checks the members.

It is started by the supervisor with two inherited descriptors, the control socket and the board. It has no configuration of
its own and opens no listening socket. Once its code is loaded, it waits for the first message before it touches the board, so that
one can be kept ready for the death of another. When the control socket ends, the supervisor is gone, and the process ends
too, after the same grace period as for an ordered stop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from amphorad.board import Board, LastCheck
from amphorad.environment import SUPERVISOR_SIGNALS
from amphorad.errors import ConfigError
from amphorad.health.monitor import MemberHealth, MonitorSet
from amphorad.messages import (
    VERSION,
    Alarm,
    Apply,
    Begin,
    Channel,
    Closed,
    Hello,
    MessageError,
    Pulse,
    Receipt,
    Refusal,
    Stop,
    Transition,
    decode_load_balancer,
)
from amphorad.model import ReusePolicy
from amphorad.plan import MemberKey
from amphorad.proxy.data_plane import DataPlane, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amphorad.health.verdict import Verdict
    from amphorad.model import Bind

__all__ = ["ControlLoop", "main"]

MAINTENANCE_S = 0.1
PULSE_EVERY = 5  # rounds of maintenance
PULSE_AT_LEAST_EVERY = 20  # also when nothing has changed


class ControlLoop:
    """Carries the supervisor's messages to the data plane, and its answers back.

    Args:
        plane: started; stopped when `run` returns.
        grace_s: how long sessions may go on when the supervisor is gone.
    """

    def __init__(self, plane: DataPlane, channel: Channel, grace_s: float) -> None:
        self._plane = plane
        self._channel = channel
        self._grace_s = grace_s
        self._last_pulse = Pulse(0, 0)
        self._monitors: MonitorSet | None = None
        self._verdicts: dict[tuple[str, str, str], bool] = {}
        self._transitions: list[Transition] = []
        self._health_alarms: list[str] = []

    async def run(self) -> None:
        """Serves until a Stop message or the end of the control socket, and then until the sessions have ended."""
        maintenance = asyncio.create_task(self._maintain(), name="maintenance")
        grace_s = self._grace_s
        self._monitors = monitors = self._start_monitors()
        try:
            await self._channel.send(Hello(VERSION, os.getpid()))
            grace_s = await self._take_commands()
        except Closed:
            pass  # the supervisor is gone
        except MessageError as error:
            with contextlib.suppress(Closed):
                await self._channel.send(Alarm(f"the supervisor is not understood: {error}"))
        finally:
            maintenance.cancel()
            await asyncio.gather(maintenance, return_exceptions=True)
            await monitors.close()
            self._verdicts.clear()
            self._plane.stop(grace_s)  # blocks, and nothing else is left to do

    async def _take_commands(self) -> float:
        while True:
            message = await self._channel.receive()
            match message:
                case Begin():
                    pass  # the loop would not run without it
                case Apply():
                    await self._channel.send(self._apply(message))
                case Stop(grace_s=grace_s):
                    return grace_s
                case _:
                    raise MessageError(f"unexpected {type(message).__name__}")

    def _apply(self, message: Apply) -> Receipt:
        started = time.monotonic()
        load_balancer = decode_load_balancer(message.load_balancer)
        refusal = None
        try:
            self._plane.apply(load_balancer, self._take_sockets(message), message.files)
            if self._monitors is not None:
                self._monitors.apply(load_balancer)
        except ConfigError as error:
            refusal = Refusal.of(error)
        self._last_pulse = Pulse(-1, -1)  # the receipt's figures are newer: another pulse must follow, whatever it says
        return Receipt(message.generation, time.monotonic() - started, self._plane.draining(), refusal)

    def _take_sockets(self, message: Apply) -> dict[tuple[str, Bind], int]:
        """The listening sockets that came with the message.

        Raises:
            ConfigError: some did not arrive, because this process has no room for more descriptors (unix(7), SCM_RIGHTS).
        """
        try:
            descriptors = self._channel.take_descriptors(len(message.sockets))
        except MessageError as error:
            self._channel.drop_descriptors()
            raise ConfigError(f"the data plane is out of descriptors: {error}") from error
        return {name.key: descriptor for name, descriptor in zip(message.sockets, descriptors, strict=True)}

    # --- health ---

    def _start_monitors(self) -> MonitorSet:
        """What the board says of members is where their monitors go on, after the death of a data plane."""
        known = {MemberKey(*names): up for names, up in self._plane.known_health().items()}
        return MonitorSet(self._on_transition, on_check=self._on_check, alarm=self._health_alarms.append, initial=known)

    def _on_transition(self, key: MemberKey, verdict: Verdict) -> None:
        """What one round of the event loop finds goes into the tables at its end, and is seen by every thread at its next
        choice of a member: a pool that dies as a whole costs a few new tables, not one per member."""
        if not self._verdicts:
            asyncio.get_running_loop().call_soon(self._carry_out_verdicts)
        self._verdicts[key] = verdict.up
        pool_line = verdict.pool_log_line
        lines = (verdict.log_line,) if pool_line is None else (verdict.log_line, pool_line)
        reason = verdict.result.text if verdict.result is not None else verdict.reason
        self._transitions.append(Transition(*key, verdict.up, time.time(), reason, lines))

    def _carry_out_verdicts(self) -> None:
        verdicts, self._verdicts = self._verdicts, {}
        if verdicts:
            self._plane.set_members_up(verdicts)

    def _on_check(self, key: MemberKey, health: MemberHealth) -> None:
        last = health.last
        if last is None:
            return
        check = LastCheck(
            state=health.state,
            code=last.status.code,
            text=last.status.text,
            info=last.info,
            status=-1 if last.code is None else last.code,
            duration_s=last.duration_s,
            since=health.since,
            checked_at=health.checked_at,
            checks=health.checks,
            failures=health.failures,
            transitions=health.transitions,
        )
        self._plane.show_check(*key, check)

    async def _tell_transitions(self) -> None:
        transitions, self._transitions = self._transitions, []
        for transition in transitions:
            await self._channel.send(transition)
        while self._health_alarms:
            await self._channel.send(Alarm(self._health_alarms.pop(0)))

    async def _maintain(self) -> None:
        loop = asyncio.get_running_loop()
        rounds = 0
        while True:
            self._plane.maintain(loop.time())
            rounds += 1
            with contextlib.suppress(Closed):
                for text in self._plane.alarms():
                    await self._channel.send(Alarm(text))
                await self._tell_transitions()
                if rounds % PULSE_EVERY == 0:
                    await self._pulse(in_any_case=rounds % PULSE_AT_LEAST_EVERY == 0)
            await asyncio.sleep(MAINTENANCE_S)

    async def _pulse(self, *, in_any_case: bool) -> None:
        pulse = Pulse(self._plane.sessions(), self._plane.draining())
        if in_any_case or pulse != self._last_pulse:
            self._last_pulse = pulse
            await self._channel.send(pulse)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="amphorad data plane", description="Started by `amphorad serve`, not by hand."
    )
    parser.add_argument("--control", type=int, required=True, help="descriptor of the control socket")
    parser.add_argument("--board", type=int, required=True, help="descriptor of the board")
    parser.add_argument("--threads", type=int, required=True, help="engine threads")
    parser.add_argument("--http-reuse", type=ReusePolicy, default=ReusePolicy.RETRY)
    parser.add_argument("--grace", type=float, default=0.0, help="seconds that sessions get when the supervisor dies")
    parser.add_argument("--minimum-body-rate", type=int, default=Settings().minimum_body_rate)
    parser.add_argument("--traffic-log", default=None)
    options = parser.parse_args(arguments)

    # The terminal and service managers signal the whole group; when to stop is for the supervisor to say.
    for number in SUPERVISOR_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISOR_SIGNALS)  # blocked since before this process began
    _call_myself("amphorad-spare")
    for descriptor in (options.control, options.board):
        os.set_inheritable(descriptor, False)
    control = socket.socket(fileno=options.control)
    if _wait_begin(control):
        _call_myself("amphorad-data")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, control))
    control.close()
    return 0


def _call_myself(name: str) -> None:
    """Names the process for ps(1): at most 15 bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _wait_begin(control: socket.socket) -> bool:
    """Until the first message has come, which stays unread; False when the supervisor has gone instead."""
    with contextlib.suppress(ConnectionError):
        return bool(control.recv(1, socket.MSG_PEEK))
    return False


async def _serve(options: argparse.Namespace, control: socket.socket) -> None:
    channel = Channel(control)
    board = Board.attach(options.board)
    settings = Settings(
        reuse=options.http_reuse, minimum_body_rate=options.minimum_body_rate, log_socket=options.traffic_log
    )
    plane = DataPlane(board, threads=options.threads, settings=settings)
    try:
        plane.start()
        await ControlLoop(plane, channel, options.grace).run()
    finally:
        channel.close()  # the board is left to the end of the process: the engine's objects still point into it


if __name__ == "__main__":
    sys.exit(main())
