"""The data-plane process: engine threads, and a main loop that takes the supervisor's messages and checks the members.

It is started by the supervisor with two inherited descriptors, the control socket and the board. It has no configuration of
its own and opens no listening socket. Once its code is loaded, it waits for the first message before it touches the board, so that
one can be kept ready for the death of another. When the control socket ends, the supervisor is gone: with an adoption
socket and a configuration in force the process goes on serving and waits there for another one (see `amphorad.adoption`); else it ends
too, after the same grace period as for an ordered stop.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import encodings.idna  # noqa: F401  Looked up by name when an address is resolved: files may not be readable, or newer, by then.
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvloop

import amphorad
from amphorad.adoption import AdoptionSocket
from amphorad.board import Board, LastCheck
from amphorad.environment import SUPERVISOR_SIGNALS
from amphorad.errors import ConfigError
from amphorad.extras import Extras
from amphorad.health.monitor import MemberHealth, MonitorSet
from amphorad.health.verdict import CheckResult, CheckStatus, PoolCount, Verdict
from amphorad.messages import (
    VERSION,
    Adoption,
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
    SocketName,
    Stop,
    Survive,
    Transition,
    decode_load_balancer,
)
from amphorad.model import ReusePolicy
from amphorad.namespace_entry import enter
from amphorad.plan import MemberKey
from amphorad.privileges import drop_to, see_read_only, set_name
from amphorad.proxy.admin_log import Severity
from amphorad.proxy.data_plane import DataPlane
from amphorad.proxy.exporter import Exporter
from amphorad.proxy.peers.exchange import PeerExchange
from amphorad.proxy.settings import Settings
from amphorad.status import build_listeners

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amphorad.model import Bind, LoadBalancer

__all__ = ["ControlLoop", "Survival", "main"]

MAINTENANCE_S = 0.1
PULSE_EVERY = 5  # rounds of maintenance
PULSE_AT_LEAST_EVERY = 20  # also when nothing has changed
UNTOLD_LIMIT = 4096  # alarms, and transitions, that wait for a supervisor; the oldest are forgotten
TOLD_LIMIT = 512  # transitions that the next supervisor is told again


@dataclass(frozen=True, slots=True)
class Survival:
    """What a process needs to outlive its supervisor.

    Args:
        socket: where it waits for another one.
        board: descriptor of the board.
        arguments: the command line, without descriptors.
    """

    socket: AdoptionSocket
    board: int
    arguments: tuple[str, ...]


class ControlLoop:
    """Carries the supervisor's messages to the data plane, and its answers back.

    Args:
        plane: started; stopped when `run` returns.
        channel: to the first supervisor.
        grace_s: how long sessions may go on when the supervisor is gone for good.
        local_peer: this machine's name among the peers of a configuration; None: the one whose address it has.
        survival: None: the process ends with its supervisor.
        check_on_failure: a member is checked at once when a connection to it fails.
    """

    def __init__(
        self,
        plane: DataPlane,
        channel: Channel,
        grace_s: float,
        local_peer: str | None = None,
        survival: Survival | None = None,
        *,
        check_on_failure: bool = False,
    ) -> None:
        self._plane = plane
        self._channel = channel
        self._grace_s = grace_s
        self._last_pulse = Pulse(0, 0)
        self._monitors: MonitorSet | None = None
        self._verdicts: dict[tuple[str, str, str], bool] = {}
        # What waits to be told; bounded, because a supervisor may be away, or hang, for long.
        self._transitions: collections.deque[Transition] = collections.deque(maxlen=UNTOLD_LIMIT)
        self._alarms: collections.deque[str] = collections.deque(maxlen=UNTOLD_LIMIT)
        self._told: collections.deque[Transition] = collections.deque(maxlen=TOLD_LIMIT)
        self._local_peer = local_peer
        self._check_on_failure = check_on_failure
        self._peers: PeerExchange | None = None
        self._survival = survival
        self._survive = survival is not None
        self._in_force: Apply | None = None
        self._exporter: Exporter | None = None
        self._exporting: asyncio.Task[None] | None = None
        self._metrics_of: LoadBalancer | None = None

    async def run(self) -> None:
        """Serves until a Stop message, or the end of the control socket unless it survives that, and then until the
        sessions have ended."""
        maintenance = asyncio.create_task(self._maintain(), name="maintenance")
        grace_s = self._grace_s
        self._monitors = monitors = self._start_monitors()
        self._peers = peers = PeerExchange(self._plane.tables, self._alarms.append, self._local_peer)
        try:
            grace_s = await self._obey(self._channel)
        except (Closed, MessageError):
            pass  # the supervisor is gone, or not understood
        finally:
            if self._survival is not None:
                self._survival.socket.close()
            maintenance.cancel()
            await asyncio.gather(maintenance, return_exceptions=True)
            await monitors.close()
            await peers.close()
            if self._exporter is not None:
                await self._exporter.close()
            self._verdicts.clear()
            self._plane.stop(grace_s)  # blocks, and nothing else is left to do

    async def _obey(self, channel: Channel) -> float:
        """One supervisor after the other, until one of them says Stop; returns the grace period.

        Raises:
            Closed: the supervisor is gone, and that ends this process too.
            MessageError.
        """
        while True:
            telling = asyncio.create_task(self._tell(channel), name="telling")
            try:
                return await self._take_commands(channel)
            except Closed:
                if self._survival is None or not self._survive or self._in_force is None:
                    raise
            except MessageError as error:
                self._alarms.append(f"the supervisor is not understood: {error}")
                with contextlib.suppress(Closed):
                    await self._tell_alarms(channel)
                raise
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
                channel.close()
            channel = await self._survival.socket.wait_supervisor(self._offer)

    def _offer(self) -> tuple[Adoption, tuple[int, ...]]:
        """What a new supervisor gets."""
        assert self._in_force is not None
        assert self._survival is not None
        listening = self._plane.listening
        message = Adoption(
            version=VERSION,
            release=amphorad.__version__,
            pid=os.getpid(),
            arguments=self._survival.arguments,
            generation=self._in_force.generation,
            load_balancer=self._in_force.load_balancer,
            transitions=msgspec.Raw(msgspec.json.encode(list(self._told))),
            sockets=tuple(SocketName(listener_id, bind.address, bind.port) for listener_id, bind in listening),
        )
        return message, (self._survival.board, self._survival.socket.fileno(), *listening.values())

    async def _take_commands(self, channel: Channel) -> float:
        await channel.send(Hello(VERSION, os.getpid()))
        while True:
            message = await channel.receive()
            match message:
                case Begin():
                    pass  # the loop would not run without it
                case Apply():
                    await channel.send(self._apply(message, channel))
                case Survive(survive=survive):
                    self._survive = survive
                case Stop(grace_s=grace_s):
                    return grace_s
                case _:
                    raise MessageError(f"unexpected {type(message).__name__}")

    def _apply(self, message: Apply, channel: Channel) -> Receipt:
        started = time.monotonic()
        load_balancer = decode_load_balancer(message.load_balancer)
        refusal = None
        self._export(load_balancer)
        try:
            self._plane.apply(load_balancer, _take_sockets(message, channel), message.files)
            self._in_force = message
            self._metrics_of = load_balancer
            if self._monitors is not None:
                self._monitors.apply(load_balancer, message.files)
            if self._peers is not None:
                self._peers.apply(load_balancer)
        except ConfigError as error:
            refusal = Refusal.of(error)
        self._last_pulse = Pulse(-1, -1)  # the receipt's figures are newer: another pulse must follow, whatever it says
        return Receipt(message.generation, time.monotonic() - started, self._plane.draining(), refusal)

    # --- metrics ---

    def _export(self, load_balancer: LoadBalancer) -> None:
        """Starts what answers PROMETHEUS listeners, once there is one; it stays until the end."""
        if self._exporter is None and any(listener.is_prometheus for listener in load_balancer.listeners):
            self._exporter = Exporter(self._render_metrics)
            self._exporting = asyncio.create_task(self._exporter.start(), name="exporter")
            self._plane.exporter_port = self._exporter.port

    def _render_metrics(self) -> tuple[bytes, str]:
        """In a thread of its own: with thousands of members it takes a while."""
        from amphorad.metrics import CONTENT_TYPE, render_metrics  # most load balancers never need it

        load_balancer = self._metrics_of
        assert load_balancer is not None
        listeners = build_listeners(load_balancer, self._plane.board)
        return render_metrics(load_balancer, listeners, self._plane.dropped_log_lines), CONTENT_TYPE

    # --- health ---

    def _start_monitors(self) -> MonitorSet:
        """What the board says of members is where their monitors go on, after the death of a data plane."""
        known = {MemberKey(*names): up for names, up in self._plane.known_health().items()}
        return MonitorSet(self._on_transition, on_check=self._on_check, alarm=self._alarms.append, initial=known)

    def _on_transition(self, key: MemberKey, verdict: Verdict) -> None:
        """What one round of the event loop finds goes into the tables at its end, and is seen by every thread at its next
        choice of a member: a pool that dies as a whole costs a few new tables, not one per member."""
        if not self._verdicts:
            asyncio.get_running_loop().call_soon(self._carry_out_verdicts)
        self._verdicts[key] = verdict.up
        self._keep_transition(verdict)

    def _keep_transition(self, verdict: Verdict) -> None:
        """For the supervisor and the log targets."""
        pool_line = verdict.pool_log_line
        lines = (verdict.log_line,) if pool_line is None else (verdict.log_line, pool_line)
        reason = verdict.result.text if verdict.result is not None else verdict.reason
        at = time.time()
        self._transitions.append(Transition(*verdict.key, verdict.up, at, reason, lines))
        self._plane.admin_log.write(Severity.NOTICE if verdict.up else Severity.ALERT, verdict.log_line, at)
        if pool_line is not None:
            self._plane.admin_log.write(Severity.EMERG, pool_line, at)

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

    # --- the supervisor is told ---

    async def _tell(self, channel: Channel) -> None:
        """Apart from the maintenance, which does not wait for a supervisor that reads nothing."""
        rounds = 0
        with contextlib.suppress(Closed):
            while True:
                rounds += 1
                await self._tell_alarms(channel)
                await self._tell_transitions(channel)
                if rounds % PULSE_EVERY == 0:
                    await self._pulse(channel, in_any_case=rounds % PULSE_AT_LEAST_EVERY == 0)
                await asyncio.sleep(MAINTENANCE_S)

    async def _tell_alarms(self, channel: Channel) -> None:
        while self._alarms:
            await channel.send(Alarm(self._alarms.popleft()))

    async def _tell_transitions(self, channel: Channel) -> None:
        while self._transitions:
            transition = self._transitions.popleft()
            self._told.append(transition)
            await channel.send(transition)

    async def _maintain(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._plane.maintain(loop.time())
            self._alarms.extend(self._plane.alarms())
            self._tell_ejections()
            for member in self._plane.take_failing():
                if self._check_on_failure and self._monitors is not None:
                    self._monitors.nudge(MemberKey(*member))
            await asyncio.sleep(MAINTENANCE_S)

    def _tell_ejections(self) -> None:
        for ejection, left in self._plane.take_ejections():
            count = PoolCount(*left)
            key = MemberKey(*ejection.member)
            if ejection.is_return:
                verdict = Verdict(key=key, up=True, result=None, count=count, reason=ejection.reason)
            else:
                found = CheckResult(CheckStatus.HANA, None, ejection.reason, -1.0)
                verdict = Verdict(key=key, up=False, result=found, count=count)
            self._keep_transition(verdict)

    async def _pulse(self, channel: Channel, *, in_any_case: bool) -> None:
        peers = self._peers.statistics() if self._peers is not None else ()
        pulse = Pulse(self._plane.sessions(), self._plane.draining(), peers)
        if in_any_case or pulse != self._last_pulse:
            self._last_pulse = pulse
            await channel.send(pulse)


def _take_sockets(message: Apply, channel: Channel) -> dict[tuple[str, Bind], int]:
    """The listening sockets that came with the message.

    Raises:
        ConfigError: some did not arrive, because this process has no room for more descriptors (unix(7), SCM_RIGHTS).
    """
    try:
        descriptors = channel.take_descriptors(len(message.sockets))
    except MessageError as error:
        channel.drop_descriptors()
        raise ConfigError(f"the data plane is out of descriptors: {error}") from error
    return {name.key: descriptor for name, descriptor in zip(message.sockets, descriptors, strict=True)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="amphorad data plane", description="Started by `amphorad serve`, not by hand."
    )
    parser.add_argument("--control", type=int, required=True, help="descriptor of the control socket")
    parser.add_argument("--board", type=int, required=True, help="descriptor of the board")
    parser.add_argument(
        "--adoption", type=int, help="descriptor of the adoption socket; without it, end with the supervisor"
    )
    parser.add_argument("--threads", type=int, required=True, help="engine threads")
    parser.add_argument("--http-reuse", type=ReusePolicy, default=ReusePolicy.RETRY)
    parser.add_argument("--grace", type=float, default=0.0, help="seconds that sessions get when the supervisor dies")
    parser.add_argument("--minimum-body-rate", type=int, default=Settings().minimum_body_rate)
    parser.add_argument("--traffic-log", default=None)
    parser.add_argument("--local-peer", default=None)
    parser.add_argument("--extras", type=Extras.decode, default=Extras(), help="JSON, see amphorad.extras")
    parser.add_argument("--namespace", type=Path, help="network namespace to enter")
    parser.add_argument("--user", help="to become, once nothing needs root any more")
    options = parser.parse_args(arguments)
    options.arguments = _without_descriptors(sys.argv[1:] if arguments is None else arguments)
    options.owner = os.geteuid()  # before it changes

    # The terminal and service managers signal the whole group; when to stop is for the supervisor to say.
    for number in SUPERVISOR_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SUPERVISOR_SIGNALS)  # blocked since before this process began
    try:
        _confine(options.namespace, options.user)
    except (KeyError, OSError) as error:
        print(f"amphorad data plane: {error}", file=sys.stderr)
        return 1
    set_name("amphorad-spare")
    for descriptor in (options.control, options.board, options.adoption):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    control = socket.socket(fileno=options.control)
    if _wait_begin(control):
        set_name("amphorad-data")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options, control))
    control.close()
    return 0


def _without_descriptors(arguments: Sequence[str]) -> list[str]:
    return [argument for argument in arguments if not argument.startswith(("--control=", "--board=", "--adoption="))]


def _confine(namespace: Path | None, user: str | None) -> None:
    """Into the namespace first, because that takes root; all of it while there is one thread."""
    if namespace is not None:
        enter(namespace)
        see_read_only()  # who may enter a namespace may do this too
    if user is not None:
        drop_to(user)


def _wait_begin(control: socket.socket) -> bool:
    """Until the first message has come, which stays unread; False when the supervisor has gone instead."""
    with contextlib.suppress(ConnectionError):
        return bool(control.recv(1, socket.MSG_PEEK))
    return False


async def _serve(options: argparse.Namespace, control: socket.socket) -> None:
    channel = Channel(control)
    board = Board.attach(options.board)
    settings = Settings(
        reuse=options.http_reuse,
        minimum_body_rate=options.minimum_body_rate,
        log_socket=options.traffic_log,
        extras=options.extras,
    )
    plane = DataPlane(board, threads=options.threads, settings=settings)
    try:
        plane.start()
        survival = None
        if options.adoption is not None:
            waiting = AdoptionSocket(socket.socket(fileno=options.adoption), options.owner)
            survival = Survival(waiting, board.fileno(), tuple(options.arguments))
        loop = ControlLoop(
            plane,
            channel,
            options.grace,
            options.local_peer,
            survival,
            check_on_failure=options.extras.check_on_failure,
        )
        await loop.run()
    finally:
        channel.close()  # the board is left to the end of the process: the engine's objects still point into it


if __name__ == "__main__":
    sys.exit(main())
