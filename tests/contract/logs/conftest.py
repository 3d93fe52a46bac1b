"""The real HAProxy with Octavia's log format, its log socket, and a member that does what its request's path says."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, BinaryIO

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ZONE = "Asia/Kathmandu"  # an offset of quarters of an hour
PROJECT = "5f3b1a9ec0de4b6f9d1a2b3c4d5e6f70"
BALANCER = "11111111-2222-3333-4444-555555555555"
BODY = b"hello from the member\n"


@dataclass(frozen=True)
class HAProxy:
    """A running process: its log socket and the port of each listener."""

    log: socket.socket
    ports: dict[str, int]
    pid: int
    certificate: Path  # of a client, with its key

    def next_line(self) -> bytes:
        return self.log.recv(65536)


def _converse(stream: BinaryIO) -> None:
    first = stream.readline()
    if first == b"echo\n":  # the TCP listener
        stream.write(b"echoed\n")
        return
    length = 0
    while (line := stream.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    stream.read(length)
    if b"/silent" in first:
        stream.read()  # until HAProxy gives up
        return
    if b"/garbage" in first:
        stream.write(b"what?\r\n\r\n")
        return
    status = b"404 Not Found" if b"/missing" in first else b"200 OK"
    stream.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (status, len(BODY), BODY))


def _serve(listening: socket.socket) -> None:
    """One connection after the other, until the listening socket is shut down."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        # HAProxy leaves when its client does
        with contextlib.suppress(ConnectionError, TimeoutError), connection:
            connection.settimeout(10)
            with connection.makefile("rwb") as stream:
                _converse(stream)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def octavia_format(protocol: str) -> str:
    """What the controller writes behind `log-format`, blanks escaped."""
    jinja_cfg = pytest.importorskip("octavia.common.jinja.haproxy.combined_listeners.jinja_cfg")
    balancer = SimpleNamespace(project_id=PROJECT, id=BALANCER)
    return str(jinja_cfg.JinjaTemplater()._format_log_string(balancer, protocol))


def _certificate(directory: Path, name: str, subject: str) -> Path:
    path = directory / f"{name}.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "30", "-subj", subject, "-keyout", f"{path}.key", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (directory / f"{name}.pem.key").read_text())
    return path


EVERYTHING = (
    "%B;%CC;%CS;%H;%HM;%HP;%HPO;%HQ;%HU;%HV;%ID;%ST;%T;%Ta;%Tc;%Td;%Th;%Ti;%Tl;%TR;%Tq;%Tr;%Ts;%Tt;%Tu;%Tw;%U;%ac;%b"
    ";%bc;%bi;%bp;%bq;%ci;%cp;%f;%fc;%fi;%fp;%ft;%hr;%hs;%hrl;%hsl;%lc;%ms;%pid;%r;%rc;%rt;%s;%sc;%si;%sp;%sq"
    ";%sslc;%sslv;%t;%tr;%trg;%trl;%ts;%tsc;%[src];%[src_port];%[dst];%[dst_port];%[ssl_fc];%%;  two  %hr  blanks "
)
"""Every variable of the manual once, in its order."""

_NOT_IN_TCP = {"%Td"}  # HAProxy 2.6 adds 1 to %Tw in TCP mode, which its own %Td does not count
_NOT_IN_TCP |= set("%CC %CS %HM %HP %HPO %HQ %HU %HV %Ta %Ti %TR %Tq %Tr %r %tr %trg %trl %hr %hs %hrl %hsl".split())
EVERYTHING_TCP = ";".join(word for word in EVERYTHING.split(";")[:-1] if word not in _NOT_IN_TCP)
"""What HAProxy accepts in a TCP listener, and where its numbers are consistent."""


def with_flags(flags: str, everything: str = EVERYTHING) -> str:
    return f"%{{{flags}}}o {everything}"


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    directory = tmp_path_factory.mktemp("logs")
    http_format, tcp_format = octavia_format("HTTP"), octavia_format("TCP")
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(directory / "log"))
    log.settimeout(10)
    server = socket.create_server(("127.0.0.1", 0))
    # All threads live as long as the fixture: one that begins in a test would count as its leak.
    threads = [threading.Thread(target=_serve, args=(server,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    member_port = server.getsockname()[1]
    certificate = _certificate(directory, "server", "/CN=localhost")
    client = _certificate(directory, "client", '/O=Tea "and" Co/CN=client 1')
    names = ["http", "refused", "poolless", "tcp", "tls", "plain", "quoted", "hex", "escaped", "all-tcp"]
    ports = {name: _free_port() for name in names}
    text = f"""
global
    log {directory}/log local0
defaults
    log global
    retries 1
    timeout connect 1000
    timeout client 1000
    timeout server 500
"""
    for name, port in ports.items():
        mode = "tcp" if name.endswith("tcp") else "http"
        tls = f" ssl crt {certificate} ca-file {client} verify optional" if name == "tls" else ""
        flags = {"plain": "-Q", "quoted": "+Q", "hex": "+X", "escaped": "+E", "all-tcp": "-Q"}.get(name)
        if flags:
            line = with_flags(flags, EVERYTHING_TCP if mode == "tcp" else EVERYTHING).replace(" ", "\\ ")
        else:
            line = tcp_format if mode == "tcp" else http_format
        text += f"frontend {name}-listener\n mode {mode}\n bind 127.0.0.1:{port}{tls}\n log-format {line}\n"
        if mode == "http":
            text += " http-request deny if { path /denied }\n http-request redirect location /else if { path /moved }\n"
        target = ports["refused"] if name == "poolless" else member_port
        if name == "refused":
            target = _free_port()
        if name != "poolless":
            text += f" default_backend pool:{name}-listener\n"
            text += f"backend pool:{name}-listener\n mode {mode}\n server member-1 127.0.0.1:{target}\n"
    (directory / "cfg").write_text(text)
    program = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert program is not None
    with subprocess.Popen(
        [program, "-db", "-f", str(directory / "cfg")], env={**os.environ, "TZ": ZONE}, stderr=subprocess.PIPE
    ) as process:
        try:
            _wait_listening(process, ports["all-tcp"])
            yield HAProxy(log, ports, process.pid, client)
        finally:
            process.terminate()
            process.wait(10)
            server.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)
            server.close()
            log.close()


def _wait_listening(process: subprocess.Popen[bytes], port: int) -> None:
    """Binding is all or nothing in HAProxy, so one port stands for all; read from the kernel, to log no session."""
    deadline = time.monotonic() + 10
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    while time.monotonic() < deadline:
        with open("/proc/net/tcp") as table:
            if wanted in table.read():
                return
        if process.poll() is not None:
            assert process.stderr is not None
            pytest.fail(process.stderr.read().decode())
    pytest.fail("haproxy does not listen")


@pytest.fixture
def zone() -> Iterator[str]:
    """This process in HAProxy's time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", ZONE)
        time.tzset()
        yield ZONE
    time.tzset()
