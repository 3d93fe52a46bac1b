"""Load balancers of an agent, with real data planes on loopback."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from amphorad.admin import Refused
from amphorad.agent.load_balancers import LoadBalancers
from amphorad.agent.settings import AgentSettings, parse_settings
from amphorad.agent.sources import ListenerEntry
from amphorad.errors import NotFound, OperationFailed
from tests.support.lb_file import lb_file, listener, member
from tests.support.naming_members import NamingMembers
from tests.support.scripted_member import ScriptedMember, connect, echo, echoes, get, http_member, refuses
from tests.support.served import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

LB = "5f8e4a53-39b2-4a36-8f0a-0e6c3c1a1a11"
OTHER = "11111111-39b2-4a36-8f0a-0e6c3c1a1a11"
UNKNOWN = "22222222-39b2-4a36-8f0a-0e6c3c1a1a11"
AMPHORA = "33333333-39b2-4a36-8f0a-0e6c3c1a1a11"
STARTED = f"Configuration file is valid\nhaproxy daemon for {LB} started"


def settings(directory: Path, topology: str = "SINGLE") -> AgentSettings:
    text = (
        f"[haproxy_amphora]\nbase_path = {directory}/lib\nbase_cert_dir = {directory}/lib/certs\n"
        f"[controller_worker]\nloadbalancer_topology = {topology}\n"
        f"[amphorad]\nstate_dir = {directory}/run\nuser = nobody\nthreads = 1\n"
    )
    return parse_settings([(directory / "agent.conf", text)])


@asynccontextmanager
async def agent_of(
    directory: Path,
    announce: Callable[[Sequence[str]], Awaitable[None]] | None = None,
    *,
    topology: str = "SINGLE",
) -> AsyncIterator[LoadBalancers]:
    found = LoadBalancers(settings(directory, topology), *([announce] if announce else []), isolated=False)
    await found.restore()
    try:
        yield found
    finally:
        await found.stop_all(0)


def web(port: int, target: int) -> bytes:
    return lb_file(listener("web", port, [member(target)], mode="http")).encode()


async def answer(port: int) -> bytes:
    """The body that a member gives through the load balancer."""

    def ask() -> bytes:
        with connect(port) as client:
            return get(client).removeprefix(b"200 ")

    return await asyncio.to_thread(ask)


def on_disk(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.asyncio
async def test_upload_activates_nothing_and_start_does(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one, ScriptedMember(http_member(b"two")) as two:
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, web(port, one.port))
            assert await asyncio.to_thread(refuses, port)
            assert not agent.is_healthy

            assert await agent.start(LB) == STARTED
            assert await answer(port) == b"one"
            assert agent.is_healthy
            assert agent.running_count == 1

            await agent.upload(AMPHORA, LB, web(port, two.port))
            assert await answer(port) == b"one"

            assert await agent.reload(LB) == f"Listener {LB} reloaded"
            assert await answer(port) == b"two"


@pytest.mark.asyncio
async def test_reload_of_a_stopped_one_starts_it_and_says_so(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one:
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, web(port, one.port))

            assert await agent.reload(LB) == STARTED
            assert await agent.stop(LB) == f"Listener {LB} stoped"
            assert await asyncio.to_thread(refuses, port)
            assert await agent.stop(LB) == f"Listener {LB} stoped"
            assert not agent.is_healthy
            assert await agent.reload(LB) == STARTED

            assert await answer(port) == b"one"


@pytest.mark.asyncio
async def test_stop_ends_sessions_at_once(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as one:
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, lb_file(listener("t", port, [member(one.port)])).encode())
            await agent.start(LB)
            with await asyncio.to_thread(connect, port) as client:
                assert await asyncio.to_thread(echoes, client)

                async with asyncio.timeout(1):
                    await agent.stop(LB)

                assert await asyncio.to_thread(client.recv, 1) == b""


@pytest.mark.asyncio
async def test_refused_upload_changes_nothing_and_names_every_error(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one:
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, web(port, one.port))
            await agent.start(LB)
            before = on_disk(tmp_path / "lib")
            bad = (
                web(port, one.port)
                .replace(b"weight 1", b"weight 300")
                .replace(b"    maxconn", b"    unknown-word 1\n    maxconn")
            )

            with pytest.raises(Refused) as caught:
                await agent.upload(AMPHORA, LB, bad)
            for body in (b"\xff", b"", b"global\n    lua-load /x\n"):
                with pytest.raises(Refused):
                    await agent.upload(AMPHORA, LB, body)
            for name in ("../x", "", LB.upper(), "x" * 36):
                with pytest.raises(Refused):
                    await agent.upload(AMPHORA, name, web(port, one.port))

            text = str(caught.value)
            assert "unknown-word" in text
            assert "300" in text
            assert on_disk(tmp_path / "lib") == before
            assert await agent.configuration(LB) == web(port, one.port)
            assert await answer(port) == b"one"


@pytest.mark.asyncio
async def test_reload_that_fails_keeps_what_was_in_force_and_what_is_on_disk(tmp_path: Path) -> None:
    port, taken = free_port(), free_port()
    with ScriptedMember(http_member(b"one")) as one, ScriptedMember(http_member(), port=taken):
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, web(port, one.port))
            await agent.start(LB)
            await agent.upload(AMPHORA, LB, web(taken, one.port))

            with pytest.raises(OperationFailed, match=f"Error reloading haproxy.*{taken}"):
                await agent.reload(LB)

            assert await answer(port) == b"one"
            assert agent.is_healthy
            assert (tmp_path / "lib" / LB / "active.cfg").read_bytes() == web(port, one.port)
        async with agent_of(tmp_path):
            assert await answer(port) == b"one"


@pytest.mark.asyncio
async def test_start_that_fails_is_not_remembered(tmp_path: Path) -> None:
    taken = free_port()
    with ScriptedMember(http_member(), port=taken) as one:
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, web(taken, one.port))

            with pytest.raises(OperationFailed, match="Error starting haproxy"):
                await agent.start(LB)

            assert not agent.is_healthy
            assert not agent.sources()
            assert not (tmp_path / "lib" / LB / "active.cfg").exists()


@pytest.mark.asyncio
async def test_restore_serves_what_was_in_force_with_no_controller(tmp_path: Path) -> None:
    ports = [free_port(), free_port(), free_port()]
    with ScriptedMember(http_member(b"one")) as one, ScriptedMember(http_member(b"two")) as two:
        async with agent_of(tmp_path) as agent:
            for lb_id, port in ((LB, ports[0]), (OTHER, ports[1])):
                await agent.upload(AMPHORA, lb_id, web(port, one.port))
                await agent.start(lb_id)
            await agent.stop(OTHER)
            await agent.upload(AMPHORA, LB, web(ports[2], two.port))  # and never reloaded

        assert await asyncio.to_thread(refuses, ports[0])
        async with agent_of(tmp_path) as agent:
            assert await answer(ports[0]) == b"one"
            assert await asyncio.to_thread(refuses, ports[1])
            assert await asyncio.to_thread(refuses, ports[2])
            assert await agent.configuration(LB) == web(ports[2], two.port)
            assert [source.lb_id for source in agent.sources()] == [LB]
            assert await agent.reload(LB) == f"Listener {LB} reloaded"
            assert await answer(ports[2]) == b"two"


@pytest.mark.asyncio
async def test_restore_tries_again_what_cannot_be_started_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one:
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, web(port, one.port))
            await agent.start(LB)
        changed = asyncio.Event()
        with ScriptedMember(http_member(), port=port):
            found = LoadBalancers(settings(tmp_path), isolated=False)
            await found.restore()
            assert found.not_running() == [LB]
            assert not found.is_healthy
            assert [source.is_alive for source in found.sources()] == [False]
        found.on_change.append(changed.set)
        try:
            async with asyncio.timeout(10):
                await changed.wait()
            assert await answer(port) == b"one"
            assert found.is_healthy
        finally:
            await found.stop_all(0)


@pytest.mark.asyncio
async def test_delete_forgets_everything_and_may_be_repeated(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one:
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, web(port, one.port))
            await agent.start(LB)
            (tmp_path / "lib" / "certs" / LB).mkdir(parents=True)
            (tmp_path / "lib" / "certs" / LB / "a.pem").touch()

            for object_id in (LB, LB, UNKNOWN, "../../x"):
                await agent.delete(object_id)

            assert await asyncio.to_thread(refuses, port)
            assert on_disk(tmp_path / "lib") == {}
            with pytest.raises(NotFound):
                await agent.configuration(LB)


@pytest.mark.asyncio
async def test_unknown_objects_are_not_found_with_the_words_of_the_contract(tmp_path: Path) -> None:
    async with agent_of(tmp_path) as agent:
        for call in (agent.configuration, agent.start, agent.stop, agent.reload):
            for name in (UNKNOWN, "..", "x/../y"):
                with pytest.raises(NotFound) as caught:
                    await call(name)
                assert caught.value.message == "Loadbalancer Not Found"
                assert caught.value.details == f"No loadbalancer with UUID: {name}"
        with pytest.raises(NotFound) as caught:
            await agent.lvs_configuration(UNKNOWN)
        assert (caught.value.message, caught.value.details) == (
            "UDP Listener Not Found",
            f"No UDP listener with UUID: {UNKNOWN}",
        )


@pytest.mark.asyncio
async def test_entries_have_every_listener_of_stored_texts(tmp_path: Path) -> None:
    async with agent_of(tmp_path) as agent:
        text = lb_file(listener("a", free_port(), [], mode="http"), listener("b", free_port(), []))
        await agent.upload(AMPHORA, LB, text.encode())

        assert agent.entries() == [ListenerEntry("ACTIVE", "a", "HTTP"), ListenerEntry("ACTIVE", "b", "TCP")]


@pytest.mark.asyncio
@pytest.mark.parametrize(("topology", "announced"), [("SINGLE", [("127.0.0.1",)] * 2), ("ACTIVE_STANDBY", [])])
async def test_addresses_are_announced_after_start_and_reload_in_single_topology(
    tmp_path: Path, topology: str, announced: list[tuple[str, ...]]
) -> None:
    heard: list[tuple[str, ...]] = []

    async def announce(addresses: Sequence[str]) -> None:
        heard.append(tuple(addresses))

    async with agent_of(tmp_path, announce, topology=topology) as agent:
        await agent.upload(AMPHORA, LB, web(free_port(), free_port()))
        await agent.start(LB)
        await agent.reload(LB)
        await agent.stop(LB)

    assert heard == announced


@pytest.mark.asyncio
async def test_counters_go_on_over_reloads_and_are_what_heartbeats_read(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one:
        async with agent_of(tmp_path) as agent:
            for requests in range(1, 4):
                await agent.upload(AMPHORA, LB, web(port, one.port).replace(b"weight 1", b"weight %d" % requests))
                await agent.reload(LB)
                await answer(port)

                (source,) = agent.sources()
                assert source.board is not None
                (counted,) = source.board.listeners()
                assert counted.counters["requests"] == requests
                assert source.load_balancer.listeners[0].pools[0].members[0].weight == requests


@pytest.mark.asyncio
async def test_operations_that_overlap_all_end_well(tmp_path: Path) -> None:
    """The API lets one call at a time through; nothing here relies on it."""
    port = free_port()
    with NamingMembers([str(number) for number in range(8)]) as members:
        texts = [web(port, members.ports[str(number)]) for number in range(8)]
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, texts[0])
            await asyncio.gather(
                *(agent.upload(AMPHORA, LB, text) for text in texts), *(agent.reload(LB) for _ in texts)
            )

            await agent.reload(LB)

            stored = await agent.configuration(LB)
            assert stored in texts
            assert await answer(port) == str(texts.index(stored)).encode()


@pytest.mark.asyncio
async def test_change_is_told_when_the_data_plane_dies_and_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one:
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, web(port, one.port))
            await agent.start(LB)
            heard: asyncio.Queue[bool] = asyncio.Queue()
            agent.on_change.append(lambda: heard.put_nowait(agent.is_healthy))

            for _ in range(3):  # one that dies young again and again is not replaced at once
                (pid,) = await asyncio.to_thread(wait_until, lambda: agent.data_plane_pids)
                os.kill(pid, signal.SIGKILL)
                await asyncio.to_thread(wait_until, lambda pid=pid: pid not in agent.data_plane_pids)

            async with asyncio.timeout(10):
                assert not await heard.get()
                assert await heard.get()
            assert await answer(port) == b"one"


# --- UDP and SCTP ---

LVS = f"""# Configuration for Loadbalancer {LB}
# Configuration for Listener {OTHER}

