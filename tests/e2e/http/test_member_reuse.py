"""Which member connection a request goes on: counted at the member, under each reuse policy.

HAProxy's `http-reuse safe` (configuration manual section 4.2) is the reference of `safe`; `retry` is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.http_peers import OK, Client, Peer, chunked, exchange, get, post, response
from tests.support.http_rig import Rig, run_rig

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"


@pytest.fixture(scope="module")
def _running_retry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with run_rig("amphorad", tmp_path_factory.mktemp("retry"), "--http-reuse", "retry") as running:
        yield running


@pytest.fixture
def retrying(_running_retry: Rig) -> Iterator[Rig]:
    yield _running_retry
    _running_retry.member.hang_up()


def first_exchange(rig: Rig, client: Client, answer: bytes = OK, request: bytes | None = None) -> Peer:
    """Returns the member connection that was opened for it."""
    client.send(request or get("/first"))
    member = rig.accept()
    member.read_message()
    member.send(answer)
    assert client.read_message().status == 200
    return member


# ---- safe: the rule of HAProxy ----------------------------------------------------------------------------------------


def test_safe_first_request_of_a_client_gets_a_fresh_connection(rig: Rig) -> None:
    with rig.client() as one, rig.client() as two:
        first_exchange(rig, one)

        assert exchange(two, get("/"), rig.accept, OK).body == b"hello"


def test_safe_later_request_of_a_client_reuses_a_connection(rig: Rig) -> None:
    with rig.client() as client:
        member = first_exchange(rig, client)

        assert exchange(client, post(b"body"), lambda: member, OK).body == b"hello"
    assert rig.member.is_left_alone()


def test_safe_client_that_left_leaves_its_connection_to_later_requests_of_others(amphorad_rig: Rig) -> None:
    with amphorad_rig.client() as one:
        first = first_exchange(amphorad_rig, one)
    with amphorad_rig.client() as two:
        second = first_exchange(amphorad_rig, two)
        two.send(get("/second"))

        assert second.read_message().target == b"/second"  # the one used last
        assert first.is_silent()
        second.send(OK)
        assert two.read_message().body == b"hello"


def test_never_each_request_gets_a_connection_that_ends(amphorad_rig: Rig) -> None:
    """A pool without `http-reuse` in the file."""
    with amphorad_rig.client("never") as client:
        for _ in range(3):
            client.send(get("/"))
            member = amphorad_rig.accept()
            assert member.read_message().get("connection") == b"close"
            member.send(OK)
            assert client.read_message().get("connection") is None
            assert member.ended()


def test_policy_never_overrules_the_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    with run_rig("amphorad", tmp_path_factory.mktemp("never"), "--http-reuse", "never") as rig, rig.client() as client:
        for _ in range(2):
            assert exchange(client, get("/"), rig.accept, OK).body == b"hello"
        rig.member.hang_up()


# ---- retry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_retry_first_request_of_a_client_reuses_when_it_could_be_repeated(retrying: Rig, method: str) -> None:
    with retrying.client() as one:
        member = first_exchange(retrying, one)
    with retrying.client() as two:
        answer = exchange(two, get("/", method=method), lambda: member, OK if method != "HEAD" else OK[:-5], method)

    assert answer.status == 200
    assert retrying.member.is_left_alone()


@pytest.mark.parametrize(
    "request_sent",
    [post(b"body"), post(b""), get("/", method="DELETE"), post(b"body", method="GET"), get("/", method="PURGE"),
     get("/", "Connection: Upgrade", "Upgrade: websocket")],
    ids=["POST", "empty POST", "DELETE", "GET with a body", "unknown method", "upgrade"],
)  # fmt: skip
def test_retry_first_request_that_cannot_be_repeated_gets_a_fresh_connection(
    retrying: Rig, request_sent: bytes
) -> None:
    with retrying.client() as one:
        first_exchange(retrying, one)
    with retrying.client() as two:
        assert exchange(two, request_sent, retrying.accept, OK).body == b"hello"


@pytest.mark.parametrize("how", ["close", "finish", "reset"])
def test_retry_repeats_a_request_whose_reused_connection_dies(retrying: Rig, how: str) -> None:
    with retrying.client() as client:
        first = first_exchange(retrying, client)
        client.send(get("/second", "X-A: b"))
        before = first.read_message()
        getattr(first, how)()
        again = retrying.accept()
        after = again.read_message()
        again.send(OK)

        assert client.read_message().body == b"hello"
    assert before.raw == after.raw
    assert retrying.member.is_left_alone()


def test_retry_repeats_only_once(retrying: Rig) -> None:
    with retrying.client() as client:
        first = first_exchange(retrying, client)
        client.send(get("/second"))
        first.read_message()
        first.close()
        again = retrying.accept()
        again.read_message()
        again.close()

        assert client.read_message().status == 502
    assert retrying.member.is_left_alone()


@pytest.mark.parametrize(
    "sent", [b"H", b"HTTP/1.1 200 OK\r\nX:", INTERIM], ids=["one byte", "part of a head", "interim"]
)
def test_retry_does_not_repeat_once_an_answer_began(retrying: Rig, sent: bytes) -> None:
    with retrying.client() as client:
        first = first_exchange(retrying, client)
        client.send(get("/second"))
        first.read_message()
        first.send(sent)
        if sent == INTERIM:
            assert client.read_head().status == 103
        first.finish()

        if sent == INTERIM:
            assert client.ended()
        else:
            assert client.read_head().status == 502
    assert retrying.member.is_left_alone()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("request_sent", [post(b"body"), get("/", method="PUT"), get("/", method="DELETE")])
def test_unrepeatable_request_on_a_dead_connection_closes_without_a_word(
    rig: Rig, request_sent: bytes, how: str
) -> None:
    """The client may repeat it; an answer would tell it not to (HAProxy does the same, contract section 4.12)."""
    with rig.client() as client:
        first = first_exchange(rig, client)
        client.send(request_sent)
        first.read_message()
        getattr(first, how)()

        assert client.ended()
    assert rig.member.is_left_alone()


def test_upload_in_parts_on_a_dead_connection_closes_without_a_word(retrying: Rig) -> None:
    with retrying.client() as client:
        first = first_exchange(retrying, client)
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello")
        first.read_until(b"hello")
        first.reset()

        assert client.ended()


def test_fresh_connection_that_dies_is_answered_502(rig: Rig) -> None:
    with rig.client() as client:
        client.send(get("/"))
        member = rig.accept()
        member.read_message()
        member.close()

        assert client.read_message().status == 502
    assert rig.member.is_left_alone()


def test_idle_connection_closed_by_the_member_is_not_used(rig: Rig) -> None:
    with rig.client() as client:
        first = first_exchange(rig, client)
        first.finish()
        assert first.ended()

        assert exchange(client, post(b"body"), rig.accept, OK).body == b"hello"


@pytest.mark.parametrize(
    "answer",
    [response(b"ok", "Connection: close"), response(b"ok", version="1.0"), b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["close", "HTTP/1.0", "no length"],
)
def test_member_that_will_close_is_not_used_again(retrying: Rig, answer: bytes) -> None:
    with retrying.client() as client:
        client.send(get("/first"))
        first = retrying.accept()
        first.read_message()
        first.send(answer)
        if not answer.endswith(b"ok"):
            first.finish()
        assert client.read_message().status == 200
        assert first.ended()
    with retrying.client() as client:
        assert exchange(client, get("/second"), retrying.accept, OK).body == b"hello"


def test_http_1_0_member_that_keeps_alive_is_used_again(retrying: Rig) -> None:
    with retrying.client() as client:
        member = first_exchange(retrying, client, response(b"ok", "Connection: keep-alive", version="1.0"))

        assert exchange(client, get("/second"), lambda: member, OK).body == b"hello"


def test_connection_whose_response_came_before_the_request_was_complete_is_not_used_again(retrying: Rig) -> None:
    with retrying.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello")
        first = retrying.accept()
        first.read_until(b"hello")
        first.send(OK)
        assert client.read_message().body == b"hello"
    assert first.ended()
    with retrying.client() as client:
        assert exchange(client, get("/second"), retrying.accept, OK).body == b"hello"


@pytest.mark.parametrize("body", [b"x" * 16_384, b"x" * 262_144], ids=["16 KiB", "256 KiB"])
def test_connection_is_used_again_whatever_the_body_length(retrying: Rig, body: bytes) -> None:
    with retrying.client() as client:
        member = first_exchange(retrying, client, response(body))

        assert exchange(client, get("/2"), lambda: member, response(b"z")).body == b"z"


def test_connection_is_used_again_after_a_chunked_response(retrying: Rig) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc")
    with retrying.client() as client:
        member = first_exchange(retrying, client, answer)

        assert exchange(client, get("/second"), lambda: member, answer).body == b"abc"


# ---- authentication that belongs to a connection ----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["NTLM", "Negotiate", "ntlm TlRMTVNTUAAC"])
def test_authentication_binds_the_connection_to_its_client(retrying: Rig, scheme: str) -> None:
    challenge = response(b"who?", f"WWW-Authenticate: {scheme}")
    with retrying.client() as one, retrying.client() as two:
        bound = first_exchange(retrying, one, challenge)

        assert exchange(two, get("/other"), retrying.accept, OK).body == b"hello"
        assert exchange(one, get("/same"), lambda: bound, OK).body == b"hello"
        assert exchange(one, post(b"body"), lambda: bound, OK).body == b"hello"
    assert bound.ended()


def test_authentication_bound_connection_ends_with_its_client(retrying: Rig) -> None:
    with retrying.client() as client:
        bound = first_exchange(retrying, client, response(b"", "WWW-Authenticate: NTLM"))
    assert bound.ended()


def test_authentication_bound_connection_that_dies_is_replaced(retrying: Rig) -> None:
    with retrying.client() as client:
        bound = first_exchange(retrying, client, response(b"", "WWW-Authenticate: NTLM"))
        bound.finish()
        assert bound.ended()

        assert exchange(client, get("/"), retrying.accept, OK).body == b"hello"


def test_authentication_in_a_request_keeps_others_off_the_connection(retrying: Rig) -> None:
    """A member may bind without a challenge of its own on this connection."""
    with retrying.client() as one, retrying.client() as two:
        first_exchange(retrying, one, request=get("/", "Authorization: NTLM TlRMTVNTUAAB"))

        assert exchange(two, get("/other"), retrying.accept, OK).body == b"hello"


def test_basic_authentication_binds_nothing(retrying: Rig) -> None:
    with retrying.client() as one:
        member = first_exchange(retrying, one, response(b"", 'WWW-Authenticate: Basic realm="x"'))
    with retrying.client() as two:
        assert exchange(two, get("/"), lambda: member, OK).body == b"hello"
