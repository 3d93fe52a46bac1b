"""A data plane in a network namespace and without privileges: it serves, and it has nothing left."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from amphorad.dialects.haproxy import Escaping
from amphorad.errors import ListenError
from amphorad.namespace_entry import call_inside, enter
from amphorad.supervisor import NotStarted, Options, Supervisor, read_configuration
from tests.support.lb_file import lb_file, listener, member
from tests.support.scripted_member import ScriptedMember, connect, get, http_member, refuses
from tests.support.served import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from amphorad.model import LoadBalancer

pytestmark = pytest.mark.netns


@contextmanager
def network_namespace() -> Iterator[Path]:
    """An own one with loopback up."""
    name = f"amphorad-confined-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def web(port: int, target: int) -> LoadBalancer:
    text = lb_file(listener("web", port, [member(target)], mode="http"))
    return read_configuration(text, "lb.cfg", Escaping.INTENT)


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}


def open_files_limit(pid: int) -> str:
    return next(
        line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max open files")
    )


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def eventually(fact: Callable[[], object]) -> object:
    return await asyncio.to_thread(wait_until, fact)


def options(directory: Path, **more: object) -> Options:
    return Options(state_dir=directory / "state", threads=1, grace_s=0.0, **more)  # type: ignore[arg-type]


@pytest.mark.asyncio
async def test_listeners_and_members_are_those_of_the_namespace(tmp_path: Path) -> None:
    port = free_port()
    with network_namespace() as namespace:
        with call_inside(namespace, lambda: ScriptedMember(http_member())) as target:
            supervisor = Supervisor(options(tmp_path, namespace=namespace))
            here = os.readlink("/proc/self/ns/net")
            try:
                await supervisor.start(web(port, target.port))

                assert os.readlink("/proc/self/ns/net") == here
                assert os.readlink(f"/proc/{supervisor.data_plane_pid}/ns/net") != here
                assert await asyncio.to_thread(refuses, port)
                with await asyncio.to_thread(call_inside, namespace, lambda: connect(port)) as client:
                    assert await asyncio.to_thread(get, client) == b"200 ok"
            finally:
                await supervisor.stop(0.0)


@pytest.mark.asyncio
async def test_data_plane_in_a_namespace_sees_all_file_systems_read_only(tmp_path: Path) -> None:
    port = free_port()
    with network_namespace() as namespace:
        with call_inside(namespace, lambda: ScriptedMember(http_member())) as target:
            supervisor = Supervisor(options(tmp_path, namespace=namespace, user="nobody"))
            try:
                await supervisor.start(web(port, target.port))

                mounts, own = mounts_of(supervisor.data_plane_pid), mounts_of(os.getpid())
                with await asyncio.to_thread(call_inside, namespace, lambda: connect(port)) as client:
                    assert await asyncio.to_thread(get, client) == b"200 ok"
            finally:
                await supervisor.stop(0.0)

    assert {"ro", "nosuid"} <= set.intersection(*mounts)
    assert any("rw" in options for options in own)  # of this process nothing has changed


def mounts_of(pid: int) -> list[set[str]]:
    """The options of each mount point; source: proc_pid_mountinfo(5)."""
    return [set(line.split()[5].split(",")) for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]


@pytest.mark.asyncio
async def test_missing_namespace_refuses_to_start(tmp_path: Path) -> None:
    supervisor = Supervisor(options(tmp_path, namespace=Path("/run/netns/amphorad-is-not-there")))

    with pytest.raises(ListenError, match="No such file"):
        await supervisor.start(web(free_port(), 1))

    await supervisor.stop(0.0)


def test_enter_of_a_file_that_is_no_namespace_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match="Invalid argument"):
        enter(tmp_path / "file")


@pytest.mark.asyncio
async def test_data_plane_and_spare_are_unprivileged_and_serve(tmp_path: Path) -> None:
    port = free_port()
    nobody = pwd.getpwnam("nobody")
    with ScriptedMember(http_member()) as target:
        supervisor = Supervisor(options(tmp_path, user="nobody"))
        try:
            await supervisor.start(web(port, target.port))
            first = supervisor.data_plane_pid
            spare = await eventually(
                lambda: (pid := supervisor.status().data_plane.spare) and name_of(pid) == "amphorad-spare" and pid
            )
            assert isinstance(spare, int)

            for pid in (first, spare):
                found = status_of(pid)
                assert found["Uid"].split() == [str(nobody.pw_uid)] * 4
                assert found["Gid"].split() == [str(nobody.pw_gid)] * 4
                assert found["Groups"] == ""
                assert found["NoNewPrivs"] == "1"
                assert {int(found[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
                assert (
                    os.stat(f"/proc/{pid}/fd").st_uid == 0
                )  # not dumpable: no other process of that user looks into it
                assert open_files_limit(pid) == open_files_limit(os.getpid())

            os.kill(first, signal.SIGKILL)
            await eventually(lambda: supervisor.data_plane_pid == spare)
            with await asyncio.to_thread(connect, port) as client:
                assert await asyncio.to_thread(get, client) == b"200 ok"
            assert not [alarm for alarm in supervisor.status().alarms if "spare" in alarm]
        finally:
            await supervisor.stop(0.0)


@pytest.mark.asyncio
async def test_unknown_user_refuses_to_start(tmp_path: Path) -> None:
    supervisor = Supervisor(options(tmp_path, user="amphorad-is-not-there"))

    with pytest.raises(NotStarted):
        await supervisor.start(web(free_port(), 1))

    await supervisor.stop(0.0)


def test_user_cannot_be_left_again() -> None:
    """A process of its own, because there is no way back."""
    program = (
        "import os; from amphorad.privileges import drop_to; drop_to('nobody')\n"
        "for act in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setgroups([0]), lambda: drop_to('root')):\n"
        "    try: act()\n"
        "    except PermissionError: continue\n"
        "    raise SystemExit('came back')\n"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (found.returncode, found.stderr) == (0, "")