net_namespace amphora-haproxy
"""


@pytest.mark.asyncio
async def test_lvs_text_is_stored_answered_and_honestly_not_carried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Octavia contract sections 1.5 (routes 9 to 12) and 3.4."""
    caplog.set_level(logging.WARNING)
    async with agent_of(tmp_path) as agent:
        await agent.upload_lvs(AMPHORA, OTHER, LVS.encode())
        assert await agent.lvs_configuration(OTHER) == LVS.encode()
        assert agent.entries() == [ListenerEntry("OFFLINE", OTHER, "UDP")]
        assert not agent.lvs_sources()

        assert await agent.start(OTHER) == f"keepalivedlvs listener {OTHER} started"
        assert await agent.reload(OTHER) == f"keepalivedlvs listener {OTHER} restarted"

        assert "not carried" in caplog.text
        assert [(source.listener_id, source.status) for source in agent.lvs_sources()] == [(OTHER, "DOWN")]
        assert [(one.id, one.is_started, one.is_carried) for one in agent.lvs_statuses()] == [(OTHER, True, False)]
        assert agent.lvs_count == 0
        assert not agent.is_healthy
    async with agent_of(tmp_path) as agent:
        assert [source.listener_id for source in agent.lvs_sources()] == [OTHER]
        assert await agent.stop(OTHER) == f"keepalivedlvs listener {OTHER} stoped"
        assert not agent.lvs_sources()
        await agent.delete(OTHER)
        assert on_disk(tmp_path / "lib") == {}


