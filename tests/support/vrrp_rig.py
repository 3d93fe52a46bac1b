"""Two nodes and a client on one bridge, each in a namespace, with a real data plane in each node.

    with Pair(tmp_path) as pair:
        pair.a.namespace, pair.a.text, pair.client()

A node's `amphorad serve` listens on the VIP and has one member in the same namespace, which answers with the node's name. Nothing here starts
keepalived: the tests do, with `Vrrp` or with the program alone.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from amphorad.admin import Client
from tests.support.keepalived_render import render_vrrp, subnet
from tests.support.lb_file import lb_file, listener, member

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VIP", "VIP6", "Answers", "Node", "Pair", "VipClient", "busy", "inside", "ip", "require_namespaces"]

VIP = "10.99.0.10"
VIP6 = "fd99::10"
PORT = 8080
_SUPPORT = Path(__file__).parent
_WAIT_S = 15.0


def ip(*arguments: str, namespace: str | None = None) -> str:
    command = ["ip", *(["-n", namespace] if namespace else []), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def require_namespaces() -> None:
    """Skips where no namespace can be made, with the system's reason."""
    name = f"try{secrets.token_hex(3)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no network namespaces: {made.stderr.strip()}")
    ip("netns", "del", name)


def inside(namespace: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{namespace}"]


class Answers:
    """What a `VipClient` saw: pairs of when a request was sent and when its good answer was there (None: never)."""

    def __init__(self, results: list[tuple[float, float | None]]) -> None:
        self.results = sorted(results)

    @property
    def failed(self) -> int:
        return sum(1 for _began, done in self.results if done is None)

    @property
    def longest_gap_s(self) -> float:
        """Between two good answers one after the other; infinite when there was none after the last failure."""
        good = sorted(done for _began, done in self.results if done is not None)
        return max((later - earlier for earlier, later in itertools.pairwise(good)), default=float("inf"))


class VipClient:
    """One request per 10 ms from the client's namespace, until `end`."""

    def __init__(self, namespace: str, address: str) -> None:
        command = [*inside(namespace), sys.executable, str(_SUPPORT / "vip_client.py"), address, str(PORT)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        assert select.select([self._output], [], [], _WAIT_S)[0], "no good answer from the VIP"
        assert self._output.readline() == "ready\n"

    def __enter__(self) -> VipClient:
        return self

    def __exit__(self, *_unused: object) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()

    def end(self) -> Answers:
        self._process.send_signal(signal.SIGTERM)
        answers = Answers([tuple(pair) for pair in json.loads(self._output.readline())])
        self._process.wait(_WAIT_S)
        return answers


class Node:
    """One of the pair: its namespace, its data plane, and its files."""

    def __init__(self, pair: Pair, name: str, number: int, peer: int, priority: int, directory: Path) -> None:
        self.name = name
        self.namespace = f"{pair.prefix}{name}"
        self.port_of_switch = f"{pair.prefix}v{name}"
        self._switch = pair.switch
        self.address = f"10.99.0.{number}"
        self.base_path = directory / "lib"
        self.state_dir = directory / "run"
        self.serve_dir = directory / "serve"
        self.base_path.mkdir(parents=True)
        self._directory = directory
        self._processes: list[subprocess.Popen[str]] = []
        self._peer = f"10.99.0.{peer}"
        self._priority = priority

    def text(self, **changes: Any) -> str:
        """The file that the real controller would send to this node."""
        arguments: dict[str, Any] = {
            "own": self.address,
            "peers": [self._peer],
            "vips": [(VIP, subnet("10.99.0.0/24", "10.99.0.1")), (VIP6, subnet("fd99::/64"))],
            "base_path": str(self.base_path),
            "priority": self._priority,
        }
        return render_vrrp(**(arguments | changes))

    def serve(self, *options: str) -> None:
        """Starts the data plane and its member."""
        self._spawn([sys.executable, str(_SUPPORT / "member_server.py"), "9000", self.name], "member")
        file = self._directory / "lb.cfg"
        file.write_text(lb_file(listener("web", PORT, [member(9000)], mode="http", binds=[(VIP, PORT), (VIP6, PORT)])))
        serve = [sys.executable, "-m", "amphorad", "serve", "-f", str(file), "--free-bind", "--threads", "1"]
        self._spawn([*serve, "--state-dir", str(self.serve_dir), "--grace", "0", *options], "serve")

    def _spawn(self, command: list[str], log: str) -> None:
        with (self._directory / f"{log}.log").open("w") as errors:
            process = subprocess.Popen(
                [*inside(self.namespace), *command], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready"), (self._directory / f"{log}.log").read_text()

    @property
    def supervisor(self) -> int:
        """Process id of `amphorad serve`."""
        return self._processes[1].pid

    def data_plane(self) -> int:
        """Process id of the data plane, 0 while there is none."""
        with Client(self.serve_dir / "admin.sock") as client:
            pid: int = client.status().data_plane.pid  # type: ignore[attr-defined,unused-ignore]
        return pid

    def has(self, address: str = VIP) -> bool:
        """Whether the VIP is on the interface."""
        return f" {address}/" in ip("-o", "address", "show", "dev", "eth1", namespace=self.namespace)

    def on_loopback(self, address: str = VIP) -> bool:
        return f" {address}/" in ip("-o", "address", "show", "dev", "lo", namespace=self.namespace)

    def silence(self) -> None:
        """Everything of this node is lost in the bridge from now on, and nobody is told."""
        port = self.port_of_switch
        chain = f'type filter hook forward priority 0; policy accept; iifname "{port}" drop; oifname "{port}" drop;'
        rules = f"table bridge {self.namespace} {{ chain drops {{ {chain} }}; }}"
        command = [*inside(self._switch), "nft", rules]
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        for pid in ip(
            "netns", "pids", self.namespace
        ).split():  # what a failed test has left: keepalived outlives its agent
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


class Pair:
    """The namespaces, made on entry and removed at the end."""

    def __init__(self, directory: Path) -> None:
        self.prefix = f"ap{secrets.token_hex(3)}"
        self.switch = f"{self.prefix}s"
        self._client = f"{self.prefix}c"
        self.a = Node(self, "a", 11, 12, 100, directory / "a")
        self.b = Node(self, "b", 12, 11, 90, directory / "b")

    def __enter__(self) -> Pair:
        require_namespaces()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self) -> None:
        for name in (self.switch, self.a.namespace, self.b.namespace, self._client):
            ip("netns", "add", name)
            ip("link", "set", "lo", "up", namespace=name)
        ip("link", "add", "bridge0", "type", "bridge", namespace=self.switch)
        ip("link", "set", "bridge0", "up", namespace=self.switch)
        ports = [(self.a.namespace, self.a.port_of_switch, 11), (self.b.namespace, self.b.port_of_switch, 12)]
        ports.append((self._client, f"{self.prefix}vc", 99))
        for namespace, port, number in ports:
            ip("link", "add", port, "netns", self.switch, "type", "veth", "peer", "name", "eth1", "netns", namespace)
            ip("link", "set", port, "master", "bridge0", "up", namespace=self.switch)
            ip("address", "add", f"10.99.0.{number}/24", "dev", "eth1", namespace=namespace)
            ip("address", "add", f"fd99::{number}/64", "dev", "eth1", "nodad", namespace=namespace)
            ip("link", "set", "eth1", "up", namespace=namespace)

    def __exit__(self, *_unused: object) -> None:
        for node in (self.a, self.b):
            with contextlib.suppress(subprocess.CalledProcessError):
                node.close()
        for name in (self.a.namespace, self.b.namespace, self._client, self.switch):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def client(self, address: str = VIP) -> VipClient:
        return VipClient(self._client, address)


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """That many processes that do nothing but use the CPU."""
    found = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in found:
            process.kill()
            process.wait()
