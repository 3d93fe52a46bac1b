"""Heartbeats: bytes by the contract's vectors and the real decoder, statuses, deltas, and whom they go to."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import socket
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.agent.settings import AgentSettings, parse_settings
from amphorad.agent.sources import HeartbeatSource, LvsSource
from amphorad.board import Board, Kind, LastCheck, MemberState
from amphorad.heartbeat import datagram, message
from amphorad.heartbeat.counters import Reported
from amphorad.heartbeat.message import Totals
from amphorad.heartbeat.sender import HeartbeatSender
from amphorad.model import Bind, Listener, LoadBalancer, Member, Mode, Pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LISTENER = "11111111-2222-4333-8444-555555555555"
POOL = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
SMALL = {"id": "a", "seq": 0, "listeners": {}, "pools": {}, "ver": 3}


def decode(content: bytes, key: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status_message = pytest.importorskip("octavia.amphorae.backends.health_daemon.status_message")
        importlib.import_module("octavia.common.config")
    return status_message.unwrap_envelope(content, key)


def test_the_real_decoder_reads_what_is_encoded() -> None:
    assert decode(datagram.encode(SMALL, "insecure"), "insecure") == SMALL


def test_another_key_is_not_accepted() -> None:
    with pytest.raises(Exception, match="calculated"):
        decode(datagram.encode(SMALL, "another"), "insecure")


def test_trailer_is_the_hexadecimal_hmac_of_the_compressed_bytes() -> None:
    vector = bytes.fromhex(
        "78daab56ca4c51b252504a54d251502a4e2d04b20d80ac9ccce292d4bcd4a26220bfba162850909f"
        "9f03e794a5160199c6b500121011a035386630663365373736353234626365646362653866656266"
        "633734356162306134383738336130303737623537336438346335316238346238613965656335"
    )
    assert decode(vector, "insecure") == SMALL
    content = datagram.encode(SMALL, "insecure")
    assert len(content[-64:].decode()) == 64
    assert set(content[-64:]) <= set(b"0123456789abcdef")


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(1, 64)
    yield board
    board.close()


def balancer(*members: Member, limit: int = 100) -> LoadBalancer:
    pool = Pool(id=POOL, mode=Mode.HTTP, members=members)
    bind = Bind(address="127.0.0.1", port=80)
    listener = Listener(
        id=LISTENER, mode=Mode.HTTP, binds=(bind,), connection_limit=limit, default_pool=POOL, pools=(pool,)
    )
    return LoadBalancer(id="lb", listeners=(listener,))


def built(source: HeartbeatSource, *lvs: LvsSource) -> Any:
    return json.loads(json.dumps(message.build("amp", 3, [source], lvs, {LISTENER: Totals(1, 2, 3, 4, 5)})))


def check(state: str) -> LastCheck:
    return LastCheck(state, "L4OK", "", "", -1, 0.001, 0.0, 0.0, 1, 0, 0)


def place(board: Board, member: Member, state: MemberState, last: str | None = None) -> None:
    slot = board.claim(Kind.MEMBER, LISTENER, POOL, member.id)
    board.memory[4096 + slot * 512 + 4 : 4096 + slot * 512 + 8] = int(state).to_bytes(4, "little")
    board.show_check(slot, check(last) if last else None)


CHECKED = Member(id="m", address="127.0.0.1", port=80, checked=True)


@pytest.mark.parametrize(
    ("member", "state", "last", "told", "pool"),
    [
        (CHECKED, MemberState.UP, None, "UP", "UP"),
        (CHECKED, MemberState.UP, "UP", "UP", "UP"),
        (CHECKED, MemberState.UP, "UP 1/3", "UP 1/3", "UP"),
        (CHECKED, MemberState.DOWN, "DOWN", "DOWN", "DOWN"),
        (CHECKED, MemberState.DOWN, "DOWN 1/2", "DOWN 1/2", "DOWN"),
        (Member(id="m", address="::1", port=80, checked=True, weight=0), MemberState.DRAIN, "UP", "DRAIN", "DOWN"),
        (Member(id="m", address="::1", port=80, checked=True, weight=0), MemberState.DRAIN, "UP 1/3", "UP 1/3", "DOWN"),
        (Member(id="m", address="::1", port=80), MemberState.NO_CHECK, None, "no check", "UP"),
        (Member(id="m", address="::1", port=80, weight=0), MemberState.DRAIN, None, "no check", "DOWN"),
        (Member(id="m", address="::1", port=80, admin_state_up=False), MemberState.MAINT, None, "MAINT", "DOWN"),
        (Member(id="m", address="::1", port=80, backup=True), MemberState.NO_CHECK, None, "no check", "UP"),
    ],
)
def test_words_for_a_member_and_its_pool(
    board: Board, member: Member, state: MemberState, last: str | None, told: str, pool: str
) -> None:
    place(board, member, state, last)
    found = built(HeartbeatSource("lb", balancer(member), board, is_alive=True))["pools"][f"{POOL}:{LISTENER}"]
    assert found == {"status": pool, "members": {"m": told}}


def test_pool_without_members_is_up(board: Board) -> None:
    assert (
        built(HeartbeatSource("lb", balancer(), board, is_alive=True))["pools"][f"{POOL}:{LISTENER}"]["status"] == "UP"
    )


def test_listener_at_its_limit_is_full(board: Board) -> None:
    slot = board.claim(Kind.LISTENER, LISTENER)
    board.memory[4096 + slot * 512 + 16 : 4096 + slot * 512 + 24] = (2).to_bytes(8, "little")
    source = HeartbeatSource("lb", balancer(limit=2), board, is_alive=True)
    assert built(source)["listeners"][LISTENER]["status"] == "FULL"
    source = HeartbeatSource("lb", balancer(limit=3), board, is_alive=True)
    assert built(source)["listeners"][LISTENER]["status"] == "OPEN"


@pytest.mark.parametrize("has_board", [True, False])
def test_dead_data_plane_still_counts_its_listeners(board: Board, has_board: bool) -> None:
    found = built(HeartbeatSource("lb", balancer(CHECKED), board if has_board else None, is_alive=False))
    assert found["listeners"][LISTENER]["status"] == "DOWN"
    assert found["pools"][f"{POOL}:{LISTENER}"]["status"] == "DOWN"


def test_message_has_every_field_of_version_3(board: Board) -> None:
    found = built(HeartbeatSource("lb", balancer(), board, is_alive=True), LvsSource("udp-listener"))
    assert (found["id"], found["seq"], found["ver"]) == ("amp", 3, 3)
    assert found["listeners"][LISTENER] == {
        "status": "OPEN",
        "stats": {"tx": 1, "rx": 2, "conns": 3, "totconns": 4, "ereq": 5},
    }
    assert set(found["listeners"]) == {LISTENER, "udp-listener"}


def test_counters_are_differences_and_start_again_after_a_restart_of_the_counting() -> None:
    reported = Reported()
    first = {LISTENER: Totals(100, 10, 7, 4, 1)}
    assert reported.deltas(first) == first
    assert reported.take(first)
    assert not reported.take(first)
    assert reported.deltas({LISTENER: Totals(150, 10, 2, 5, 0)}) == {LISTENER: Totals(50, 0, 2, 1, 0)}
    assert reported.deltas({LISTENER: Totals(20, 30, 2, 5, 1)}) == {LISTENER: Totals(20, 20, 2, 1, 0)}


def test_what_was_reported_outlives_the_agent() -> None:
    reported = Reported()
    reported.take({LISTENER: Totals(100, 10, 7, 4, 1)})
    again = Reported.parse(reported.encode())
    assert again.deltas({LISTENER: Totals(101, 10, 0, 4, 1)}) == {LISTENER: Totals(1, 0, 0, 0, 0)}


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": {"tx": "1"}}'])
def test_damaged_file_is_an_error(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expected|truncated"):
        Reported.parse(damaged)


def settings(tmp_path: Path, controllers: str, interval: float = 1, key: str = "insecure") -> AgentSettings:
    text = (
        f"[haproxy_amphora]\nbase_path = {tmp_path}\n[amphora_agent]\namphora_id = amp\n"
        f"[health_manager]\ncontroller_ip_port_list = {controllers}\nheartbeat_interval = {interval}\nheartbeat_key = {key}\n"
    )
    return parse_settings([(tmp_path / "agent.conf", text)])


class Receiver:
    """A controller's UDP socket."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        self._udp.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._udp.setblocking(False)
        host, port = self._udp.getsockname()[:2]
        self.endpoint = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"

    async def receive(self, key: str = "insecure") -> Any:
        return decode(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._udp, 65536), 5), key)

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._udp.close()


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.asyncio
async def test_controllers_get_them_in_turn_over_both_families(tmp_path: Path) -> None:
    with Receiver() as four, Receiver(socket.AF_INET6) as six:
        sender = HeartbeatSender(
            settings(tmp_path, f"{four.endpoint}, {six.endpoint}", 0.1), lambda: [], lambda: [], lambda: True
        )
        task = asyncio.create_task(sender.run())
        assert [(await receiver.receive())["seq"] for receiver in (four, six, four, six)] == [0, 1, 2, 3]
        await stopped(task)


