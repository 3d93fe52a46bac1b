"""Two load balancers of one ACTIVE_STANDBY pair on loopback, each amphorad or HAProxy, that share their stick tables."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

from tests.support.persistence_rig import NAMES, ask, persistent_text
from tests.support.reference_haproxy import haproxy_program
from tests.support.served import Served, free_port
from tests.support.telling_members import TellingMembers

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PeerPair"]


class HAProxyPeer:
    """A HAProxy that knows its own name, with a socket for commands."""

    def __init__(self, directory: Path, text: str, name: str) -> None:
        program = haproxy_program()
        assert program is not None
        text = re.sub(r"(?m)^ +(daemon|user|group|log /|server-state-file)\b.*\n", "", text)
        self._socket = directory / "haproxy.sock"
        file = directory / "haproxy.cfg"
        file.write_text(
            re.sub(r"stats socket \S+ mode \d+ level user", f"stats socket {self._socket} level admin", text)
        )
        self._log = (directory / "haproxy.log").open("w+b")
        self.process = subprocess.Popen(
            [program, "-db", "-L", name, "-f", str(file)], stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )

    def command(self, text: str) -> str:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self._socket))
            asking.sendall(text.encode() + b"\n")
            answer = b""
            while part := asking.recv(65536):
                answer += part
        return answer.decode()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._log.close()


class PeerPair:
    """`with PeerPair(tmp_path, "APP_COOKIE") as pair:` then `pair.start(0, "amphorad")`, `pair.start(1, "haproxy")`."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.directory = directory
        self.kind = kind
        self.ports = [free_port(), free_port()]
        self.peer_ports = [free_port(), free_port()]
        self.members = TellingMembers(NAMES)
        self.running: list[Served | HAProxyPeer | None] = [None, None]
        self.texts = [self._text(port) for port in self.ports]
        self.names = re.findall(r"peer (\S+) ", self.texts[0])

    def _text(self, port: int) -> str:
        options: dict[str, Any] = {"topology": "ACTIVE_STANDBY", "amphora_addresses": ("127.0.0.1", "127.0.0.2")}
        cookie = "sid" if self.kind == "APP_COOKIE" else None
        text = persistent_text(port, self.members.ports, self.kind, cookie_name=cookie, **options)
        for address, number in zip(("127.0.0.1", "127.0.0.2"), self.peer_ports, strict=True):
            text = text.replace(f"{address}:1025", f"127.0.0.1:{number}")
        return text

    def start(self, which: int, kind: str, *options: str) -> None:
        """`options` are further ones of amphorad."""
        directory = self.directory / f"{kind}-{which}"
        directory.mkdir(exist_ok=True)
        if kind == "haproxy":
            self.running[which] = HAProxyPeer(directory, self.texts[which], self.names[which])
        else:
            served = Served(directory, self.texts[which], "--local-peer", self.names[which], *options)
            self.running[which] = served.__enter__()
        deadline = time.monotonic() + 10
        for port in (self.ports[which], self.peer_ports[which]):
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self, which: int) -> None:
        running, self.running[which] = self.running[which], None
        if isinstance(running, HAProxyPeer):
            running.stop()
        elif running is not None:
            running.__exit__()

    def learn(self, which: int, client: int) -> str:
        """A client's first request, answered with its cookie; the member's name."""
        reply = b"set-cookie: sid=c%d\r\n" % client
        return ask(self.ports[which], b"x-reply: " + reply.hex().encode() + b"\r\n").member

    def return_of(self, which: int, client: int) -> str:
        return ask(self.ports[which], b"cookie: sid=c%d\r\n" % client).member

    def __enter__(self) -> PeerPair:
        self.members.__enter__()
        return self

    def __exit__(self, *_unused: object) -> None:
        for which in (0, 1):
            self.stop(which)
        self.members.__exit__()
