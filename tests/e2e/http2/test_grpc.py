"""gRPC through a TLS listener to a TLS pool: the real library on both ends."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.certificates import Authority
from tests.support.http_rig import BOTH
from tests.support.served import free_port
from tests.support.tls_members import pool_text, run_pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("grpc")
pytestmark = pytest.mark.timeout(120)
WAIT_S = 60.0
SERVICE = (sys.executable, "-m", "tests.support.grpc_service")

CALLS = {
    "unary": ["a!b", "told"],
    "server": ["a0", "a1", "a2"],
    "client": "a+b+c",
    "both": ["0!", "1!", "2!", "3!", "4!"],
    "fails": {"code": "FAILED_PRECONDITION", "details": "not today: 100 %", "trailing": {"x-why": "because"}},
    "late": {"code": "DEADLINE_EXCEEDED", "details": "Deadline Exceeded", "trailing": {}},
    "cancel": ["begun", "yes"],
    "large": (1 << 20) + 1,
    "many": [f"{number}!" for number in range(20)],
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[int]:
    """The port of a running service."""
    identity = Authority().issue("grpc.example", "grpc.example")
    certificate, key = tmp_path / "member.crt", tmp_path / "member.key"
    certificate.write_bytes(identity.certificate_pem)
    key.write_bytes(identity.key_pem)
    process = subprocess.Popen(
        [*SERVICE, "serve", str(certificate), str(key)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield int(process.stdout.readline())
        process.stdin.close()
        process.wait(WAIT_S)


def ask(port: int, roots: Path, call: str) -> Any:
    done = subprocess.run(
        [*SERVICE, "ask", str(port), str(roots), call], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("proxy", BOTH)
def test_calls_of_every_kind_come_through(proxy: str, tmp_path: Path, service: int) -> None:
    authority = Authority()
    (tmp_path / "listener.pem").write_bytes(authority.issue("grpc.example", "grpc.example").pem)
    (tmp_path / "list.pem").write_text(f"{tmp_path / 'listener.pem'}\n")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority.pem)
    port = free_port()
    text = pool_text(
        port,
        [f"127.0.0.1:{service} weight 1 ssl verify none alpn h2,http/1.1,http/1.0"],
        bind_options=f"ssl crt-list {tmp_path / 'list.pem'} alpn h2,http/1.1,http/1.0",
    )
    with run_pool(proxy, tmp_path, text):
        answers = {call: ask(port, roots, call) for call in CALLS}
    assert answers == CALLS
