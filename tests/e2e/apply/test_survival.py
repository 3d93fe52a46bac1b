"""A data plane that outlives its supervisor, and the next supervisor that takes it over, with traffic on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from amphorad.dialects.haproxy import Escaping
from amphorad.errors import ListenError
from amphorad.supervisor import AlreadyRunning, Options, Supervisor, read_configuration
from tests.conftest import open_descriptors
from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, echo, echoes, get, http_member, refuses
from tests.support.served import Served, exists, free_port, wait_until
from tests.support.traffic import Load, Members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from amphorad.model import LoadBalancer
    from amphorad.status import TransitionStatus

MONITOR = "    timeout check 1s\n"
CHECK = " check inter 1s fall 2 rise 1"


def text(http: int, tcp: int, ports: Sequence[int], *, weight: int = 1) -> str:
    lines = [member(port, weight=weight) for port in ports]
    return lb_file(listener("http", http, lines, mode="http"), listener("tcp", tcp, lines))


def model(written: str) -> LoadBalancer:
    return read_configuration(written, "lb.cfg", Escaping.INTENT)


def options(directory: Path, **more: object) -> Options:
    chosen: dict[str, object] = {"threads": 2, "grace_s": 0.2, "survive": True} | more
    return Options(state_dir=directory / "state", **chosen)  # type: ignore[arg-type]


async def kill_supervisor(served: Served) -> None:
    served.process.kill()
    await asyncio.to_thread(served.process.wait)


async def wait_ended(pid: int) -> None:
    await asyncio.to_thread(wait_until, lambda: not os.path.exists(f"/proc/{pid}/exe"))


@pytest.mark.asyncio
async def test_killed_supervisor_fails_no_request_and_the_next_one_goes_on(tmp_path: Path) -> None:
    http, tcp = free_port(), free_port()
    async with Members(6) as members:
        with Served(tmp_path, text(http, tcp, members.ports[:4]), "--survive") as served:
            pid = served.data_plane
            supervisor = Supervisor(options(tmp_path))
            try:
                async with Load(http, tcp, keep_alive=8, short=4, held=6) as load:
                    await load.wait_answered(300)
                    await kill_supervisor(served)
                    await load.wait_answered(600)

                    await supervisor.start(model(text(http, tcp, members.ports[:4])))
                    assert supervisor.data_plane_pid == pid
                    assert supervisor.status().generation == 1
                    await load.wait_answered(300)

                    receipt = await supervisor.apply(model(text(http, tcp, members.ports)))
                    assert receipt.generation == 2
                    assert "4 members added" in receipt.summary
                    await load.wait_answered(600)
            finally:
                await supervisor.stop(0.0)
            assert load.failures == []
            assert all(members.requests[port] for port in members.ports)
            await wait_ended(pid)
            assert await asyncio.to_thread(refuses, http)


@pytest.mark.asyncio
async def test_adopted_data_plane_that_is_killed_is_replaced(tmp_path: Path) -> None:
    """It is no child of the supervisor that notices, and keeps what the board knows."""
    port = free_port()
    with ScriptedMember(http_member()) as target:
        written = lb_file(listener("web", port, [member(target.port)], mode="http"))
        with Served(tmp_path, written, "--survive") as served:
            first = served.data_plane
            with await asyncio.to_thread(connect, port) as client:
                assert await asyncio.to_thread(get, client) == b"200 ok"
            await kill_supervisor(served)
        supervisor = Supervisor(options(tmp_path))
        try:
            await supervisor.start(model(written))
            assert supervisor.data_plane_pid == first

            os.kill(first, signal.SIGKILL)
            await asyncio.to_thread(wait_until, lambda: supervisor.data_plane_pid not in (0, first))

            with await asyncio.to_thread(connect, port) as client:
                assert await asyncio.to_thread(get, client) == b"200 ok"
            status = supervisor.status()
            assert status.data_plane.restarts == 1
            assert f"data plane died pid={first} exit code unknown" in status.alarms[0]
            assert status.listeners[0].counts.counters["requests"] == 2
        finally:
            await supervisor.stop(0.0)


@pytest.mark.asyncio
async def test_leave_and_adopt_20_times_leaks_nothing_and_fails_nothing(tmp_path: Path) -> None:
    http, tcp = free_port(), free_port()
    async with Members(3) as members:
        wanted = model(text(http, tcp, members.ports))
        supervisor = Supervisor(options(tmp_path))
        await supervisor.start(wanted)
        pid = supervisor.data_plane_pid
        try:
            async with Load(http, tcp, keep_alive=8, short=4, held=6) as load:
                here, there = [], []
                for _time in range(20):
                    await load.wait_answered(30)
                    await supervisor.leave()
                    here.append(len([what for what in open_descriptors().values() if "socket" not in what]))
                    there.append(len([each for each in descriptors_of(pid) if "socket" not in each or "unix" in each]))
                    await load.wait_answered(30)
                    supervisor = Supervisor(options(tmp_path))
                    await supervisor.start(wanted)
                    assert supervisor.data_plane_pid == pid
            assert load.failures == []
            assert len(set(here[1:])) == 1, here
            assert len(set(there[1:])) == 1, there
        finally:
            await supervisor.stop(0.0)


def descriptors_of(pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    return found


@pytest.mark.asyncio
async def test_adoption_with_a_changed_configuration_applies_it(tmp_path: Path) -> None:
    port, other = free_port(), free_port()
    with ScriptedMember(echo) as held, ScriptedMember(http_member(b"new")) as target:
        before = lb_file(listener("tcp", port, [member(held.port)]))
        after = lb_file(
            listener("tcp", port, [member(held.port)]), listener("web", other, [member(target.port)], mode="http")
        )
        supervisor = Supervisor(options(tmp_path))
        await supervisor.start(model(before))
        pid = supervisor.data_plane_pid
        with await asyncio.to_thread(connect, port) as client:
            assert await asyncio.to_thread(echoes, client)
            await supervisor.leave()
            assert await asyncio.to_thread(echoes, client)

            supervisor = Supervisor(options(tmp_path))
            try:
                await supervisor.start(model(after))

                assert supervisor.data_plane_pid == pid
                assert supervisor.status().generation == 2
                assert await asyncio.to_thread(echoes, client)
                with await asyncio.to_thread(connect, other) as web:
                    assert await asyncio.to_thread(get, web) == b"200 new"
            finally:
                await supervisor.stop(0.0)


@pytest.mark.asyncio
async def test_adoption_with_an_address_that_is_taken_leaves_the_old_one_serving(tmp_path: Path) -> None:
    port, taken = free_port(), free_port()
    with ScriptedMember(http_member()) as target, ScriptedMember(echo) as owner:
        taken = owner.port
        before = lb_file(listener("web", port, [member(target.port)], mode="http"))
        after = lb_file(listener("web", port, [member(target.port)], mode="http"), listener("t", taken, [member(1)]))
        supervisor = Supervisor(options(tmp_path))
        await supervisor.start(model(before))
        pid = supervisor.data_plane_pid
        await supervisor.leave()

        second = Supervisor(options(tmp_path))
        with pytest.raises(ListenError):
            await second.start(model(after))
        await second.stop(0.0)

        third = Supervisor(options(tmp_path))
        try:
            with await asyncio.to_thread(connect, port) as client:
                assert await asyncio.to_thread(get, client) == b"200 ok"
            await third.start(model(before))
            assert third.data_plane_pid == pid
        finally:
            await third.stop(0.0)


@pytest.mark.asyncio
async def test_other_settings_are_taken_by_a_successor_without_a_failed_request(tmp_path: Path) -> None:
    """As for another release: the process itself has to be another one."""
    http, tcp = free_port(), free_port()
    async with Members(3) as members:
        wanted = model(text(http, tcp, members.ports))
        supervisor = Supervisor(options(tmp_path, threads=1))
        await supervisor.start(wanted)
        first = supervisor.data_plane_pid
        # sessions that are held stay with the old process, which is there as long as they are
        async with Load(http, tcp, keep_alive=4, short=4, held=4) as load:
            await load.wait_answered(200)
            counted = supervisor.status().listeners[0].counts.counters["requests"]
            await supervisor.leave()
            supervisor = Supervisor(options(tmp_path, threads=2))
            await supervisor.start(wanted)
            second = supervisor.data_plane_pid
            assert second != first
            assert exists(first)
            await load.wait_answered(400)
        try:
            assert load.failures == []
            await wait_ended(first)
            status = supervisor.status()
            assert status.data_plane.threads == 2
            assert status.listeners[0].counts.counters["requests"] > counted > 0  # nothing began again
        finally:
            await supervisor.stop(0.0)


@pytest.mark.asyncio
async def test_idle_client_of_a_succeeded_data_plane_gets_one_more_answer(tmp_path: Path) -> None:
    """It may have sent its request already when its connection would be closed."""
    http, tcp = free_port(), free_port()
    async with Members(1) as members:
        wanted = model(text(http, tcp, members.ports))
        supervisor = Supervisor(options(tmp_path, threads=1))
        await supervisor.start(wanted)
        first = supervisor.data_plane_pid
        reader, writer = await asyncio.open_connection("127.0.0.1", http)
        with contextlib.closing(writer):
            heads = [await asked(reader, writer)]
            await supervisor.leave()
            supervisor = Supervisor(options(tmp_path, threads=2))
            await supervisor.start(wanted)
            try:
                # the old one hears of its end a moment after the new one serves
                while "connection: close" not in heads[-1]:
                    heads.append(await asked(reader, writer))
                assert await reader.read() == b""
                await wait_ended(first)
            finally:
                await supervisor.stop(0.0)

    assert "connection: close" not in heads[0]


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The head of the answer to one request, in small letters."""
    writer.write(b"GET / HTTP/1.1\r\nHost: lb\r\n\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    assert head.startswith("http/1.1 200 ")
    return head


@pytest.mark.asyncio
async def test_second_supervisor_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        wanted = model(lb_file(listener("tcp", port, [member(target.port)])))
        first, second = Supervisor(options(tmp_path)), Supervisor(options(tmp_path))
        try:
            await first.start(wanted)
            with pytest.raises(AlreadyRunning):
                await second.start(wanted)
            await second.stop(0.0)
            with await asyncio.to_thread(connect, port) as client:
                assert await asyncio.to_thread(echoes, client)
        finally:
            await first.stop(0.0)


@pytest.mark.asyncio
async def test_survivor_is_ended_on_demand(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        supervisor = Supervisor(options(tmp_path))
        await supervisor.start(model(lb_file(listener("tcp", port, [member(target.port)]))))
        pid = supervisor.data_plane_pid
        await supervisor.leave()

        assert await Supervisor(options(tmp_path)).end_survivor()

        assert await asyncio.to_thread(refuses, port)
        await wait_ended(pid)
        assert not await Supervisor(options(tmp_path)).end_survivor()
        assert not (tmp_path / "state/adoption.sock").exists()


def test_killed_supervisor_without_survive_ends_the_data_plane(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        with Served(tmp_path, lb_file(listener("tcp", port, [member(target.port)]))) as served:
            pid = served.data_plane
            served.process.kill()
            served.process.wait()
            wait_until(lambda: not os.path.exists(f"/proc/{pid}/exe"))
            assert refuses(port)


@pytest.mark.asyncio
async def test_silent_stranger_on_the_adoption_socket_costs_the_next_supervisor_nothing_but_time(
    tmp_path: Path,
) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        wanted = model(lb_file(listener("tcp", port, [member(target.port)])))
        supervisor = Supervisor(options(tmp_path))
        await supervisor.start(wanted)
        pid = supervisor.data_plane_pid
        await supervisor.leave()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(tmp_path / "state/adoption.sock"))
            with await asyncio.to_thread(connect, port) as client:
                assert await asyncio.to_thread(echoes, client)
        supervisor = Supervisor(options(tmp_path))
        try:
            await supervisor.start(wanted)
            assert supervisor.data_plane_pid == pid
        finally:
            await supervisor.stop(0.0)


@pytest.mark.asyncio
async def test_data_plane_that_hangs_is_ended_by_the_next_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amphorad.adoption.ANSWER_S", 0.5)
    port = free_port()
    with ScriptedMember(echo) as target:
        wanted = model(lb_file(listener("tcp", port, [member(target.port)])))
        supervisor = Supervisor(options(tmp_path))
        await supervisor.start(wanted)
        pid = supervisor.data_plane_pid
        await supervisor.leave()
        os.kill(pid, signal.SIGSTOP)

        supervisor = Supervisor(options(tmp_path))
        try:
            await supervisor.start(wanted)

            assert supervisor.data_plane_pid not in (0, pid)
            assert supervisor.status().alarms[0].endswith(f"data plane pid={pid} does not answer, killed")
            with await asyncio.to_thread(connect, port) as client:
                assert await asyncio.to_thread(echoes, client)
        finally:
            await supervisor.stop(0.0)


@pytest.mark.asyncio
async def test_orphan_goes_on_checking_and_the_next_supervisor_sees_what_it_found(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(http_member(b"stays")) as stays, contextlib.ExitStack() as until_it_goes:
        goes = until_it_goes.enter_context(ScriptedMember(http_member(b"goes")))
        lines = [member(each.port).replace("\n", CHECK + "\n") for each in (stays, goes)]
        wanted = model(lb_file(listener("web", port, lines, mode="http", monitor=MONITOR)))
        supervisor = Supervisor(options(tmp_path))
        await supervisor.start(wanted)
        await supervisor.leave()

        until_it_goes.close()
        await asyncio.sleep(3.2)  # one check per second, two must fail; nobody is there to tell
        answers = [await asyncio.to_thread(answer_of, port) for _time in range(4)]
        assert answers == [b"200 stays"] * 4

        supervisor = Supervisor(options(tmp_path))
        try:
            await supervisor.start(wanted)
            await asyncio.to_thread(wait_until, lambda: history_of(supervisor, goes.port))
            (down,) = history_of(supervisor, goes.port)
            assert not down.up
            await supervisor.leave()
            supervisor = Supervisor(options(tmp_path))
            await supervisor.start(wanted)
            assert history_of(supervisor, goes.port) == (down,)  # told again, once
        finally:
            await supervisor.stop(0.0)


def answer_of(port: int) -> bytes:
    with connect(port) as client:
        return get(client)


def history_of(supervisor: Supervisor, port: int) -> tuple[TransitionStatus, ...]:
    pool = supervisor.status().listeners[0].pools[0]
    return next(each.history for each in pool.members if each.id == f"m{port}")


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_supervisor_killed_at_any_instant_of_a_start_leaves_one_data_plane_or_none(tmp_path: Path) -> None:
    """Each start has other settings, so each one that finds a data plane also succeeds it."""
    port = free_port()
    with ScriptedMember(echo) as target:
        written = lb_file(listener("tcp", port, [member(target.port)]))
        wanted = model(written)
        survived, start_s = 0, 0.0
        (tmp_path / "lb.cfg").write_text(written)
        for number in range(14):
            command = [sys.executable, "-m", "amphorad", "serve", "-f", str(tmp_path / "lb.cfg"), "--survive"]
            arguments = ["--state-dir", str(tmp_path / "state"), "--threads", str(1 + number % 2), "--grace", "0.2"]
            began = time.monotonic()
            process = await asyncio.create_subprocess_exec(
                *command, *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if number:
                await asyncio.sleep(start_s * (0.4 + number / 14))  # from the imports to the steady state
            else:
                await asyncio.to_thread(wait_until, lambda: is_answered(port))
                start_s = time.monotonic() - began
            process.kill()
            await process.wait()
            survived += await asyncio.to_thread(is_answered, port)

        print(f"{survived} of 14 left one that serves")
        supervisor = Supervisor(options(tmp_path))
        await supervisor.start(wanted)
        try:
            assert await asyncio.to_thread(is_answered, port)
            only = {os.getpid(), supervisor.data_plane_pid}
            await asyncio.to_thread(wait_until, lambda: processes_that_listen(port) == only)
        finally:
            await supervisor.stop(0.0)
        assert await asyncio.to_thread(refuses, port)
        assert not await Supervisor(options(tmp_path)).end_survivor()
        assert survived > 0


def processes_that_listen(port: int) -> set[int]:
    """Processes with a descriptor of a socket that listens on that port of 127.0.0.1."""
    address = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1] == address and row[3] == "0A"}
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(link_of(each) in sockets for each in (process / "fd").iterdir()):
                found.add(int(process.name))
    return found


def link_of(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:  # closed since it was listed, as the one that listed it
        return ""


def is_answered(port: int) -> bool:
    try:
        with connect(port) as client:
            return echoes(client)
    except OSError:
        return False


@pytest.mark.asyncio
async def test_supervisor_that_hangs_costs_no_request_and_no_check(tmp_path: Path) -> None:
    http, tcp = free_port(), free_port()
    async with Members(3) as members:
        with Served(tmp_path, text(http, tcp, members.ports), "--survive") as served:
            pid = served.data_plane
            async with Load(http, tcp, keep_alive=8, short=4, held=6) as load:
                await load.wait_answered(100)
                served.process.send_signal(signal.SIGSTOP)
                await load.wait_answered(500)
                served.process.send_signal(signal.SIGCONT)
                await load.wait_answered(100)
            assert load.failures == []
            assert served.data_plane == pid


@pytest.mark.asyncio
async def test_stale_adoption_socket_is_replaced(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        wanted = model(lb_file(listener("tcp", port, [member(target.port)])))
        supervisor = Supervisor(options(tmp_path))
        await supervisor.start(wanted)
        pid = supervisor.data_plane_pid
        await supervisor.leave()
        os.kill(pid, signal.SIGKILL)
        assert (tmp_path / "state/adoption.sock").is_socket()

        supervisor = Supervisor(options(tmp_path))
        try:
            await supervisor.start(wanted)
            assert supervisor.data_plane_pid != pid
            assert await asyncio.to_thread(is_answered, port)
        finally:
            await supervisor.stop(0.0)


@pytest.mark.asyncio
@pytest.mark.netns
async def test_unprivileged_data_plane_is_adopted_and_talks_to_root_alone(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedMember(echo) as target:
        wanted = model(lb_file(listener("tcp", port, [member(target.port)])))
        supervisor = Supervisor(options(tmp_path, user="nobody"))
        await supervisor.start(wanted)
        pid = supervisor.data_plane_pid
        await supervisor.leave()
        path = tmp_path / "state/adoption.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_uid == 0
        # even somebody who got past the modes of file and directory is turned away
        for directory in (path, *path.parents[:-2]):
            directory.chmod(0o777)
        assert await asyncio.to_thread(ask_as_nobody, path) == "refused"

        supervisor = Supervisor(options(tmp_path, user="nobody"))
        try:
            await supervisor.start(wanted)
            assert supervisor.data_plane_pid == pid
        finally:
            await supervisor.stop(0.0)


def ask_as_nobody(path: Path) -> str:
    program = (
        "import os, socket, sys\n"
        "client = socket.socket(socket.AF_UNIX)\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "client.connect(sys.argv[1])\n"
        "client.settimeout(5)\n"
        'body = b\'{"type":"adopt","version":2}\'\n'
        "try: client.sendall(len(body).to_bytes(4, 'big') + body); answer = client.recv(1)\n"
        "except ConnectionError: answer = b''\n"
        "print('answered' if answer else 'refused')\n"
    )
    found = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    return found.stdout.strip()