@pytest.mark.asyncio
async def test_other_key_and_controller_take_effect_at_once(tmp_path: Path) -> None:
    with Receiver() as old, Receiver() as new:
        sender = HeartbeatSender(settings(tmp_path, old.endpoint, 1000), lambda: [], lambda: [], lambda: True)
        task = asyncio.create_task(sender.run())
        await old.receive()
        sender.update(settings(tmp_path, new.endpoint, 1000, "other"))
        assert (await new.receive("other"))["seq"] == 1
        await stopped(task)


@pytest.mark.asyncio
async def test_dead_keepalived_holds_them_back(tmp_path: Path) -> None:
    may_send = False
    with Receiver() as receiver:
        sender = HeartbeatSender(settings(tmp_path, receiver.endpoint, 0.1), lambda: [], lambda: [], lambda: may_send)
        task = asyncio.create_task(sender.run())
        await asyncio.sleep(0.3)
        assert sender.sent == 0
        may_send = True
        assert (await receiver.receive())["seq"] == 0
        await stopped(task)


@pytest.mark.asyncio
async def test_counters_are_reported_once_also_over_a_restart(tmp_path: Path, board: Board) -> None:
    slot = board.claim(Kind.LISTENER, LISTENER)
    row = 4096 + 64 * 512 + slot * 512
    board.memory[row + 16 : row + 32] = (11).to_bytes(8, "little") + (22).to_bytes(8, "little")  # bytes_in, bytes_out
    source = HeartbeatSource("lb", balancer(), board, is_alive=True)
    told = []
    with Receiver() as receiver:
        for _ in range(2):
            sender = HeartbeatSender(
                settings(tmp_path, receiver.endpoint, 0.1), lambda: [source], lambda: [], lambda: True
            )
            task = asyncio.create_task(sender.run())
            told += [(await receiver.receive())["listeners"][LISTENER]["stats"] for _ in range(2)]
            await stopped(task)
    assert [(stats["rx"], stats["tx"]) for stats in told] == [(11, 22), (0, 0), (0, 0), (0, 0)]
    assert (tmp_path / "stats_counters.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.asyncio
async def test_controller_that_cannot_be_reached_is_told_once_and_the_others_get_theirs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Receiver() as receiver, caplog.at_level(logging.WARNING):
        controllers = f"no-such-host.invalid:5555, {receiver.endpoint}"
        sender = HeartbeatSender(settings(tmp_path, controllers, 0.1), lambda: [], lambda: [], lambda: True)
        task = asyncio.create_task(sender.run())
        for _ in range(3):
            await receiver.receive()
        await stopped(task)
    assert len([record for record in caplog.records if "no-such-host" in record.message]) == 1


@pytest.mark.asyncio
async def test_message_too_long_for_a_datagram_goes_without_its_pools(tmp_path: Path, board: Board) -> None:
    import secrets

    members = tuple(Member(id=secrets.token_hex(40), address="::1", port=80) for _ in range(2000))
    source = HeartbeatSource("lb", balancer(*members), board, is_alive=True)
    with Receiver() as receiver:
        sender = HeartbeatSender(settings(tmp_path, receiver.endpoint), lambda: [source], lambda: [], lambda: True)
        task = asyncio.create_task(sender.run())
        found = await receiver.receive()
        await stopped(task)
    assert list(found["listeners"]) == [LISTENER]
    assert found["pools"] == {}
