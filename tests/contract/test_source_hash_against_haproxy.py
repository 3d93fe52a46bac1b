"""`source_ip_hash` sends every client where the real HAProxy's `balance source` sends it (Octavia contract section 4.10.1)."""

from __future__ import annotations

import ipaddress
import os
import random
import selectors
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeAlias

import pytest

from amphorad.algorithms.built_picker import BuiltPicker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")

pytestmark = [pytest.mark.haproxy, pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

TIMEOUT_S = 5.0
CLIENTS = 80


def _listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    listener.settimeout(TIMEOUT_S)
    return listener


@contextmanager
def _members(count: int) -> Iterator[list[int]]:
    """Ports of `count` servers, each of which tells its number to whoever connects."""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        stop, stopped = (stack.enter_context(end) for end in socket.socketpair())
        selector.register(stopped, selectors.EVENT_READ, -1)
        listeners = [stack.enter_context(_listen()) for _ in range(count)]
        for number, listener in enumerate(listeners):
            selector.register(listener, selectors.EVENT_READ, number)

        def serve() -> None:
            while True:
                for key, _ in selector.select():
                    if key.data == -1:
                        return
                    connection, _ = listeners[key.data].accept()
                    with connection:
                        connection.sendall(b"%d" % key.data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield [listener.getsockname()[1] for listener in listeners]
        finally:
            stop.send(b".")
            thread.join()


@contextmanager
def _haproxy(directory: Path, weights: list[int], options: list[str]) -> Iterator[tuple[int, int]]:
    """A running HAProxy over one server per weight: its port, and one that takes the client address from a PROXY line."""
    with ExitStack() as stack:
        ports = stack.enter_context(_members(len(weights)))
        plain, proxied = (stack.enter_context(_listen()) for _ in range(2))
        servers = "".join(
            f"    server m{number} 127.0.0.1:{port} weight {weight} {option}\n"
            for number, (port, weight, option) in enumerate(zip(ports, weights, options, strict=True))
        )
        configuration = directory / "haproxy.cfg"
        configuration.write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend clients
    bind fd@{plain.fileno()}
    bind fd@{proxied.fileno()} accept-proxy
    default_backend pool
backend pool
    balance source
    option allbackups
{servers}""")
        process = subprocess.Popen(
            [str(HAPROXY), "-db", "-f", str(configuration)],
            pass_fds=[plain.fileno(), proxied.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield plain.getsockname()[1], proxied.getsockname()[1]
        finally:
            process.kill()
            process.wait()


def _ask(port: int, *, source: str = "127.0.0.1", first: bytes = b"") -> int:
    """The number of the server that answers."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S, source_address=(source, 0)) as connection:
        connection.sendall(first)
        answer = b""
        while part := connection.recv(16):
            answer += part
    return int(answer)


def _proxy_line(address: Address) -> bytes:
    family, local = ("TCP4", "192.0.2.1") if address.version == 4 else ("TCP6", "2001:db8::1")
    return f"PROXY {family} {address} {local} 40000 80\r\n".encode()


POOLS = {
    "equal": ([1, 1, 1], ["", "", ""]),
    "small weights": ([1, 2, 3], ["", "", ""]),
    "with a common divisor": ([20, 10, 30, 40], ["", "", "", ""]),
    "far apart": ([256, 1, 100], ["", "", ""]),
    "many": ([3, 3, 2, 9, 4, 1, 7, 11], [""] * 8),
    "single": ([7], [""]),
    "one disabled, which changes the divisor": ([4, 3, 2, 6], ["", "disabled", "", ""]),
    "one usable": ([4, 3], ["disabled", ""]),
    "one drained": ([4, 0, 3], ["", "", ""]),
    "only backups left": ([2, 3, 5], ["disabled", "backup", "backup"]),
}


@pytest.mark.parametrize("pool", POOLS)
def test_source_hash_same_member_as_haproxy(pool: str, tmp_path: Path) -> None:
    weights, options = POOLS[pool]
    usable = [number for number, weight in enumerate(weights) if weight and options[number] != "disabled"]
    picker = BuiltPicker("source_ip_hash", [weights[number] for number in usable])
    dice = random.Random(pool)
    local = [ipaddress.IPv4Address(0x7F000001 + dice.randrange(0xFFFF00)) for _ in range(CLIENTS)]
    remote: list[Address] = [ipaddress.IPv4Address(dice.randrange(1 << 32)) for _ in range(CLIENTS)]
    remote += [ipaddress.IPv6Address(f"::ffff:{address}") for address in remote[:10]]
    remote += [ipaddress.IPv6Address(dice.randrange(1 << 128)) for _ in range(CLIENTS)]

    with _haproxy(tmp_path, weights, options) as (plain, proxied):
        theirs: dict[Address, int] = {address: _ask(plain, source=str(address)) for address in local}
        for address in remote:
            theirs[address] = _ask(proxied, first=_proxy_line(address))

    ours = {address: usable[picker.pick(address.packed)] for address in theirs}
    assert ours == theirs
