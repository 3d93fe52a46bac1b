"""HTTP/2 by ALPN on TLS listeners, with several kinds of clients."""

from __future__ import annotations

import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.http2_client import Http2Client
from tests.support.http_rig import BOTH
from tests.support.tls_rig import TlsRig, run_tls_rig

if TYPE_CHECKING:
    from collections.abc import Iterator

# may_leak: the played member lives as long as the module, and with it the proxy's connections to it
pytestmark = [pytest.mark.timeout(60), pytest.mark.may_leak]


@pytest.fixture(scope="module", params=BOTH)
def tls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRig]:
    found = TlsRig(tmp_path_factory.mktemp("tls"))
    crt_list = found.write_list(found.authority.issue("default", "default.example"))
    with run_tls_rig(
        request.param, found, f"ssl crt-list {crt_list} no-sslv3 no-tlsv10 no-tlsv11 alpn h2,http/1.1,http/1.0"
    ) as running:
        yield running


def _connect(tls: TlsRig, *protocols: str) -> Http2Client:
    context = tls.context()
    context.set_alpn_protocols(list(protocols))
    plain = socket.create_connection(("127.0.0.1", tls.port), 10)
    wrapped = context.wrap_socket(plain)
    assert wrapped.selected_alpn_protocol() == "h2"
    client = Http2Client(tls.port, connection=wrapped)
    client.scheme = "https"
    return client


def test_the_server_prefers_http2(tls: TlsRig) -> None:
    with _connect(tls, "http/1.1", "h2") as client:
        answered = client.answer(client.ask("GET", "/x"))
    assert answered.status == 200
    assert answered.body.startswith(b"GET /x HTTP/1.1\r\nhost: 127.0.0.1:")


def test_large_responses_side_by_side(tls: TlsRig) -> None:
    with _connect(tls, "h2") as client:
        streams = [client.ask("GET", f"/size/{size}") for size in (0, 1, 16384, 65535, 65536, 1_000_000, 3_000_000)]
        answers = [client.answer(stream) for stream in streams]
    assert [len(one.body) for one in answers] == [0, 1, 16384, 65535, 65536, 1_000_000, 3_000_000]
    assert all(set(one.body) <= {ord("s")} for one in answers)


def test_uploads_side_by_side(tls: TlsRig) -> None:
    with _connect(tls, "h2") as client:
        streams = [client.ask("POST", f"/{n}", [("content-length", "300000")], ended=False) for n in range(4)]
        for _ in range(30):
            for stream in streams:
                client.data(stream, b"u" * 10000)
        for stream in streams:
            client.data(stream, b"", ended=True)
        answers = [client.answer(stream) for stream in streams]
    assert [one.status for one in answers] == [200] * 4


def test_many_connections_with_many_streams(tls: TlsRig) -> None:
    clients = [_connect(tls, "h2") for _ in range(5)]
    streams = [(client, client.ask("GET", f"/{number}")) for number in range(30) for client in clients]
    assert all(client.answer(stream).status == 200 for client, stream in streams)
    for client in clients:
        client.socket.close()


def test_a_client_that_vanishes_harms_nobody(tls: TlsRig) -> None:
    client = _connect(tls, "h2")
    for _ in range(20):
        client.ask("GET", "/size/1000000")
    client.socket.close()
    with _connect(tls, "h2") as other:
        assert other.answer(other.ask("GET", "/")).status == 200


def test_bytes_that_are_no_preface_end_the_connection(tls: TlsRig) -> None:
    context = tls.context()
    context.set_alpn_protocols(["h2"])
    with tls.connect(context) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert b"HTTP/1.1" not in received


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_speaks_it(tls: TlsRig) -> None:
    # a sanitizer preloaded for our own processes would make curl hang
    command = [
        "env",
        "-u",
        "LD_PRELOAD",
        "curl",
        "-skf",
        "--http2",
        "-w",
        "\n%{http_version} %{http_code}",
        "--max-time",
        "20",
    ]
    urls = [f"https://127.0.0.1:{tls.port}/size/{size}" for size in (10, 100000)]
    done = subprocess.run([*command, "-d", "a=b", urls[0]], capture_output=True, check=True, text=True)
    assert done.stdout == "s" * 10 + "\n2 200"
    done = subprocess.run([*command, "-H", "Expect: 100-continue", urls[1]], capture_output=True, check=True, text=True)
    assert done.stdout == "s" * 100000 + "\n2 200"


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_h2load_loses_nothing(tls: TlsRig) -> None:
    done = subprocess.run(
        ["h2load", "-n", "3000", "-c", "4", "-m", "20", f"https://127.0.0.1:{tls.port}/size/3000"],
        capture_output=True,
        check=True,
        text=True,
        timeout=50,
    )
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
