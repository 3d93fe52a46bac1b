from __future__ import annotations

import asyncio
import errno
import json
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import pytest

from amphorad import admin
from amphorad.errors import ConfigError, ListenError
from amphorad.status import DataPlaneStatus, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")
STATUS = Status("1", "lb", "f", 7, 1.0, "intent", "retry", DataPlaneStatus(1, 1.0, 0, 1, 2, 0), (), ())
RECEIPT = admin.ApplyReceipt(8, True, "1 change", ("a",), 1, 0, 2, 0.01, 3)


class Handler:
    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.gone = 0
        self.builders: list[int] = []

    def status_builder(self) -> Callable[[], Status]:
        return lambda: self.build()

    def build(self) -> Status:
        self.builders.append(threading.get_ident())
        if self.gone:
            self.gone -= 1
            raise ValueError("mmap closed or invalid")
        return STATUS

    async def apply_text(self, text: str, file: str) -> admin.ApplyReceipt:
        self.texts.append((text, file))
        if self.error is not None:
            raise self.error
        return RECEIPT


class Running:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.handler = Handler()
        self.server = admin.AdminServer(path, self.handler)

    async def __aenter__(self) -> Running:
        await self.server.start()
        return self

    async def __aexit__(self, *_unused: object) -> None:
        await self.server.stop()

    async def ask(self, *lines: bytes) -> list[dict[str, object]]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        answers = []
        for line in lines:
            writer.write(line + b"\n")
            answers.append(json.loads(await reader.readline()))
        writer.close()
        await writer.wait_closed()
        return answers


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(tmp_path / "admin.sock")


@pytest.mark.asyncio
async def test_admin_socket_belongs_to_its_user_and_is_removed(running: Running) -> None:
    async with running:
        assert stat.S_IMODE(running.path.stat().st_mode) == 0o600

    assert not running.path.exists()


@pytest.mark.asyncio
async def test_admin_several_requests_on_one_connection_are_answered_in_order(running: Running) -> None:
    async with running:
        answers = await running.ask(
            b'{"command":"status"}', b'{"command":"apply","text":"t","file":"f"}', b'{"command":"status","version":1}'
        )

    assert answers[0]["result"]["generation"] == 7  # type: ignore[index]
    assert answers[1]["result"]["generation"] == 8  # type: ignore[index]
    assert running.handler.texts == [("t", "f")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "line", [b"", b"{}", b"x", b'{"command":"reboot"}', b'{"command":"apply"}', b'{"command":"status","version":2}']
)
async def test_admin_request_not_understood_is_answered_and_others_served(running: Running, line: bytes) -> None:
    async with running:
        first, second = await running.ask(line, b'{"command":"status"}')

    assert first["error"]["code"] == "request"  # type: ignore[index]
    assert second["result"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "code", "messages"),
    [
        (ConfigError("no", file="f", line=3), "config", ("f:3: no",)),
        (admin.Refused([ConfigError("a", file="f", line=1), ConfigError("b")]), "config", ("f:1: a", "<text>: b")),
        (ListenError("taken"), "listen", ("taken",)),
    ],
)
async def test_client_refused_apply_raises_with_code_and_messages(
    running: Running, error: Exception, code: str, messages: tuple[str, ...]
) -> None:
    running.handler.error = error

    def use_client() -> None:
        with admin.Client(running.path) as client, pytest.raises(admin.AdminError) as raised:
            client.apply("t", "f")
        assert (raised.value.code, raised.value.messages) == (code, messages)

    async with running:
        await _in_thread(use_client)


@pytest.mark.asyncio
async def test_client_gets_status_and_receipt(running: Running) -> None:
    def use_client() -> tuple[Status, admin.ApplyReceipt]:
        with admin.Client(running.path) as client:
            return client.status(), client.apply("t", "f")

    async with running:
        assert await _in_thread(use_client) == (STATUS, RECEIPT)


def test_client_without_server_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(admin.NotRunning, match=r"admin\.sock"):
        admin.Client(tmp_path / "admin.sock")


@pytest.mark.asyncio
async def test_admin_socket_of_living_process_is_not_taken(running: Running) -> None:
    async with running:
        with pytest.raises(OSError, match="in use") as error:
            await admin.AdminServer(running.path, Handler()).start()

        assert error.value.errno == errno.EADDRINUSE
        assert await running.ask(b'{"command":"status"}')


@pytest.mark.asyncio
async def test_admin_socket_of_dead_process_is_taken_over(running: Running) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(running.path))

    async with running:
        assert await running.ask(b'{"command":"status"}')


@pytest.mark.asyncio
async def test_admin_request_beyond_limit_is_refused(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "REQUEST_LIMIT", 1000)
    async with running:
        (answer,) = await running.ask(b"x" * 5000)

    assert answer["error"]["code"] == "request"  # type: ignore[index]


async def _in_thread(function: Callable[[], T]) -> T:
    """Runs blocking code of the client while the server's loop goes on; the thread is gone afterwards."""
    with ThreadPoolExecutor(1) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, function)


@pytest.mark.asyncio
async def test_status_is_built_beside_the_loop(running: Running) -> None:
    async with running:
        (answer,) = await running.ask(b'{"command":"status","version":1}')

    assert "result" in answer
    assert running.handler.builders
    assert threading.get_ident() not in running.handler.builders


@pytest.mark.asyncio
@pytest.mark.parametrize(("gone", "is_answered"), [(1, True), (2, False)])
async def test_status_whose_board_is_replaced_meanwhile_is_built_once_more(
    running: Running, gone: int, is_answered: bool
) -> None:
    running.handler.gone = gone
    async with running:
        (answer,) = await running.ask(b'{"command":"status","version":1}')

    assert (answer["error"] is None) == is_answered
