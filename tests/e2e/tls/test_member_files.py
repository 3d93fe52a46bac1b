"""Files of TLS pools that only root may read: an unprivileged data plane speaks and checks with them."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import TYPE_CHECKING

import pytest

from amphorad.dialects.haproxy import Escaping
from amphorad.supervisor import Options, Supervisor, read_configuration
from tests.support.certificates import Authority
from tests.support.scripted_member import connect, read_response
from tests.support.served import free_port, wait_until
from tests.support.tls_members import TlsMember, member_context, pool_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from amphorad.model import LoadBalancer

pytestmark = [pytest.mark.netns, pytest.mark.timeout(60)]
HTTPS = "    timeout check 5000\n    option httpchk GET /x/1\n    http-check expect rstatus 200\n"
CHECKED = "check inter 200ms fall 1 rise 1"


class Rig:
    """A member that demands a certificate, in front of it a pool whose files have mode 0600."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority()
        self.identity = self.authority.issue("m")
        self.port = free_port()
        for name, content in (
            ("root.pem", self.authority.pem),
            ("crl.pem", self.authority.revoke()),
            ("client.pem", self.authority.issue("balancer").pem),
        ):
            self.write(name, content)
        context = member_context(self.identity, directory, verify_mode=ssl.CERT_REQUIRED)
        context.load_verify_locations(directory / "root.pem")
        self.member = TlsMember(context)

    def write(self, name: str, content: bytes) -> None:
        path = self.directory / name
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_bytes(content)

    def wanted(self, check: str, backend: str) -> LoadBalancer:
        options = f"ssl crt {self.directory}/client.pem ca-file {self.directory}/root.pem "
        options += f"crl-file {self.directory}/crl.pem verify required"
        text = pool_text(
            self.port, [f"127.0.0.1:{self.member.port} weight 1 {check} {options}"], backend=backend, retries=0
        )
        return read_configuration(text, "lb.cfg", Escaping.INTENT)

    def status(self) -> int:
        with connect(self.port) as client:
            client.sendall(b"GET /x/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return int(read_response(client).split()[0])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    found = Rig(tmp_path)
    with found.member:
        yield found


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("check", "backend"),
    [("", ""), (CHECKED, "    timeout check 5000\n"), (CHECKED.replace("check", "check check-ssl verify none"), HTTPS)],
    ids=["traffic", "TLS-HELLO", "HTTPS"],
)
async def test_files_that_the_data_plane_may_not_open_are_used(rig: Rig, check: str, backend: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a data plane another user")
    supervisor = Supervisor(Options(state_dir=rig.directory / "state", threads=1, grace_s=0.0, user="nobody"))
    try:
        await supervisor.start(rig.wanted(check, backend))
        if check:
            before = len(rig.member.visits)
            await asyncio.to_thread(wait_until, lambda: len(rig.member.visits) > before + 3)
            assert all(visit.failure is None or "closed" in visit.failure for visit in rig.member.visits[:-1])
        assert await asyncio.to_thread(rig.status) == 200

        rig.write("crl.pem", rig.authority.revoke(rig.identity))
        await supervisor.apply(rig.wanted(check, backend))
        assert await asyncio.to_thread(rig.status) == 503
    finally:
        await supervisor.stop(0.0)
