from __future__ import annotations

import msgspec
import pytest

from amphorad.board import Board, Kind
from amphorad.model import Bind, Listener, LoadBalancer, Member, Mode, Pool
from amphorad.status import Counts, DataPlaneStatus, Status, amount, build_listeners, duration, quantile, render, table
from amphorad.top import member_rates, render_top

MEMBERS = (
    Member(id="m1", address="127.0.0.1", port=81),
    Member(id="m2", address="::1", port=82, weight=3, backup=True),
)
POOL = Pool(id="p", mode=Mode.HTTP, members=MEMBERS)
LISTENER = Listener(id="l", mode=Mode.HTTP, binds=(Bind(address="::1", port=80),), pools=(POOL,), connection_limit=9)
BALANCER = LoadBalancer(id="lb", listeners=(LISTENER,))


def status(counts: dict[str, dict[str, int]] | None = None, buckets: tuple[int, ...] = ()) -> Status:
    board = Board.create(1, slots=8)
    listeners = build_listeners(BALANCER, board)
    board.close()
    members = tuple(
        msgspec.structs.replace(member, counts=Counts(counters=(counts or {}).get(member.id, {}), buckets=buckets))
        for member in listeners[0].pools[0].members
    )
    pool = msgspec.structs.replace(listeners[0].pools[0], members=members)
    listener = msgspec.structs.replace(listeners[0], pools=(pool,))
    plane = DataPlaneStatus(7, 5.0, 1, 2, 3, 0)
    return Status("1", "lb", "f", 4, 60.0, "intent", "retry", plane, ("10:00 trouble",), (listener,))


def test_build_objects_without_slots_show_zeros_and_unknown_state() -> None:
    (listener,) = status().listeners

    assert listener.binds == ("[::1]:80",)
    assert listener.limit == 9
    assert [member.state for member in listener.pools[0].members] == ["UNKNOWN", "UNKNOWN"]
    assert listener.counts["requests"] == 0


def test_build_objects_of_the_board_show_their_state() -> None:
    board = Board.create(2, slots=8)
    board.claim(Kind.LISTENER, "l")
    board.claim(Kind.MEMBER, "l", "p", "m1")
    board.claim(Kind.MEMBER, "l", "p", "of another generation")

    (listener,) = build_listeners(BALANCER, board)
    board.close()

    assert [member.state for member in listener.pools[0].members] == ["NO CHECK", "UNKNOWN"]


def test_status_through_json_comes_back_equal() -> None:
    given = status({"m1": {"requests": 5}})

    assert msgspec.json.decode(msgspec.json.encode(given), type=Status) == given


def test_render_names_every_object_its_address_and_alarms() -> None:
    text = render(status({"m1": {"requests": 1234, "connect_errors": 2}}))

    for word in ("lb", "l", "p", "m1", "m2", "[::1]:82", "1234", "UNKNOWN backup", "trouble", "generation 4"):
        assert word in text.replace("\n", " ")


def test_member_rates_two_readings_give_rate_and_share() -> None:
    before = {"m1": Counts(counters={"requests": 100}), "m2": Counts(counters={"requests": 0})}
    pool = status({"m1": {"requests": 130}, "m2": {"requests": 10}}).listeners[0].pools[0]

    first, second = member_rates(pool, before, 2.0)

    assert (first.per_s, first.share) == (15.0, 0.75)
    assert (second.per_s, second.share) == (5.0, 0.25)


def test_member_rates_counter_that_went_back_is_no_rate() -> None:
    before = {"m1": Counts(counters={"requests": 100})}

    rates = member_rates(status({"m1": {"requests": 3}}).listeners[0].pools[0], before, 1.0)

    assert [rate.per_s for rate in rates] == [0.0, 0.0]


def test_render_top_latency_is_of_the_interval_only() -> None:
    slow, fast = (0,) * 40 + (5,) + (0,) * 23, (100,) + (0,) * 39 + (5,) + (0,) * 23
    frame = render_top(status(buckets=slow), status(buckets=fast), 1.0)

    assert "0.02ms" in frame


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1000, "1.0k"), (12345, "12.3k"), (123456, "123k"), (5e6, "5.0M")]
)
def test_amount_is_short(value: float, text: str) -> None:
    assert amount(value) == text


@pytest.mark.parametrize(("value", "text"), [(5.9, "5s"), (65, "1m5s"), (3700, "1h1m"), (90000, "1d1h")])
def test_duration_shows_two_units(value: float, text: str) -> None:
    assert duration(value) == text


def test_quantile_of_nothing_is_none() -> None:
    assert quantile((0,) * 64, 0.5) is None


def test_table_aligns_names_left_and_numbers_right() -> None:
    assert table(("a", "b", "c", "n"), [("xx", "y", "z", "1234")]) == ["a   b  c     n", "xx  y  z  1234"]