@pytest.mark.asyncio
async def test_disabled_lvs_listener_is_not_in_heartbeats(tmp_path: Path) -> None:
    """The listener count must not have it (Octavia contract section 3.4)."""
    async with agent_of(tmp_path) as agent:
        text = LVS.replace(f"# Configuration for Listener {OTHER}", f"# Listener {OTHER} is disabled")
        await agent.upload_lvs(AMPHORA, OTHER, text.encode())
        await agent.start(OTHER)

        assert not agent.lvs_sources()


@pytest.mark.asyncio
async def test_lvs_text_of_another_listener_or_none_is_refused(tmp_path: Path) -> None:
    async with agent_of(tmp_path) as agent:
        for name, body in ((UNKNOWN, LVS.encode()), (OTHER, b"garbage\xff"), (OTHER, b""), ("../x", LVS.encode())):
            with pytest.raises(Refused):
                await agent.upload_lvs(AMPHORA, name, body)

        assert on_disk(tmp_path / "lib") == {}


@pytest.mark.asyncio
async def test_text_in_force_that_cannot_be_read_any_more_is_a_failure_that_is_told(tmp_path: Path) -> None:
    """Left by another version, or damaged."""
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one:
        async with agent_of(tmp_path) as agent:
            await agent.upload(AMPHORA, LB, web(port, one.port))
            await agent.start(LB)
        (tmp_path / "lib" / LB / "active.cfg").write_bytes(b"garbage")

        async with agent_of(tmp_path) as agent:
            assert agent.not_running() == [LB]
            assert not agent.is_healthy
            assert await agent.reload(LB) == STARTED
            assert await answer(port) == b"one"
            assert agent.is_healthy


