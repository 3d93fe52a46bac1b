"""Which peer is this machine, and what an operator hears when none is."""

from __future__ import annotations

import asyncio
import mmap

import pytest

from amphorad.model import LoadBalancer, Peer
from amphorad.proxy.engine.stick_table import Table, table_bytes
from amphorad.proxy.peers.exchange import PeerExchange
from amphorad.stick_tables import TableSpace
from tests.support.served import free_port


def make_space() -> TableSpace[Table]:
    return TableSpace(mmap.mmap(-1, 1 << 20), 0, Table, table_bytes)


async def accepts(port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def wait_accepting(port: int, *, wanted: bool = True) -> None:
    """The end of a listening socket has no event to wait on."""
    for _ in range(1000):
        if await accepts(port) == wanted:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain")


@pytest.mark.asyncio
async def test_local_peer_is_the_one_whose_address_this_machine_has() -> None:
    alarms: list[str] = []
    port = free_port()
    exchange = PeerExchange(make_space(), alarms.append)
    peers = (Peer(name="far", address="192.0.2.1", port=port), Peer(name="near", address="127.0.0.1", port=port))

    exchange.apply(LoadBalancer(id="lb", peers=peers))

    await wait_accepting(port)
    await exchange.close()
    assert not await accepts(port)
    assert alarms == []


@pytest.mark.asyncio
async def test_configuration_without_this_machine_shares_nothing_and_says_so() -> None:
    alarms: list[str] = []
    port = free_port()
    exchange = PeerExchange(make_space(), alarms.append, local="other")

    exchange.apply(LoadBalancer(id="lb", peers=(Peer(name="near", address="127.0.0.1", port=port),)))
    await asyncio.sleep(0)

    assert not await accepts(port)
    assert alarms == ["stick tables are not shared: no peer of the configuration is this machine"]
    await exchange.close()


@pytest.mark.asyncio
async def test_peers_that_change_take_effect_without_the_ones_before() -> None:
    first, second = free_port(), free_port()
    exchange = PeerExchange(make_space(), lambda text: None)
    exchange.apply(LoadBalancer(id="lb", peers=tuple(_pair(first))))
    await wait_accepting(first)

    exchange.apply(LoadBalancer(id="lb", peers=tuple(_pair(second))))

    await wait_accepting(second)
    assert not await accepts(first)
    exchange.apply(LoadBalancer(id="lb"))
    await wait_accepting(second, wanted=False)
    await exchange.close()


def _pair(port: int) -> list[Peer]:
    return [Peer(name="near", address="127.0.0.1", port=port), Peer(name="far", address="192.0.2.1", port=port)]
