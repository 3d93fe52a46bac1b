"""Large bodies in both directions, slow and fast, framed in each way."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import OK, Peer, chunked, exchange, get, pump

if TYPE_CHECKING:
    from tests.support.http_rig import Rig

SIZE = 5_000_000
BODY = random.Random(20260801).randbytes(SIZE)
CHUNKS = [BODY[start : start + 17_011] for start in range(0, SIZE, 17_011)]
UPLOAD = f"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n".encode()
UPLOAD_CHUNKED = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def receive_chunked(sender: Peer, data: bytes, receiver: Peer) -> bytes:
    """Pumps, and reads up to the last chunk, whatever the proxy did to the sizes; returns the payload."""
    head = receiver.read_head()
    (most,) = pump([(sender, data)], [(receiver, SIZE)])
    receiver.buffer = most + receiver.buffer
    return receiver.read_chunked(head).body


def test_upload_with_length_arrives(rig: Rig) -> None:
    with rig.client() as client:
        client.send(UPLOAD)
        member = rig.accept()
        assert member.read_head().get("content-length") == str(SIZE).encode()

        (got,) = pump([(client, BODY)], [(member, SIZE)])

        member.send(OK)
        assert client.read_message().body == b"hello"
        assert exchange(client, get("/2"), lambda: member, OK).body == b"hello"
    assert md5(got) == md5(BODY)


def test_upload_chunked_arrives(rig: Rig) -> None:
    with rig.client() as client:
        client.send(UPLOAD_CHUNKED)
        member = rig.accept()

        got = receive_chunked(client, chunked(*CHUNKS), member)

        member.send(OK)
        assert client.read_message().body == b"hello"
        assert exchange(client, get("/2"), lambda: member, OK).body == b"hello"
    assert md5(got) == md5(BODY)


def test_download_with_length_arrives(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        assert client.read_head().get("content-length") == str(SIZE).encode()

        (got,) = pump([(member, BODY)], [(client, SIZE)])

        assert exchange(client, get("/2"), lambda: member, OK).body == b"hello"
    assert md5(got) == md5(BODY)


def test_download_chunked_arrives(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

        got = receive_chunked(member, chunked(*CHUNKS), client)

        assert exchange(client, get("/2"), lambda: member, OK).body == b"hello"
    assert md5(got) == md5(BODY)


def test_download_until_close_arrives(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\n\r\n")
        client.read_head()

        (got,) = pump([(member, BODY)], [(client, SIZE)])

        member.close()
        assert client.ended()
    assert md5(got) == md5(BODY)


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_upload_goes_on_although_the_member_has_answered(rig: Rig, coding: str) -> None:
    """A member may answer first and read afterwards; what it reads is the whole request."""
    with rig.client() as client:
        if coding == "length":
            client.send(UPLOAD, BODY[:1000])
        else:
            client.send(UPLOAD_CHUNKED, chunked(BODY[:1000])[:-5])
        member = rig.accept()
        head = member.read_head()
        member.send(OK)
        assert client.read_message().body == b"hello"

        if coding == "length":
            (got,) = pump([(client, BODY[1000:])], [(member, SIZE)])
        else:
            (most,) = pump([(client, chunked(BODY[1000:]))], [(member, SIZE)])
            member.buffer = most + member.buffer
            got = member.read_chunked(head).body
    assert md5(got) == md5(BODY)


def test_upload_and_download_at_once_arrive(rig: Rig) -> None:
    """A member may answer while it reads."""
    with rig.client() as client:
        client.send(UPLOAD)
        member = rig.accept()
        member.read_head()
        member.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        client.read_head()

        got_there, got_back = pump([(client, BODY), (member, BODY[::-1])], [(member, SIZE), (client, SIZE)])

    assert md5(got_there) == md5(BODY)
    assert md5(got_back) == md5(BODY[::-1])


@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 262_144, 307_200, 1_048_577])
def test_body_sizes_around_the_limits_of_buffers_arrive(amphorad_rig: Rig, size: int) -> None:
    with amphorad_rig.client() as client:
        client.send(f"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n".encode())
        member = amphorad_rig.accept()
        member.read_head()
        (there,) = pump([(client, BODY[:size])], [(member, size)])
        member.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        client.read_head()
        (back,) = pump([(member, BODY[:size])], [(client, size)])

        assert exchange(client, get("/2"), lambda: member, OK).body == b"hello"
    assert there == back == BODY[:size]


def test_client_that_does_not_read_holds_the_member_back(amphorad_rig: Rig) -> None:
    """Back-pressure: the member's send stops long before the body ends."""
    with amphorad_rig.client() as client:
        client.send(get("/"))
        member = amphorad_rig.accept()
        member.read_message()
        member.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        client.read_head()
        member.socket.settimeout(0.2)
        sent = 0
        try:
            while sent < 200_000_000:
                sent += member.socket.send(BODY)
        except TimeoutError:
            pass

        assert sent < 100_000_000
        (got,) = pump([], [(client, 1_000_000)])
        assert got == BODY[:1_000_000]
