"""PROXY headers on HTTP listeners: a member connection speaks for one client, and for no other."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.lb_file import lb_file, listener, member
from tests.support.proxy_headers import V1_AND_V2, RecordingMember, refusing_port, with_proxy
from tests.support.scripted_member import connect, get, read_response, receive_all
from tests.support.served import Served, free_port

if TYPE_CHECKING:
    from pathlib import Path


def text_of(port: int, *ports: int, word: str = "send-proxy-v2", mode: str = "http") -> str:
    members = [member(each) for each in ports]
    return lb_file(listener("web", port, with_proxy(members, word) if word else members, mode=mode))


def serve(tmp_path: Path, port: int, *ports: int, word: str = "send-proxy-v2", reuse: str = "retry") -> Served:
    return Served(tmp_path, text_of(port, *ports, word=word), "--http-reuse", reuse)


@V1_AND_V2
def test_header_precedes_the_first_request_only(tmp_path: Path, word: str) -> None:
    port = free_port()
    with RecordingMember() as target, serve(tmp_path, port, target.port, word=word), connect(port) as client:
        for number in range(3):
            assert get(client, f"/{number}") == b"200 ok"

        (visit,) = target.visits
        assert visit.source == client.getsockname()
        assert visit.destination == ("127.0.0.1", port)
        assert visit.requests == 3
        assert visit.data.startswith(b"GET /0 HTTP/1.1\r\n")


@pytest.mark.parametrize("reuse", ["safe", "retry"])
def test_connection_is_never_shared_by_clients(tmp_path: Path, reuse: str) -> None:
    """One after the other and at the same time, with any number of requests each."""
    port = free_port()
    with RecordingMember() as target, serve(tmp_path, port, target.port, reuse=reuse):
        for number in range(10):
            with connect(port) as client:
                for _request in range(1 + number % 3):
                    assert get(client, f"/alone{client.getsockname()[1]}") == b"200 ok"
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(port)) for _number in range(10)]
            for _request in range(3):
                for client in clients:
                    assert get(client, f"/together{client.getsockname()[1]}") == b"200 ok"

        assert len(target.visits) == 20
        assert len({visit.source for visit in target.visits}) == 20
        for visit in target.visits:
            paths = {line.split(b" ")[1] for line in visit.data.split(b"\r\n") if line.startswith(b"GET ")}
            assert len(paths) == 1
            assert paths.pop().endswith(b"%d" % visit.source[1])


def test_client_keeps_a_connection_to_each_member_that_it_is_balanced_to(tmp_path: Path) -> None:
    port = free_port()
    with RecordingMember() as one, RecordingMember() as other, serve(tmp_path, port, one.port, other.port):
        with connect(port) as client:
            for _request in range(6):
                assert get(client) == b"200 ok"

            assert [visit.requests for visit in one.visits + other.visits] == [3, 3]
            assert {visit.source for visit in one.visits + other.visits} == {client.getsockname()}


def test_client_keeps_no_more_than_a_few_connections(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(RecordingMember()) for _number in range(8)]
        stack.enter_context(serve(tmp_path, port, *(each.port for each in members)))
        client = stack.enter_context(connect(port))
        for _request in range(24):
            assert get(client) == b"200 ok"

        visits = [visit for each in members for visit in each.visits]
        assert sum(visit.requests for visit in visits) == 24
        assert sum(not visit.ended for visit in visits) <= 6
        assert all(visit.source == client.getsockname() for visit in visits)


def test_connection_ends_with_its_client(tmp_path: Path) -> None:
    port = free_port()
    with RecordingMember() as target, serve(tmp_path, port, target.port):
        with connect(port) as client:
            assert get(client) == b"200 ok"
            assert not target.visits[0].ended

        target.wait_visit(lambda visit: visit.ended)


def test_member_that_closes_between_requests_gets_a_new_connection_with_a_header(tmp_path: Path) -> None:
    port = free_port()
    with RecordingMember(limit=1) as target, serve(tmp_path, port, target.port), connect(port) as client:
        for number in range(3):
            assert get(client) == b"200 ok"
            target.wait_ended(number + 1)

        assert [visit.source for visit in target.visits] == [client.getsockname()] * 3
        assert [visit.requests for visit in target.visits] == [1, 1, 1]


def test_request_that_died_on_a_kept_connection_is_repeated_with_a_header(tmp_path: Path) -> None:
    """Both requests at once: the member ends the connection after the first, while the second is on its way."""
    port = free_port()
    with RecordingMember(limit=1) as target, serve(tmp_path, port, target.port), connect(port) as client:
        client.sendall(b"GET /1 HTTP/1.1\r\nHost: lb\r\n\r\nGET /2 HTTP/1.1\r\nHost: lb\r\n\r\n")

        assert [read_response(client), read_response(client)] == [b"200 ok", b"200 ok"]
        visits = [visit for visit in target.visits if visit.requests]
        assert {visit.source for visit in visits} == {client.getsockname()}


def test_retry_reaches_another_member_with_a_header(tmp_path: Path) -> None:
    port = free_port()
    with refusing_port() as refusing, RecordingMember() as target, serve(tmp_path, port, refusing, target.port):
        for _number in range(4):
            with connect(port) as client:
                assert get(client) == b"200 ok"
                assert target.visits[-1].source == client.getsockname()


def test_long_body_follows_its_header_and_head(tmp_path: Path) -> None:
    body = os.urandom(2_000_000).replace(b"\r", b"r")
    port = free_port()
    with RecordingMember() as target, serve(tmp_path, port, target.port), connect(port) as client:
        client.sendall(b"POST /up HTTP/1.1\r\nHost: lb\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        client.sendall(body)
        receive_all(client)
        visit = target.wait_visit(lambda visit: visit.ended)

        assert visit.data.startswith(b"POST /up HTTP/1.1\r\n")
        assert visit.data.partition(b"\r\n\r\n")[2] == body


def test_request_behind_a_long_pipeline_follows_its_header(tmp_path: Path) -> None:
    """More bytes wait for their turn than a head may have."""
    body = bytes(100_000)
    port = free_port()
    with RecordingMember(limit=1) as target, serve(tmp_path, port, target.port), connect(port) as client:
        request = b"POST /%%d HTTP/1.1\r\nHost: lb\r\nContent-Length: %d\r\n\r\n" % len(body)
        client.sendall(request % 1 + body)
        assert read_response(client) == b"200 ok"
        target.wait_ended(1)
        client.sendall(request % 2 + body)
        assert read_response(client) == b"200 ok"

        assert target.visits[-1].data.startswith(b"POST /2 HTTP/1.1\r\n")
        assert target.visits[-1].source == client.getsockname()


def test_upgrade_does_not_repeat_the_header(tmp_path: Path) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
    port = free_port()
    with RecordingMember(answer=switch) as target, serve(tmp_path, port, target.port), connect(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: lb\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly")
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        client.sendall(b" late")
        visit = target.wait_visit(lambda visit: visit.data.endswith(b" late"))

        assert visit.data.partition(b"\r\n\r\n")[2] == b"early late"


@pytest.mark.parametrize(("before", "after"), [("send-proxy", ""), ("", "send-proxy"), ("send-proxy", "send-proxy-v2")])
def test_apply_that_changes_the_pool_changes_the_next_request(tmp_path: Path, before: str, after: str) -> None:
    """A connection that began as the old pool had it is not used for the new one."""
    port = free_port()
    begins = {"": b"GET ", "send-proxy": b"PROXY TCP4 ", "send-proxy-v2": b"\r\n\r\n\0\r\nQUIT\n"}
    with (
        RecordingMember(has_header=False, end_of_head=b": lb\r\n\r\n") as target,
        serve(tmp_path, port, target.port, word=before) as served,
        connect(port) as client,
    ):
        assert get(client) == b"200 ok"
        assert served.apply(text_of(port, target.port, word=after)).returncode == 0
        assert get(client) == b"200 ok"
        with connect(port) as other:
            assert get(other) == b"200 ok"

        old, *new = [visit.data for visit in target.visits]
        assert old.startswith(begins[before])
        assert new
        assert all(data.startswith(begins[after]) for data in new)
