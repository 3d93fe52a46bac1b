"""Connections: TLS, limits, clients that say nothing or half of it, what is no HTTP, and the end of the server."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import socket
import ssl
import threading
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from amphorad.agent.settings import parse_settings
from amphorad.agent_api import connection as connection_module
from amphorad.agent_api import dispatcher as dispatcher_module
from amphorad.agent_api import server as server_module
from amphorad.agent_api.request_body import CONFIGURATION_LIMIT, SERVER_CERTIFICATE_LIMIT
from amphorad.agent_api.server import AgentServer
from amphorad.errors import ListenError
from tests.support.api_certificates import Authority
from tests.support.api_rig import TIMEOUT_S, read_reply, served_api, settings_text
from tests.support.served import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.api_certificates import Identities
    from tests.support.api_rig import ApiRig

AMPHORA = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a001"
LB = "5f1a9f6c-0f0e-4c52-9a6e-3d1a52a2a002"
UPLOAD = f"/1.0/loadbalancer/{AMPHORA}/{LB}/haproxy"


def refused(rig: ApiRig, context: ssl.SSLContext) -> bool:
    """True when no HTTP is spoken; with TLS 1.3 the client learns it at its first read."""
    try:
        with rig.connected(context) as connection:
            connection.sendall(b"GET // HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(1) == b""
    except (ssl.SSLError, ConnectionError):
        return True


# --- TLS ---


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_exactly_one_version_is_spoken(rig: ApiRig, version: ssl.TLSVersion) -> None:
    """The controller of the development branch pins one version. Octavia contract section 1.1."""
    context = rig.client_context(rig.identities.client, minimum_version=version, maximum_version=version)

    with rig.connected(context) as connection:
        connection.sendall(b"GET // HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_reply(connection).status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(rig: ApiRig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    context = rig.client_context(
        rig.identities.client, minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1
    )
    context.set_ciphers("ALL:@SECLEVEL=0")

    with pytest.raises((ssl.SSLError, ConnectionError)), rig.connected(context):
        pass

    wait_until(lambda: "UNSUPPORTED_PROTOCOL" in caplog.text)


def test_tls_without_client_certificate_is_refused(rig: ApiRig) -> None:
    assert refused(rig, rig.client_context())


def test_tls_client_certificate_of_another_authority_is_refused(rig: ApiRig) -> None:
    assert refused(rig, rig.client_context(rig.identities.strangers_client))


def test_tls_expired_client_certificate_is_refused(rig: ApiRig, tmp_path: Path) -> None:
    (tmp_path / "expired.pem").write_bytes(rig.identities.client_authority.issue("controller", days=-1))

    assert refused(rig, rig.client_context(tmp_path / "expired.pem"))


def test_tls_any_name_is_taken_when_the_chain_is_right(rig: ApiRig, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(rig.identities.client_authority.issue("somebody else"))

    assert not refused(rig, rig.client_context(tmp_path / "other.pem"))


def test_tls_client_authority_changed_on_disk_holds_from_the_next_connection_on(
    tmp_path: Path, identities: Identities
) -> None:
    (tmp_path / "client_ca.pem").write_bytes(identities.client_ca.read_bytes())
    moved = type(identities)(**{**vars(identities), "client_ca": tmp_path / "client_ca.pem"})
    with served_api(tmp_path, moved) as rig:
        ours = rig.client_context(identities.client)
        assert not refused(rig, ours)
        another = Authority.make("another")
        (tmp_path / "another.pem").write_bytes(another.issue("controller"))

        (tmp_path / "client_ca.pem").write_bytes(another.certificate)

        assert refused(rig, ours)
        assert not refused(rig, rig.client_context(tmp_path / "another.pem"))


def test_tls_certificate_files_missing_at_first_are_used_when_they_come(tmp_path: Path, identities: Identities) -> None:
    with served_api(tmp_path, identities) as rig:
        certificate = rig.server_certificate.read_bytes()
        rig.server_certificate.write_bytes(b"")
        assert rig.call("GET", "//").status == 200  # the old one stays in use

        rig.server_certificate.write_bytes(certificate)

        assert rig.call("GET", "//").status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_server_on_the_unspecified_address_takes_both_families(rig: ApiRig, host: str) -> None:
    with rig.connected(host=host) as connection:
        connection.sendall(b"GET // HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_reply(connection).status == 200


# --- requests that are none, too long, cut off, late ---


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"GET // HTTP/9.9\r\n\r\n",
        b"GET //\0 HTTP/1.1\r\n\r\n",
        b"GET // HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET // HTTP/1.1\r\nA: " + b"x" * 20000 + b"\r\n\r\n",
        b"GET // HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PUT /1.0/config HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"PUT /1.0/config HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PUT /1.0/config HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"PUT /1.0/config HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_server_what_is_no_request_is_400_in_json(rig: ApiRig, raw: bytes) -> None:
    reply = rig.say(raw)

    assert reply.status == 400
    assert reply.json()["http_code"] == 400
    assert rig.recorder.calls == []


@pytest.mark.parametrize(
    "head",
    [
        f"Content-Length: {CONFIGURATION_LIMIT + 1}",
        "Content-Length: 99999999999999",
        "Content-Length: 10\r\nContent-Encoding: gzip",
        "Content-Length: 10\r\nExpect: a miracle",
    ],
)
def test_server_body_that_is_not_taken_is_refused_before_it_comes(rig: ApiRig, head: str) -> None:
    reply = rig.say(f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())

    assert reply.status == 400
    assert reply.json()["http_code"] == 400


def test_server_body_of_exactly_the_limit_is_taken(rig: ApiRig) -> None:
    body = b"x" * CONFIGURATION_LIMIT

    assert rig.call("PUT", UPLOAD, body).status == 202
    assert rig.recorder.calls == [("upload", AMPHORA, LB, body)]


def test_server_chunked_body_is_taken_whole(rig: ApiRig) -> None:
    reply = rig.say(
        f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".encode()
    )

    assert reply.status == 202
    assert rig.recorder.calls == [("upload", AMPHORA, LB, b"abcde")]


def test_server_chunked_body_over_the_limit_is_refused(rig: ApiRig) -> None:
    before = rig.server_certificate.read_bytes()
    chunk = b"%x\r\n%b\r\n" % (65536, b"x" * 65536)

    reply = rig.say(
        b"PUT /1.0/certificate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk * (SERVER_CERTIFICATE_LIMIT // 65536 + 1)
        + b"0\r\n\r\n"
    )

    assert reply.status == 400
    assert rig.server_certificate.read_bytes() == before


def test_server_client_that_waits_to_be_asked_is_asked(rig: ApiRig) -> None:
    with rig.connected() as connection:
        head = f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert read_reply(connection).status == 202


@pytest.mark.parametrize("framing", ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\na\r\nabc"])
def test_server_client_that_leaves_half_way_changes_nothing(rig: ApiRig, framing: str) -> None:
    with rig.connected() as connection:
        connection.sendall(f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\n{framing}".encode())
        with contextlib.suppress(OSError):
            connection.unwrap()

    assert rig.call("GET", "//").status == 200
    assert rig.recorder.calls == []


def test_server_body_that_stays_half_is_refused_after_the_read_timeout(tmp_path: Path, identities: Identities) -> None:
    with served_api(tmp_path, identities, agent_request_read_timeout="1") as rig:
        reply = rig.say(f"PUT {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc".encode())

        assert reply.status == 400
        assert "not complete" in reply.json()["error"]
        assert rig.recorder.calls == []


@pytest.fixture
def hasty(tmp_path: Path, identities: Identities) -> Iterator[ApiRig]:
    """A server whose patience is short."""
    with (
        mock.patch.object(connection_module, "HEAD_TIMEOUT_S", 0.3),
        mock.patch.object(server_module, "HANDSHAKE_TIMEOUT_S", 0.3),
        mock.patch.object(server_module, "SHUTDOWN_TIMEOUT_S", 0.3),
        mock.patch.object(dispatcher_module, "WRITE_TIMEOUT_S", 0.3),
        served_api(tmp_path, identities) as rig,
    ):
        yield rig


@pytest.mark.parametrize("said", [b"", b"GET", b"GET // HTTP/1.1\r\nHost: x\r\n"])
def test_server_silent_client_is_let_go(hasty: ApiRig, said: bytes) -> None:
    with hasty.connected() as connection:
        connection.sendall(said)

        assert connection.recv(1) == b""


def test_server_client_that_never_begins_tls_is_let_go(hasty: ApiRig) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=TIMEOUT_S) as connection:
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""


def test_server_plain_http_is_let_go(rig: ApiRig) -> None:
    with socket.create_connection(("127.0.0.1", rig.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(4096):
                received += chunk

    assert b"HTTP" not in received


def test_server_client_that_does_not_read_its_answer_is_let_go(hasty: ApiRig) -> None:
    hasty.call("PUT", UPLOAD, b"x" * CONFIGURATION_LIMIT)
    with hasty.connected(receive_buffer=65536) as connection:
        connection.sendall(f"GET /1.0/loadbalancer/{LB}/haproxy HTTP/1.1\r\nHost: x\r\n\r\n".encode())

        wait_until(lambda: hasty.on_loop(lambda: hasty.server._connections.open_count == 0))


# --- limits ---


def test_server_strangers_in_handshakes_do_not_keep_the_controller_out(rig: ApiRig) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(server_module.MAX_HANDSHAKES + 20):
            stack.enter_context(socket.create_connection(("127.0.0.1", rig.port), timeout=TIMEOUT_S))

        assert rig.call("GET", "//").status == 200
        assert rig.on_loop(lambda: len(rig.server._handshakes)) <= server_module.MAX_HANDSHAKES


def test_server_too_many_open_connections_close_the_next_one_and_recover(rig: ApiRig) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(server_module.MAX_CONNECTIONS):
            stack.enter_context(rig.connected())

        with pytest.raises((ssl.SSLError, ConnectionError)):
            rig.call("GET", "//")

    for _ in range(100):
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            assert rig.call("GET", "//").status == 200
            break
    else:
        pytest.fail("the server does not take connections again")


def test_server_without_descriptors_takes_the_connection_when_there_are_some(
    rig: ApiRig, caplog: pytest.LogCaptureFixture
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    context = rig.client_context(rig.identities.client)
    with socket.socket() as plain, mock.patch.object(server_module, "PAUSE_WITHOUT_DESCRIPTORS_S", 0.05):
        plain.settimeout(TIMEOUT_S)
        lowest_free = os.dup(plain.fileno())
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            plain.connect(("127.0.0.1", rig.port))
            wait_until(lambda: "connection not accepted" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        with context.wrap_socket(plain, server_hostname=AMPHORA) as connection:
            connection.sendall(b"GET // HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_reply(connection).status == 200


def test_server_many_calls_at_once_are_all_answered(rig: ApiRig) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(rig.call("PUT", UPLOAD, b"x" * 1000).status)) for _ in range(30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)

    assert statuses == [202] * 30
    assert len(rig.recorder.calls) == 30


# --- what every answer has ---


def test_server_every_answer_ends_the_connection(rig: ApiRig) -> None:
    with rig.connected() as connection:
        connection.sendall(b"GET // HTTP/1.1\r\nHost: x\r\n\r\n" * 2)

        reply = read_reply(connection)

        assert reply.headers["connection"] == "close"
        assert connection.recv(1) == b""


def test_server_head_has_the_length_and_no_body(rig: ApiRig) -> None:
    length = len(rig.call("GET", "/1.0/info").body)

    reply = rig.call("HEAD", "/1.0/info")

    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", str(length))


def test_server_writes_one_line_per_call(rig: ApiRig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    rig.call("GET", "/1.0/listeners?x=%0aforged")

    lines = wait_until(
        lambda: [record.getMessage() for record in caplog.records if record.name == "amphorad.agent_api.dispatcher"]
    )
    assert len(lines) == 1
    assert lines[0].startswith("call method=GET path=/1.0/listeners?x=%0aforged status=200 ms=")


@pytest.mark.asyncio
async def test_server_address_in_use_is_a_listen_error(rig: ApiRig) -> None:
    text = settings_text(rig.directory, rig.identities, bind_port=str(rig.port))
    server = AgentServer(parse_settings([(rig.config_file, text)]), rig.services)

    with pytest.raises(ListenError, match=f"cannot listen on :: port {rig.port}"):
        await server.start()

    await server.close()


def test_server_controllers_http_library_is_content(rig: ApiRig) -> None:
    """Reads by `http.client`, which `requests` is built on."""
    context = rig.client_context(rig.identities.client)
    context.check_hostname = False
    client = http.client.HTTPSConnection("127.0.0.1", rig.port, context=context, timeout=TIMEOUT_S)
    with contextlib.closing(client):
        client.request("PUT", UPLOAD, body=b"text")
        response = client.getresponse()
        assert (response.status, response.getheader("Content-Type")) == (202, "application/json")
        response.read()
