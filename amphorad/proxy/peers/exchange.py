"""Connections between peers: one listens, both connect, the newer connection of two wins (as in HAProxy).

A connection that breaks is made again after a pause of 0.05 to 2 s, one that cannot be made after 5 s. Silence of
DEAD_AFTER_S ends it; a heartbeat is due every HEARTBEAT_S. Whoever connects without speaking the protocol is answered with its
status and closed; at most STRANGERS may be in their handshake at once, for HANDSHAKE_S. Alarms of one kind come once a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import random
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amphorad.messages import PeerNews
from amphorad.proxy.peers import wire
from amphorad.proxy.peers.session import HEARTBEAT, PeerMemory, PeerSession, SharedTable
from amphorad.proxy.peers.wire import PeerError
from amphorad.stick_tables import now_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from amphorad.model import LoadBalancer, Peer
    from amphorad.proxy.engine.stick_table import Table
    from amphorad.stick_tables import TableSpace

__all__ = ["PeerExchange"]

log = logging.getLogger(__name__)

POLL_S = 0.05
HEARTBEAT_S = 3.0
DEAD_AFTER_S = 10.0
HANDSHAKE_S = 5.0
RECONNECT_S = 5.0
LISTEN_AGAIN_S = 0.2
LISTEN_TRIES = 10  # before it is an alarm
STRANGERS = 16
ALARM_EVERY_S = 60.0
READ_BYTES = 65536


class PeerExchange:
    """Shares stick tables with the peers of a configuration. Made in a running event loop; `close` ends it.

    Args:
        tables: of the data plane.
        alarm: takes texts for the operator.
        local: this peer's name; None finds it as the one whose address this machine has.
    """

    def __init__(self, tables: TableSpace[Table], alarm: Callable[[str], None], local: str | None = None) -> None:
        self._space = tables
        self._alarm = alarm
        self._local_name = local
        self._local: Peer | None = None
        self._peers: tuple[Peer, ...] = ()
        self._tables: list[SharedTable] = []
        self._memories: dict[str, PeerMemory] = {}
        self._links: dict[str, _Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._strangers = 0
        self._alarmed: dict[str, float] = {}
        self._missed: dict[str, int] = {}
        self._histories: dict[str, _History] = {}
        self._is_listening = False

    def apply(self, load_balancer: LoadBalancer) -> None:
        """From now on these peers and tables. What has not changed stays connected."""
        tables = self._shared(load_balancer)
        same = [(each.name, each.table) for each in tables] == [(each.name, each.table) for each in self._tables]
        if load_balancer.peers == self._peers and same:
            for old, new in zip(self._tables, tables, strict=True):
                old.set_members(new.members)
            return
        for each in self._tables:
            each.table.set_announces(False)
        self._tables = tables
        self._memories = {peer.name: PeerMemory() for peer in load_balancer.peers}
        if load_balancer.peers != self._peers:
            self._peers = load_balancer.peers
            self._histories = {peer.name: _History() for peer in self._peers}
            self._local = self._find_local()
            self._start(self._begin(self._stop()), "peers")
        for each in tables:
            each.table.set_announces(self._local is not None)
        for link in self._links.values():
            link.close()  # it knows the tables before; another one follows soon

    async def _begin(self, ended: list[asyncio.Task[None]]) -> None:
        """Once the tasks for the peers before have ended: listens and connects."""
        await asyncio.gather(*ended, return_exceptions=True)
        if self._local is None:
            return
        self._start(self._listen(self._local), "peers listener")
        for peer in self._peers:
            if peer is not self._local:
                self._start(self._keep_connected(peer), f"peer {peer.name}")

    def statistics(self) -> tuple[PeerNews, ...]:
        """What there is to know of each peer, in the order of the file."""
        return tuple(self._news(peer) for peer in self._peers)

    def _news(self, peer: Peer) -> PeerNews:
        history = self._histories[peer.name]
        link = self._links.get(peer.name)
        return PeerNews(
            peer.name,
            peer.address,
            peer.port,
            is_local=peer is self._local,
            is_connected=self._is_listening if peer is self._local else link is not None,
            since=history.since,
            connects=history.connects,
            learned=history.learned + (link.session.learned if link is not None else 0),
            told=history.told + (link.session.told if link is not None else 0),
        )

    async def close(self) -> None:
        tasks = self._stop()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _shared(self, load_balancer: LoadBalancer) -> list[SharedTable]:
        known = {each.name: each for each in self._tables}
        shared = []
        for listener in load_balancer.listeners:
            for pool in listener.pools:
                if getattr(pool.persistence, "replicated", False) and (listener.id, pool.id) in self._space:
                    name = f"{pool.id}:{listener.id}"
                    table = self._space.table((listener.id, pool.id))
                    members = tuple(member.id for member in pool.members)
                    old = known.get(name)
                    shared.append(SharedTable(name, table, members, old._places if old and old.table is table else {}))
        return shared

    def _find_local(self) -> Peer | None:
        if not self._peers:
            return None
        if self._local_name is not None:
            found = next((peer for peer in self._peers if peer.name == self._local_name), None)
        else:
            found = next((peer for peer in self._peers if _is_own_address(peer.address)), None)
        if found is None:
            self._report("local", "stick tables are not shared: no peer of the configuration is this machine")
        return found

    # --- tasks ---

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stop(self) -> list[asyncio.Task[None]]:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for link in self._links.values():
            link.close()
        self._links = {}
        return tasks

    def _report(self, kind: str, text: str) -> None:
        now = time.monotonic()
        if now - self._alarmed.get(kind, -ALARM_EVERY_S) < ALARM_EVERY_S:
            self._missed[kind] = self._missed.get(kind, 0) + 1
            return
        missed = self._missed.pop(kind, 0)
        self._alarmed[kind] = now
        self._alarm(f"{text} (and {missed} more before)" if missed else text)

    async def _listen(self, local: Peer) -> None:
        """A data plane that this one replaces may still listen for a moment; only what lasts is an alarm."""
        tries = 0
        while True:
            try:
                server = await asyncio.start_server(
                    self._accept, local.address, local.port, reuse_address=True, backlog=STRANGERS
                )
            except OSError as error:
                tries += 1
                if tries >= LISTEN_TRIES:
                    self._report(
                        "listen", f"peers: cannot listen at {local.address} port {local.port}: {error.strerror}"
                    )
                await asyncio.sleep(RECONNECT_S if tries >= LISTEN_TRIES else LISTEN_AGAIN_S)
                continue
            self._note_listening(local, True)
            try:
                async with server:
                    await server.serve_forever()
            finally:
                self._note_listening(local, False)

    def _note_listening(self, local: Peer, is_listening: bool) -> None:
        self._is_listening = is_listening
        history = self._histories.get(local.name)
        if history is not None:
            history.since = time.time()

    async def _keep_connected(self, peer: Peer) -> None:
        while True:
            pause = RECONNECT_S
            if peer.name not in self._links:
                try:
                    await self._call(peer)
                    pause = random.uniform(0.05, 2.0)
                except PeerError as error:
                    self._report(f"peer {peer.name}", f"peer {peer.name}: {error}")
                except (OSError, TimeoutError, EOFError):
                    pass  # not there, or gone: nothing to tell, it may be rebooting
            await asyncio.sleep(pause)

    async def _call(self, peer: Peer) -> None:
        """Connects, and serves the connection to its end.

        Raises:
            PeerError, OSError, EOFError, TimeoutError.
        """
        assert self._local is not None
        async with asyncio.timeout(HANDSHAKE_S):
            reader, writer = await asyncio.open_connection(peer.address, peer.port)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                writer.write(wire.encode_hello(self._local.name, peer.name, os.getpid()))
                status = await reader.readuntil(b"\n")
            if status.strip() != b"200":
                raise PeerError(f"refuses with status {status.strip()[:20].decode(errors='replace')}")
            await self._serve(peer.name, reader, writer)
        except asyncio.LimitOverrunError as error:
            raise PeerError("no status in its answer") from error
        finally:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = writer.get_extra_info("peername")
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if self._strangers >= STRANGERS:
                return
            self._strangers += 1
            try:
                async with asyncio.timeout(HANDSHAKE_S):
                    name, rest = await self._take_hello(reader)
            finally:
                self._strangers -= 1
            writer.write(b"%d\n" % wire.STATUS_OK)
            await self._serve(name, reader, writer, rest)
        except PeerError as error:
            with contextlib.suppress(OSError):
                writer.write(b"%d\n" % error.status)
            self._report("stranger", f"peers: connection from {source and source[0]} closed: {error}")
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            writer.close()

    async def _take_hello(self, reader: asyncio.StreamReader) -> tuple[str, bytes]:
        data = bytearray()
        while (found := wire.decode_hello(data)) is None:
            part = await reader.read(wire.HELLO_LIMIT)
            if not part:
                raise EOFError
            data += part
        hello, length = found
        if self._local is None or hello.called != self._local.name:
            raise PeerError(f"asks for peer {hello.called!r:.80}", wire.STATUS_HOST)
        if hello.caller not in self._memories:
            raise PeerError(f"unknown peer {hello.caller!r:.80}", wire.STATUS_PEER)
        return hello.caller, bytes(data[length:])

    async def _serve(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b""
    ) -> None:
        """The connection from its handshake to its end.

        Raises:
            PeerError, OSError, EOFError, TimeoutError.
        """
        replaced = self._links.pop(name, None)
        if replaced is not None:
            replaced.close()
        session = PeerSession(self._tables, self._memories[name])
        link = self._links[name] = _Link(session, reader, writer)
        history = self._histories.setdefault(name, _History())
        history.connects += 1
        if replaced is None:
            history.since = time.time()
        log.info("peer connected name=%s", name)
        try:
            await link.run(first)
        finally:
            session.close()
            history.learned += session.learned
            history.told += session.told
            if self._links.get(name) is link:
                del self._links[name]
                history.since = time.time()
            log.info("peer gone name=%s learned=%d told=%d", name, session.learned, session.told)


@dataclass(slots=True)
class _History:
    """What outlives the connections to a peer; `learned` and `told` are those of ended ones."""

    since: float = 0.0
    connects: int = 0
    learned: int = 0
    told: int = 0


class _Link:
    """A connection whose handshake is done."""

    def __init__(self, session: PeerSession, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.session = session
        self._reader = reader
        self._writer = writer

    def close(self) -> None:
        self.session.close()
        self._writer.close()

    async def run(self, first: bytes) -> None:
        self._writer.write(self.session.begin())
        sender = asyncio.create_task(self._send(), name="peer sender")
        try:
            data = first
            while True:
                if data:
                    self._writer.write(self.session.receive(data, now_ms()))
                    await self._writer.drain()
                async with asyncio.timeout(DEAD_AFTER_S):
                    data = await self._reader.read(READ_BYTES)
                if not data:
                    raise EOFError
        except PeerError:
            self._writer.write(bytes((wire.CLASS_ERROR, 0)))
            raise
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(self) -> None:
        said_at = time.monotonic()
        while not self._writer.is_closing():
            out = self.session.pending()
            now = time.monotonic()
            if not out and now - said_at >= HEARTBEAT_S:
                out = HEARTBEAT
            if out:
                said_at = now
                self._writer.write(out)
                async with asyncio.timeout(DEAD_AFTER_S):
                    await self._writer.drain()
            await asyncio.sleep(0 if len(out) > len(HEARTBEAT) else POLL_S)


def _is_own_address(address: str) -> bool:
    """Whether a datagram to it would stay here. Binding to it tells nothing where `ip_nonlocal_bind` is set."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            source: str = probe.getsockname()[0]
        except OSError:
            return False
    return ipaddress.ip_address(source) == ipaddress.ip_address(address)
