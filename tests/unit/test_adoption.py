"""The handshake between a data plane and its next supervisor, with two real unix sockets and no process."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import msgspec
import pytest

from amphorad import adoption
from amphorad.adoption import AdoptionSocket, Unresponsive, ask, kill_unresponsive, listen
from amphorad.messages import VERSION, Adoption, Begin, Channel, SocketName, Stop

if TYPE_CHECKING:
    from pathlib import Path


def message(sockets: int = 0) -> Adoption:
    return Adoption(
        version=VERSION,
        release="1",
        pid=os.getpid(),
        arguments=("--threads=1",),
        generation=7,
        load_balancer=msgspec.Raw(b"{}"),
        transitions=msgspec.Raw(b"[]"),
        sockets=tuple(SocketName("listener", "127.0.0.1", number + 1) for number in range(sockets)),
    )


class Orphan:
    """The data plane's side, waiting on `path`; every descriptor that it hands over is a copy of one pipe."""

    def __init__(self, path: Path, sockets: int = 0, owner: int | None = None) -> None:
        self._pipe = os.pipe()
        self._sockets = sockets
        self.listening = listen(path)
        self.socket = AdoptionSocket(self.listening, os.getuid() if owner is None else owner)
        self.task: asyncio.Task[Channel] | None = None

    async def __aenter__(self) -> Orphan:
        self.task = asyncio.create_task(self.socket.wait_supervisor(self._offer))
        return self

    def _offer(self) -> tuple[Adoption, tuple[int, ...]]:
        others = (self._pipe[0],) * self._sockets
        return message(self._sockets), (self._pipe[0], self.socket.fileno(), *others)

    async def __aexit__(self, *_unused: object) -> None:
        assert self.task is not None
        self.task.cancel()
        (result,) = await asyncio.gather(self.task, return_exceptions=True)
        if isinstance(result, Channel):
            result.close()
        self.socket.close()
        for descriptor in self._pipe:
            os.close(descriptor)


@pytest.mark.asyncio
async def test_nothing_there_is_none_and_a_stale_socket_too(tmp_path: Path) -> None:
    path = tmp_path / "adoption.sock"
    assert await ask(path) is None

    listen(path).close()

    assert await ask(path) is None
    assert path.is_socket()


@pytest.mark.asyncio
async def test_700_sockets_are_handed_over(tmp_path: Path) -> None:
    """More than the kernel takes with one message."""
    path = tmp_path / "adoption.sock"
    async with Orphan(path, sockets=700) as orphan:
        found = await ask(path)
        assert found is not None
        assert (found.message.generation, len(found.sockets)) == (7, 700)
        await found.channel.send(Begin())
        assert orphan.task is not None
        await asyncio.wait_for(asyncio.shield(orphan.task), 5)
        found.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("before_begin", [False, True])
async def test_supervisor_that_goes_in_the_middle_makes_room_for_the_next(tmp_path: Path, before_begin: bool) -> None:
    path = tmp_path / "adoption.sock"
    async with Orphan(path) as orphan:
        if before_begin:
            first = await ask(path)
            assert first is not None
            first.close()
        else:
            with socket.socket(socket.AF_UNIX) as silent:
                silent.connect(str(path))

        second = await ask(path)

        assert second is not None
        await second.channel.send(Begin())
        assert orphan.task is not None
        await asyncio.wait_for(asyncio.shield(orphan.task), 5)
        second.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("first", [b"\0\0\0\5hello", b"\xff\xff\xff\xff", None])
async def test_garbage_or_another_message_is_turned_away(tmp_path: Path, first: bytes | None) -> None:
    path = tmp_path / "adoption.sock"
    async with Orphan(path) as orphan:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(path))
            stranger.setblocking(False)
            loop = asyncio.get_running_loop()
            if first is None:
                channel = Channel(stranger.dup())
                await channel.send(Stop(0.0))
                channel.close()
            else:
                await loop.sock_sendall(stranger, first)
            assert await loop.sock_recv(stranger, 1) == b""
        assert orphan.task is not None
        assert not orphan.task.done()


@pytest.mark.asyncio
async def test_silent_supervisor_is_dropped_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "HANDSHAKE_S", 0.1)
    path = tmp_path / "adoption.sock"
    async with Orphan(path):
        first = await ask(path)
        assert first is not None  # and says nothing more

        second = await ask(path)

        assert second is not None
        first.close()
        second.close()


@pytest.mark.asyncio
async def test_data_plane_that_says_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "ANSWER_S", 0.1)
    path = tmp_path / "adoption.sock"
    with listen(path), pytest.raises(Unresponsive) as caught:
        await ask(path)

    assert caught.value.pid == os.getpid()


def test_process_that_is_no_data_plane_is_not_killed() -> None:
    with pytest.raises(ProcessLookupError):
        kill_unresponsive(os.getppid())


def test_long_directory_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()

    listen(deep / "adoption.sock").close()

    assert (deep / "adoption.sock").is_socket()
    assert (deep / "adoption.sock").stat().st_mode & 0o777 == 0o600
