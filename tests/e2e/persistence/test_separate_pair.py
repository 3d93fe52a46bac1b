"""Source addresses of a pair whose load balancers are machines of their own, joined by a link that can fail.

Source: Octavia contract section 4.5 (`peers`, TCP 1025). The waits are bounded by what the exchange promises: a silent peer is
given up after 10 s and connected to again within 5 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import octavia_render as render
from tests.support.separate_pair import SeparatePair, within

if TYPE_CHECKING:
    from pathlib import Path

render.require_octavia()
pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]

OTHER = ("amphorad", pytest.param("haproxy", marks=pytest.mark.haproxy))
SHARED_S = 12.0
GIVEN_UP_S = 20.0
JOINED_S = 20.0


def both_have(pair: SeparatePair, owners: dict[str, str]) -> bool:
    return pair.a.entries() == owners and pair.b.entries() == owners


@pytest.mark.parametrize("other", OTHER)
def test_what_either_node_learns_the_other_uses(tmp_path: Path, other: str) -> None:
    with SeparatePair(tmp_path, other) as pair:
        owners = pair.learn(pair.a, range(7)) | pair.learn(pair.b, range(7, 12))
        within(SHARED_S, lambda: both_have(pair, owners))

        assert pair.learn(pair.b, range(7)) | pair.learn(pair.a, range(7, 12)) == owners


@pytest.mark.parametrize("other", OTHER)
def test_what_was_learned_while_the_link_was_cut_is_shared_when_it_is_back(tmp_path: Path, other: str) -> None:
    with SeparatePair(tmp_path, other) as pair:
        owners = pair.learn(pair.a, range(5))
        within(SHARED_S, lambda: both_have(pair, owners))

        pair.cut()
        apart_a = pair.learn(pair.a, range(10, 17))
        apart_b = pair.learn(pair.b, range(20, 24))
        assert pair.a.entries() == owners | apart_a
        assert pair.b.entries() == owners | apart_b
        if other == "amphorad":  # long enough that both have given the connection up
            within(GIVEN_UP_S, lambda: pair.a.peer_state() == "DOWN")
        pair.join()
        owners |= apart_a | apart_b
        within(JOINED_S, lambda: both_have(pair, owners))

        assert pair.learn(pair.b, range(10, 17)) == apart_a
        assert pair.learn(pair.a, range(20, 24)) == apart_b


@pytest.mark.parametrize("other", OTHER)
def test_killed_node_is_taught_everything_by_the_other(tmp_path: Path, other: str) -> None:
    with SeparatePair(tmp_path, other) as pair:
        owners = pair.learn(pair.a, range(20)) | pair.learn(pair.b, range(20, 40))
        within(SHARED_S, lambda: both_have(pair, owners))

        for node in (pair.b, pair.a):
            node.restart()
            within(JOINED_S, lambda: both_have(pair, owners))

        assert pair.learn(pair.a, range(40)) == pair.learn(pair.b, range(40)) == owners