# --- an agent that died between the disk and the data plane ---


@pytest.mark.asyncio
async def test_death_between_disk_and_data_plane_is_made_good_by_the_next_restore(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one, ScriptedMember(http_member(b"two")) as two:
        first = LoadBalancers(settings(tmp_path), isolated=False)
        await first.restore()
        await first.upload(AMPHORA, LB, web(port, one.port))
        await first.start(LB)
        (pid,) = first.data_plane_pids
        await first.leave()
        (tmp_path / "lib" / LB / "active.cfg").write_bytes(web(port, two.port))

        async with agent_of(tmp_path) as agent:
            assert agent.data_plane_pids == [pid]
            assert await answer(port) == b"two"


@pytest.mark.asyncio
@pytest.mark.parametrize("deleted", ["active.cfg", "."])
async def test_data_plane_that_was_to_be_stopped_when_its_agent_died_is_ended(tmp_path: Path, deleted: str) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"one")) as one:
        first = LoadBalancers(settings(tmp_path), isolated=False)
        await first.restore()
        await first.upload(AMPHORA, LB, web(port, one.port))
        await first.start(LB)
        await first.leave()
        assert await answer(port) == b"one"
        if deleted == ".":
            shutil.rmtree(tmp_path / "lib" / LB)
        else:
            (tmp_path / "lib" / LB / deleted).unlink()

        async with agent_of(tmp_path) as agent:
            assert await asyncio.to_thread(refuses, port)
            assert not agent.data_plane_pids
            assert (tmp_path / "run" / LB).exists() == (deleted != ".")


@pytest.mark.asyncio
async def test_data_plane_that_cannot_be_adopted_with_its_text_serves_on_and_stop_reaches_it(tmp_path: Path) -> None:
    port, taken = free_port(), free_port()
    with ScriptedMember(http_member(b"one")) as one, ScriptedMember(http_member(), port=taken):
        first = LoadBalancers(settings(tmp_path), isolated=False)
        await first.restore()
        await first.upload(AMPHORA, LB, web(port, one.port))
        await first.start(LB)
        await first.leave()
        (tmp_path / "lib" / LB / "active.cfg").write_bytes(web(taken, one.port))

        async with agent_of(tmp_path) as agent:
            assert agent.not_running() == [LB]
            assert await answer(port) == b"one"

            await agent.stop(LB)

            assert await asyncio.to_thread(refuses, port)
