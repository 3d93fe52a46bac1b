"""Prints how many of the smuggling payloads reach a member through amphorad, HAProxy and nginx.

    python tests/contract/http/smuggling_score.py [--list]

`reached`: the member got any byte. `ambiguous`: what it got can be read in two ways (a proxy may also clean a request
up before it passes it on). HAProxy and nginx run as their packages configure them by default; a program that is not
installed is left out. `--list` also prints the payloads behind the numbers.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.support.http_peers import Client, Peer, PlayedMember
from tests.support.http_rig import run_rig
from tests.support.reference_haproxy import haproxy_program
from tests.support.served import free_port, wait_until
from tests.support.smuggling_payloads import PAYLOADS, ambiguities

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_S = 1.0
QUIET_S = 0.15

_NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{member};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@contextmanager
def run_proxy(name: str, directory: Path) -> Iterator[tuple[int, PlayedMember]]:
    """A port and the member behind it."""
    if name != "nginx":
        with run_rig(name, directory) as rig:
            yield rig.ports["web"], rig.member
        return
    member, port = PlayedMember(), free_port()
    file = directory / "nginx.conf"
    file.write_text(_NGINX.format(directory=directory, port=port, member=member.port))
    process = subprocess.Popen([_nginx() or "nginx", "-c", str(file), "-p", str(directory)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _accepts(port))
        yield port, member
    finally:
        process.terminate()
        process.wait(10)
        member.close()


def _nginx() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


def _accepts(port: int) -> bool:
    try:
        Client(port).close()
    except OSError:
        return False
    return True


def received_by_member(port: int, member: PlayedMember, payload: bytes) -> bytes:
    """Sends the payload; returns what came out on the other side until nothing more does."""
    with Client(port) as client:
        client.send(payload)
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            ready, _, _ = select.select([client.socket.fileno(), member.fileno()], [], [], deadline - time.monotonic())
            if member.fileno() in ready:
                return _drain(member.accept())
            if client.socket.fileno() in ready and not client.receive():
                break
    return b"" if member.is_left_alone() else _drain(member.accept())


def _drain(peer: Peer) -> bytes:
    found = b""
    while select.select([peer.socket], [], [], QUIET_S)[0] and (data := peer.receive()):
        found += data
    return found


def score(name: str) -> tuple[list[str], list[str]]:
    """Payloads that reached the member, and those among them that were still ambiguous there."""
    reached, ambiguous = [], []
    with tempfile.TemporaryDirectory() as directory, run_proxy(name, Path(directory)) as (port, member):
        for payload_name, payload in PAYLOADS.items():
            received = received_by_member(port, member, payload)
            member.hang_up()
            if received:
                reached.append(payload_name)
            if received and ambiguities(received):
                ambiguous.append(payload_name)
    return reached, ambiguous


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="also print the payloads that reached a member")
    arguments = parser.parse_args()
    installed = {"amphorad": True, "haproxy": haproxy_program(), "nginx": _nginx()}
    results = {name: score(name) for name, found in installed.items() if found}
    print(f"{'proxy':<10} {'payloads':>8} {'reached':>8} {'ambiguous':>9}")
    for name, (reached, ambiguous) in results.items():
        print(f"{name:<10} {len(PAYLOADS):>8} {len(reached):>8} {len(ambiguous):>9}")
    if arguments.list:
        for name, (reached, ambiguous) in results.items():
            for payload in reached:
                print(f"{name}: {payload}{' (ambiguous)' if payload in ambiguous else ''}")


if __name__ == "__main__":
    main()
