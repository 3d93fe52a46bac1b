"""What the real health manager makes of our heartbeats: its decoder, its rules and its database (SQLite), Octavia contract section 3.4."""

from __future__ import annotations

import importlib
import time
import uuid
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.agent.sources import HeartbeatSource, LvsSource
from amphorad.board import Board, Kind, LastCheck, MemberState
from amphorad.heartbeat import datagram, message
from amphorad.heartbeat.counters import Reported
from amphorad.model import Bind, Listener, LoadBalancer, Member, Mode, Pool
from tests.support.octavia_render import require_octavia

if TYPE_CHECKING:
    from collections.abc import Iterator

require_octavia()

pytestmark = [pytest.mark.may_leak, pytest.mark.timeout(60)]  # the database engine keeps its file open
KEY = "insecure"


@pytest.fixture(scope="module")
def octavia(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """The health manager's modules on a database of their own."""
    names = {
        "config": "octavia.common.config",
        "constants": "octavia.common.constants",
        "api": "octavia.db.api",
        "base": "octavia.db.base_models",
        "models": "octavia.db.models",
        "udp": "octavia.amphorae.drivers.health.heartbeat_udp",
        "envelope": "octavia.amphorae.backends.health_daemon.status_message",
        "stats": "octavia.statistics.drivers.update_db",
        "data": "octavia.common.data_models",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = SimpleNamespace(**{key: importlib.import_module(name) for key, name in names.items()})
        conf = found.config.cfg.CONF
        file = tmp_path_factory.mktemp("database") / "octavia.sqlite"
        conf.set_override("connection", f"sqlite:///{file}", group="database")
        conf.set_override("pool_timeout", None, group="database")
        engine = found.api.get_engine()
        found.base.BASE.metadata.create_all(engine)
        session = found.api.get_session()
        lookup = {
            found.models.ProvisioningStatus: found.constants.SUPPORTED_PROVISIONING_STATUSES,
            found.models.OperatingStatus: found.constants.SUPPORTED_OPERATING_STATUSES,
            found.models.Protocol: found.constants.SUPPORTED_PROTOCOLS,
            found.models.Algorithm: found.constants.SUPPORTED_LB_ALGORITHMS,
            found.models.LBTopology: found.constants.SUPPORTED_LB_TOPOLOGIES,
            found.models.AmphoraRoles: found.constants.SUPPORTED_AMPHORA_ROLES,
            found.models.ClientAuthenticationMode: found.constants.SUPPORTED_CLIENT_AUTH_MODES,
        }
        with session.begin():
            for model, words in lookup.items():
                session.add_all([model(name=word) for word in words])
        session.close()
        yield found
        engine.dispose()
    conf.clear_override("connection", group="database")
    conf.clear_override("pool_timeout", group="database")


class Cloud:
    """The rows of one load balancer in the database, and the amphora that serves it."""

    def __init__(self, octavia: SimpleNamespace, *, members: int = 1, listeners: int = 1) -> None:
        self.octavia = octavia
        self.amphora_id, self.lb_id, self.pool_id = (str(uuid.uuid4()) for _ in range(3))
        self.listener_ids = [str(uuid.uuid4()) for _ in range(listeners)]
        self.member_ids = [str(uuid.uuid4()) for _ in range(members)]
        models = octavia.models
        state = {"provisioning_status": "ACTIVE", "operating_status": "OFFLINE", "enabled": True, "project_id": "p"}
        rows = [models.LoadBalancer(id=self.lb_id, name="lb", topology="SINGLE", provider="amphora", **state)]
        rows.append(
            models.Amphora(
                id=self.amphora_id, load_balancer_id=self.lb_id, compute_id=self.amphora_id, status="ALLOCATED",
                lb_network_ip="192.0.2.1", role="STANDALONE",
            )
        )  # fmt: skip
        rows.append(
            models.Pool(
                id=self.pool_id,
                name="pool",
                protocol="HTTP",
                lb_algorithm="ROUND_ROBIN",
                load_balancer_id=self.lb_id,
                **state,
            )
        )
        rows += [
            models.Listener(
                id=listener_id, name="l", protocol="HTTP", protocol_port=80 + number, connection_limit=100,
                load_balancer_id=self.lb_id, default_pool_id=self.pool_id, **state,
            )
            for number, listener_id in enumerate(self.listener_ids)
        ]  # fmt: skip
        rows += [
            models.Member(
                id=member_id, pool_id=self.pool_id, ip_address=f"10.0.0.{number + 1}", protocol_port=80, weight=1,
                backup=False, subnet_id=None, **state,
            )
            for number, member_id in enumerate(self.member_ids)
        ]  # fmt: skip
        session = octavia.api.get_session()
        with session.begin():
            for row in rows:
                session.add(row)
                session.flush()
        session.close()

    def balancer(self, *members: Member, limit: int = 100) -> LoadBalancer:
        """Its configuration as the amphora has it."""
        pool = Pool(id=self.pool_id, mode=Mode.HTTP, members=members)
        listeners = tuple(
            Listener(
                id=listener_id, mode=Mode.HTTP, binds=(Bind(address="127.0.0.1", port=80 + number),),
                connection_limit=limit, default_pool=self.pool_id, pools=(pool,),
            )
            for number, listener_id in enumerate(self.listener_ids)
        )  # fmt: skip
        return LoadBalancer(id=self.lb_id, listeners=listeners)

    def beat(self, source: HeartbeatSource, *lvs: LvsSource, reported: Reported | None = None) -> None:
        """One heartbeat, from the values to the health manager's database."""
        reported = reported or Reported()
        now = message.totals([source])
        content = message.build(self.amphora_id, 0, [source], lvs, reported.deltas(now))
        reported.take(now)
        decoded = self.octavia.envelope.unwrap_envelope(datagram.encode(content, KEY), KEY)
        self.octavia.udp.UpdateHealthDb().update_health({**decoded, "recv_time": time.time()}, "192.0.2.1")
        statistics = [
            self.octavia.data.ListenerStatistics(
                listener_id=listener_id,
                amphora_id=self.amphora_id,
                bytes_in=entry["stats"]["rx"],
                bytes_out=entry["stats"]["tx"],
                active_connections=entry["stats"]["conns"],
                total_connections=entry["stats"]["totconns"],
                request_errors=entry["stats"]["ereq"],
            )
            for listener_id, entry in decoded["listeners"].items()
        ]
        self.octavia.stats.StatsUpdateDb().update_stats(statistics, deltas=True)

    def status(self, model: str, identity: str) -> str:
        session = self.octavia.api.get_session()
        with session.begin():
            found: str = session.get(getattr(self.octavia.models, model), identity).operating_status
        session.close()
        return found

    def row(self, model: str, **where: str) -> Any:
        session = self.octavia.api.get_session()
        with session.begin():
            found = session.query(getattr(self.octavia.models, model)).filter_by(**where).one_or_none()
            if found is not None:
                session.expunge(found)
        session.close()
        return found


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(1, 64)
    yield board
    board.close()


def place(board: Board, cloud: Cloud, member_id: str, state: MemberState, last: str | None) -> None:
    for listener_id in cloud.listener_ids:
        slot = board.claim(Kind.MEMBER, listener_id, cloud.pool_id, member_id)
        board.memory[4096 + slot * 512 + 4 : 4096 + slot * 512 + 8] = int(state).to_bytes(4, "little")
        board.show_check(slot, LastCheck(last, "L4OK", "", "", -1, 0.0, 0.0, 0.0, 1, 0, 0) if last else None)


@pytest.mark.parametrize(
    ("options", "state", "last", "member", "pool", "balancer"),
    [
        ({"checked": True}, MemberState.UP, "UP", "ONLINE", "ONLINE", "ONLINE"),
        ({"checked": True}, MemberState.UP, "UP 1/3", "ONLINE", "ONLINE", "ONLINE"),
        ({"checked": True}, MemberState.UP, None, "ONLINE", "ONLINE", "ONLINE"),
        ({"checked": True}, MemberState.DOWN, "DOWN", "ERROR", "ERROR", "ERROR"),
        ({"checked": True}, MemberState.DOWN, "DOWN 1/2", "ERROR", "ERROR", "ERROR"),
        ({"checked": True, "weight": 0}, MemberState.DRAIN, "UP", "DRAINING", "ERROR", "ERROR"),
        ({}, MemberState.NO_CHECK, None, "NO_MONITOR", "ONLINE", "ONLINE"),
        ({"weight": 0}, MemberState.DRAIN, None, "NO_MONITOR", "ERROR", "ERROR"),
        ({"admin_state_up": False}, MemberState.MAINT, None, "OFFLINE", "ERROR", "ERROR"),
    ],
)
def test_one_member_in_every_state(
    octavia: SimpleNamespace,
    board: Board,
    options: dict[str, Any],
    state: MemberState,
    last: str | None,
    member: str,
    pool: str,
    balancer: str,
) -> None:
    cloud = Cloud(octavia)
    place(board, cloud, cloud.member_ids[0], state, last)
    members = Member(id=cloud.member_ids[0], address="10.0.0.1", port=80, **options)
    cloud.beat(HeartbeatSource(cloud.lb_id, cloud.balancer(members), board, is_alive=True))
    assert cloud.status("Member", cloud.member_ids[0]) == member
    assert cloud.status("Pool", cloud.pool_id) == pool
    assert cloud.status("Listener", cloud.listener_ids[0]) == "ONLINE"
    assert cloud.status("LoadBalancer", cloud.lb_id) == balancer


def test_one_member_of_two_down_degrades(octavia: SimpleNamespace, board: Board) -> None:
    cloud = Cloud(octavia, members=2)
    place(board, cloud, cloud.member_ids[0], MemberState.UP, "UP")
    place(board, cloud, cloud.member_ids[1], MemberState.DOWN, "DOWN")
    members = [Member(id=identity, address="10.0.0.1", port=80, checked=True) for identity in cloud.member_ids]
    cloud.beat(HeartbeatSource(cloud.lb_id, cloud.balancer(*members), board, is_alive=True))
    assert cloud.status("Pool", cloud.pool_id) == "DEGRADED"
    assert cloud.status("LoadBalancer", cloud.lb_id) == "DEGRADED"


def test_listener_at_its_limit_degrades(octavia: SimpleNamespace, board: Board) -> None:
    cloud = Cloud(octavia, members=0)
    slot = board.claim(Kind.LISTENER, cloud.listener_ids[0])
    board.memory[4096 + slot * 512 + 16 : 4096 + slot * 512 + 24] = (2).to_bytes(8, "little")
    cloud.beat(HeartbeatSource(cloud.lb_id, cloud.balancer(limit=2), board, is_alive=True))
    assert cloud.status("Listener", cloud.listener_ids[0]) == "DEGRADED"


def test_amphora_is_seen_when_all_its_listeners_are_told_of(octavia: SimpleNamespace, board: Board) -> None:
    cloud = Cloud(octavia, listeners=2)
    cloud.beat(HeartbeatSource(cloud.lb_id, cloud.balancer(), board, is_alive=True))
    assert cloud.row("AmphoraHealth", amphora_id=cloud.amphora_id) is not None


def test_amphora_is_not_seen_when_one_is_missing(octavia: SimpleNamespace, board: Board) -> None:
    cloud = Cloud(octavia, listeners=2)
    whole = cloud.balancer()
    part = LoadBalancer(id=cloud.lb_id, listeners=whole.listeners[:1])
    cloud.beat(HeartbeatSource(cloud.lb_id, part, board, is_alive=True))
    assert cloud.row("AmphoraHealth", amphora_id=cloud.amphora_id) is None


def test_dead_data_plane_is_an_error_and_no_reason_to_replace_the_amphora(octavia: SimpleNamespace) -> None:
    cloud = Cloud(octavia)
    member = Member(id=cloud.member_ids[0], address="10.0.0.1", port=80, checked=True)
    cloud.beat(HeartbeatSource(cloud.lb_id, cloud.balancer(member), None, is_alive=False))
    assert cloud.row("AmphoraHealth", amphora_id=cloud.amphora_id) is not None
    assert cloud.status("LoadBalancer", cloud.lb_id) == "ERROR"
    assert cloud.status("Pool", cloud.pool_id) == "ERROR"


def test_listener_that_nobody_carries_counts_and_is_not_online(octavia: SimpleNamespace, board: Board) -> None:
    cloud = Cloud(octavia, members=0, listeners=2)
    carried = LoadBalancer(id=cloud.lb_id, listeners=cloud.balancer().listeners[:1])
    cloud.beat(HeartbeatSource(cloud.lb_id, carried, board, is_alive=True), LvsSource(cloud.listener_ids[1]))
    assert cloud.row("AmphoraHealth", amphora_id=cloud.amphora_id) is not None
    assert cloud.status("Listener", cloud.listener_ids[1]) == "OFFLINE"


def test_counters_arrive_once(octavia: SimpleNamespace, board: Board) -> None:
    cloud = Cloud(octavia, members=0)
    slot = board.claim(Kind.LISTENER, cloud.listener_ids[0])
    row = 4096 + 64 * 512 + slot * 512
    source = HeartbeatSource(cloud.lb_id, cloud.balancer(), board, is_alive=True)
    reported = Reported()
    for bytes_in, bytes_out in ((5, 7), (5, 7), (15, 107)):
        board.memory[row + 16 : row + 32] = bytes_in.to_bytes(8, "little") + bytes_out.to_bytes(8, "little")
        cloud.beat(source, reported=reported)
    found = cloud.row("ListenerStatistics", listener_id=cloud.listener_ids[0])
    assert (found.bytes_in, found.bytes_out) == (15, 107)
