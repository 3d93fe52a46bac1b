"""An ACTIVE_STANDBY pair whose load balancers live in network namespaces of their own, with a link for their peers only.

    node a 10.98.1.1 ---- link, TCP 1025 ---- 10.98.1.2 node b
      10.98.2.1 \\                            / 10.98.3.1
       10.98.2.9 `-- namespace of neighbours --' 10.98.3.9: members 10.98.9.1, clients 10.98.9.11, .12, ...

Every process is started inside its namespace and ended by its number; every wait is bounded. `entries` reads a stick table
where it lies (amphorad: in the board, HAProxy: by `show table`), so that looking adds nothing to it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amphorad.admin import Client
from amphorad.board import Board
from amphorad.proxy.engine.stick_table import Table, table_bytes
from amphorad.stick_tables import TableSpace
from tests.support import octavia_render as render
from tests.support.reference_haproxy import haproxy_program
from tests.support.vrrp_rig import inside, ip, require_namespaces

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AmphoradNode", "HAProxyNode", "SeparatePair", "within"]

PORT = 8080
MEMBERS, MEMBER_PORT = "10.98.9.1", 9001
_SUPPORT = Path(__file__).parent
_START_S = 15.0


def within(limit_s: float, fact: Callable[[], Any]) -> Any:
    """Looks until it is true; what is looked at belongs to other processes, so there is no event to wait on."""
    deadline = time.monotonic() + limit_s
    while not (found := fact()):
        assert time.monotonic() < deadline, "waited in vain"
        select.select([], [], [], 0.05)
    return found


def _address(key: str | bytes) -> str:
    found = ipaddress.ip_address(key)
    return str(getattr(found, "ipv4_mapped", None) or found)


class _Node:
    """A load balancer in its namespace. `restart` begins with an empty table, in a directory of its own."""

    def __init__(self, namespace: str, directory: Path, text: str, name: str) -> None:
        self.namespace = namespace
        self.peer_name = name
        self._parent = directory
        self._text = text
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.directory = directory

    def start(self) -> None:
        self._starts += 1
        self.directory = self._parent / f"start{self._starts}"
        self.directory.mkdir(parents=True)
        file = self.directory / "lb.cfg"
        file.write_text(self._file_text(self._text))
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*inside(self.namespace), *self._command(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        within(_START_S, self._is_ready)

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        assert self._process is not None
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self._process.wait(10)

    def restart(self) -> None:
        self.kill()
        self.start()
        self.wait_ready()

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def _pids(self) -> list[int]:
        assert self._process is not None
        return [self._process.pid]

    def _file_text(self, text: str) -> str:
        return text

    def _command(self, file: Path) -> list[str]:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def entries(self) -> dict[str, str]:
        """Client address -> name of its member, as the table has it."""
        raise NotImplementedError


class AmphoradNode(_Node):
    def _command(self, file: Path) -> list[str]:
        serve = [sys.executable, "-m", "amphorad", "serve", "-f", str(file), "--threads", "1", "--grace", "0"]
        return [*serve, "--state-dir", str(self.directory / "run"), "--local-peer", self.peer_name]

    def _is_ready(self) -> bool:
        assert self._process is not None
        log = (self.directory / "log").read_text()
        assert self._process.poll() is None, log
        return "ready " in log

    def status(self) -> Any:
        with Client(self.directory / "run" / "admin.sock") as admin:
            return admin.status()

    def peer_state(self) -> str:
        """What it thinks of the other one."""
        peers = [peer for peer in self.status().peers if peer.name != self.peer_name]
        return peers[0].state if peers else "UNKNOWN"

    def _pids(self) -> list[int]:
        found = super()._pids()
        with contextlib.suppress(OSError):
            found.append(self.status().data_plane.pid)
        return [pid for pid in found if pid]

    def entries(self) -> dict[str, str]:
        assert self._process is not None
        folder = f"/proc/{self._process.pid}/fd"
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                if "amphorad-board" in os.readlink(f"{folder}/{name}"):
                    break
        else:
            return {}
        board = Board.attach(os.open(f"{folder}/{name}", os.O_RDWR | os.O_CLOEXEC))
        space = TableSpace(board.memory, board.tables_at, Table, table_bytes)
        table = space.table(("l", "p"))
        found = {_address(key): member for key, member, _touched in table.entries()}
        del table, space
        board.close()
        return found


class HAProxyNode(_Node):
    def _file_text(self, text: str) -> str:
        text = re.sub(r"(?m)^ +(daemon|user|group|log /|server-state-file)\b.*\n", "", text)
        socket_line = f"stats socket {self.directory / 'haproxy.sock'} level admin"
        return re.sub(r"stats socket \S+ mode \d+ level user", socket_line, text)

    def _command(self, file: Path) -> list[str]:
        program = haproxy_program()
        assert program is not None
        return [program, "-db", "-L", self.peer_name, "-f", str(file)]

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()
        with contextlib.suppress(OSError):
            return "table: p:l" in self._ask("show table")
        return False

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(5)
            asking.connect(str(self.directory / "haproxy.sock"))
            asking.sendall(command.encode() + b"\n")
            answer = b""
            while part := asking.recv(65536):
                answer += part
        return answer.decode()

    def entries(self) -> dict[str, str]:
        shown = re.findall(r"key=(\S+) .*?server_id=(\d+)", self._ask("show table p:l"))
        return {_address(key): f"m{number}" for key, number in shown}


class SeparatePair:
    """`with SeparatePair(tmp_path, "haproxy") as pair:` node `a` is amphorad, node `b` the kind that is named; both are ready."""

    def __init__(self, directory: Path, other: str) -> None:
        self._prefix = f"sp{secrets.token_hex(3)}"
        self._namespaces = [f"{self._prefix}{name}" for name in "abn"]
        texts = [self._rendered(vip) for vip in ("10.98.2.1", "10.98.3.1")]
        names = re.findall(r"(?m)^ +peer (\S+) ", texts[0])
        kinds = {"amphorad": AmphoradNode, "haproxy": HAProxyNode}
        self.a = AmphoradNode(self._namespaces[0], directory / "a", texts[0], names[0])
        self.b = kinds[other](self._namespaces[1], directory / "b", texts[1], names[1])
        self._neighbour: subprocess.Popen[str] | None = None

    @staticmethod
    def _rendered(vip: str) -> str:
        members = [render.make_member(MEMBERS, MEMBER_PORT + place, id=f"m{place + 1}") for place in range(3)]
        pool = render.make_pool("HTTP", id="p", persistence="SOURCE_IP", members=members)
        listener = render.make_listener("HTTP", PORT, id="l", default_pool=pool, connection_limit=200)
        return render.render_load_balancer(
            [listener],
            vip=vip,
            lb_id="lb",
            topology="ACTIVE_STANDBY",
            amphora_addresses=("10.98.1.1", "10.98.1.2"),
            connection_logging=False,
            default_connection_limit=200,
        )

    def __enter__(self) -> SeparatePair:
        require_namespaces()
        try:
            self._build()
            self._start_neighbour()
            for node in (self.a, self.b):
                node.start()
                node.wait_ready()  # before the other: who finds nobody tries again only after a while
        except BaseException:
            self.__exit__()
            raise
        return self

    def _build(self) -> None:
        a, b, n = self._namespaces
        for name in self._namespaces:
            ip("netns", "add", name)
            ip("link", "set", "lo", "up", namespace=name)
        for left, right, device, addresses in (
            (a, b, "peers", ("10.98.1.1", "10.98.1.2")),
            (a, n, "west", ("10.98.2.1", "10.98.2.9")),
            (b, n, "east", ("10.98.3.1", "10.98.3.9")),
        ):
            ip("link", "add", device, "netns", left, "type", "veth", "peer", "name", device, "netns", right)
            for namespace, address in zip((left, right), addresses, strict=True):
                ip("address", "add", f"{address}/24", "dev", device, namespace=namespace)
                ip("link", "set", device, "up", namespace=namespace)
        ip("route", "add", "local", "10.98.9.0/24", "dev", "lo", namespace=n)  # all of these addresses are its own
        for namespace, way in ((a, "10.98.2.9"), (b, "10.98.3.9")):
            ip("route", "add", "10.98.9.0/24", "via", way, namespace=namespace)

    def _start_neighbour(self) -> None:
        command = [sys.executable, str(_SUPPORT / "neighbour.py"), MEMBERS, str(MEMBER_PORT)]
        self._neighbour = subprocess.Popen(
            [*inside(self._namespaces[2]), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._read_line() == "ready"

    def _read_line(self) -> str:
        assert self._neighbour is not None
        assert self._neighbour.stdout is not None
        assert select.select([self._neighbour.stdout], [], [], _START_S)[0], "the neighbour says nothing"
        return self._neighbour.stdout.readline().strip()

    def ask(self, node: _Node, client: int) -> str:
        """The name of the member that answers this client (0 to 200) through that node."""
        assert self._neighbour is not None
        assert self._neighbour.stdin is not None
        vip = "10.98.2.1" if node is self.a else "10.98.3.1"
        self._neighbour.stdin.write(f"{self.address(client)} {vip} {PORT}\n")
        return self._read_line()

    @staticmethod
    def address(client: int) -> str:
        return f"10.98.9.{11 + client}"

    def learn(self, node: _Node, clients: range) -> dict[str, str]:
        """A first request of each; client address -> member."""
        found = {self.address(client): self.ask(node, client) for client in clients}
        assert set(found.values()) <= {"m1", "m2", "m3"}
        return found

    def cut(self) -> None:
        """The nodes do not reach each other any more; their neighbours they do."""
        ip("link", "set", "peers", "down", namespace=self.a.namespace)

    def join(self) -> None:
        ip("link", "set", "peers", "up", namespace=self.a.namespace)

    def __exit__(self, *_unused: object) -> None:
        for node in (self.a, self.b):
            node.stop()
        if self._neighbour is not None:
            self._neighbour.kill()
            self._neighbour.wait()
            for stream in (self._neighbour.stdin, self._neighbour.stdout):
                assert stream is not None
                stream.close()
        for name in self._namespaces:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
