"""How bodies are framed, in both directions, and the known ways to make two recipients disagree about it."""

from __future__ import annotations

import pytest

from amphorad.proxy.wire.http1 import parse_request_head, parse_response_head
from tests.support.http1_heads import (
    BAD,
    COMPLETE,
    NOT_IMPLEMENTED,
    kept,
    parse_ok,
    parse_response_ok,
    request,
    response,
)  # fmt: skip

POST = "POST / HTTP/1.1"

CONTENT_LENGTHS_REFUSED = [
    "", "+5", "-5", "-0", "+0", "5 5", "5, 5", "5,5", "5,", ",5", "5;", "0x5", "5h", "h5", "5.0", "5e1", "010", "00", "05",
    "0 0", "1_0", "٥".encode().decode("latin-1"), "\xb2", "1152921504606846977", "9223372036854775808",
    "18446744073709551621", "9" * 19, "9" * 20, "9" * 400, "0" * 20 + "5", "5\x0b", "\x0b5", "5\x00", "chunked", '"5"', "(5)",
]  # fmt: skip

CODINGS_REFUSED = [
    "", ",", ", chunked", "chunked,", "chunked, ", ",chunked", "chunked,,", "chunked, chunked", "chunked,chunked",
    "chunked, identity", "chunked, gzip", "identity, chunked, identity", "gzip, chunked, chunked", "chunked;", "chunked;a",
    "chunked;a=b", "chunked; q=1", "chunked ;a=b", "chun ked", '"chunked"', "'chunked' ;", "\x0bchunked", "chunked\x0b",
    "\x0cchunked", "chunked\x0c", "chunked\x00", "\x00chunked", "chunked\xa0", "\xa0chunked", "\x85chunked", "chunked\x7f",
    "chunked\r", "\rchunked", "chunked\n", "\nchunked", "\n chunked", "\r\n chunked", "\r\n\tchunked", "chunked\r\n ",
    "chunked\r\n , identity", "chunk\xe9d", "(chunked)", "[chunked]", "{chunked}", "<chunked>", "chunked:", ":chunked", "=",
    "chunked=", "chunked/1", "gzip chunked", "gzip; chunked", "gzip;=b, chunked", 'gzip;a="b", chunked', "gzip;a=, chunked",
]  # fmt: skip

CODINGS_UNKNOWN = [
    "xchunked", "chunkedx", "x-chunked", "chunke", "hunked", "chunked-", "identity", "gzip", "gzip, chunked", "gzip,chunked",
    "identity, chunked", "identity , chunked", "compress", "deflate, gzip", "gzip;a=b, chunked", "gzip ; a=b;c=d", "'chunked'",
    "chunked.", "*", "cow", "chunked'", "gzip,\tchunked",
]  # fmt: skip


@pytest.mark.parametrize("value", ["1", "5", "10", "999999", "1152921504606846976"])
def test_content_length_valid_frames_the_body(value: str) -> None:
    for head in (
        parse_ok(request(f"Content-Length: {value}", start=POST)),
        parse_response_ok(response(f"Content-Length: {value}")),
    ):
        assert (head.body, head.content_length) == ("length", int(value))
        assert b"content-length" in kept(head)


def test_content_length_zero_means_no_body_and_stays() -> None:
    for head in (parse_ok(request("Content-Length: 0", start=POST)), parse_response_ok(response("Content-Length: 0"))):
        assert (head.body, head.content_length) == ("none", 0)
        assert b"content-length" in kept(head)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("value", CONTENT_LENGTHS_REFUSED)
def test_content_length_malformed_is_400(value: str, version: str) -> None:
    """RFC 9110 8.6, RFC 9112 6.3."""
    line = f"Content-Length: {value}"

    assert parse_request_head(request(line, start=f"POST / HTTP/{version}")).result == BAD
    assert parse_response_head(response(line, start=f"HTTP/{version} 200 OK")).result == BAD


@pytest.mark.parametrize("status", [100, 103, 204, 304])
def test_content_length_malformed_is_refused_even_where_it_frames_nothing(status: int) -> None:
    assert parse_response_head(response("Content-Length: 5, 5", start=f"HTTP/1.1 {status} x")).result == BAD


@pytest.mark.parametrize("second", ["Content-Length: 5", "content-length: 6", "CONTENT-LENGTH: 0", "Content-Length:"])
@pytest.mark.parametrize("between", [[], ["A: b"]])
def test_content_length_twice_is_400_even_if_equal(second: str, between: list[str]) -> None:
    lines = ["Content-Length: 5", *between, second]

    assert parse_request_head(request(*lines, start=POST)).result == BAD
    assert parse_response_head(response(*lines)).result == BAD


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED", "cHuNkEd", " chunked", "\tchunked", "chunked \t"])
def test_transfer_encoding_chunked_frames_the_body(value: str) -> None:
    line = f"Transfer-Encoding: {value}"

    for head in (parse_ok(request(line, start=POST)), parse_response_ok(response(line))):
        assert (head.body, head.content_length) == ("chunked", -1)
        assert b"transfer-encoding" in kept(head)


@pytest.mark.parametrize("value", CODINGS_REFUSED)
def test_transfer_encoding_malformed_is_400(value: str) -> None:
    """RFC 9112 6.1, 6.3; the TE.TE families."""
    line = f"Transfer-Encoding: {value}"

    assert parse_request_head(request(line, start=POST)).result == BAD
    assert parse_response_head(response(line)).result == BAD


@pytest.mark.parametrize("value", CODINGS_UNKNOWN)
def test_transfer_encoding_unknown_is_501_for_requests(value: str) -> None:
    """RFC 9112 6.1."""
    line = f"Transfer-Encoding: {value}"

    assert parse_request_head(request(line, start=POST)).result == NOT_IMPLEMENTED
    assert parse_response_head(response(line)).result == BAD


@pytest.mark.parametrize("first", ["chunked", "identity", "gzip", "xchunked"])
@pytest.mark.parametrize("second", ["chunked", "identity", "gzip", "xchunked", ""])
def test_transfer_encoding_twice_is_400(first: str, second: str) -> None:
    lines = [f"Transfer-Encoding: {first}", f"Transfer-encoding: {second}"]

    assert parse_request_head(request(*lines, start=POST)).result == BAD
    assert parse_response_head(response(*lines)).result == BAD


@pytest.mark.parametrize("coding", ["chunked", "gzip, chunked", "xchunked", "identity", "gzip"])
@pytest.mark.parametrize("length", ["0", "5"])
@pytest.mark.parametrize("length_first", [True, False])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_transfer_encoding_with_content_length_is_400(
    coding: str, length: str, length_first: bool, version: str
) -> None:
    """CL.TE and TE.CL; RFC 9112 6.1 and 6.3 allow to refuse."""
    lines = [f"Transfer-Encoding: {coding}", f"Content-Length: {length}"]
    if length_first:
        lines.reverse()

    assert parse_request_head(request(*lines, start=f"POST / HTTP/{version}")).result == BAD
    assert parse_response_head(response(*lines, start=f"HTTP/{version} 200 OK")).result == BAD


@pytest.mark.parametrize("coding", ["chunked", "gzip", "identity"])
def test_transfer_encoding_in_http_1_0_is_400(coding: str) -> None:
    """RFC 9112 6.1."""
    assert parse_request_head(request(f"Transfer-Encoding: {coding}", start="POST / HTTP/1.0")).result == BAD
    assert parse_response_head(response(f"Transfer-Encoding: {coding}", start="HTTP/1.0 200 OK")).result == BAD


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", " Transfer-Encoding: chunked", "\tTransfer-Encoding: chunked",
        "Transfer-Encoding", "Transfer-Encoding chunked", "Transfer-Encoding\x00: chunked", "Transfer-Encoding\x0b: chunked",
        "\x0bTransfer-Encoding: chunked", "Transfer-Encoding\xa0: chunked", "\x00Transfer-Encoding: chunked",
        "Transfer Encoding: chunked", "Transfer\tEncoding: chunked", "Transfer-\r\n Encoding: chunked", "Transfer-Encoding\r\n: chunked",
        "Transfer-Encoding:\r\n chunked", "Transfer-Encoding:\n chunked", "Transfer-Encoding: \nchunked", "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked", "X: y\r\n\rTransfer-Encoding: chunked", "Transfer-Encoding;: chunked", "(Transfer-Encoding: chunked",
        "\"Transfer-Encoding\": chunked", "Transfer-Encoding\xad: chunked", "Content-Length : 5", "Content-Length\t: 5", " Content-Length: 5",
        "Content-Length\x00: 5", "Content\x00-Length: 5", "Content-Length 5", "X: y\nContent-Length: 5", "X: y\rContent-Length: 5",
        "\xefContent-Length: 5", "Content-Length:\r\n 5", "Content-Length: 5\r\n 6", "Content Length: 5",
    ],
)  # fmt: skip
def test_framing_field_in_disguise_is_400(line: str) -> None:
    assert parse_request_head(request(line, start=POST)).result == BAD
    assert parse_request_head(request(line, "Content-Length: 5", start=POST)).result == BAD
    assert parse_response_head(response(line)).result == BAD


@pytest.mark.parametrize(
    "name",
    [
        "content_length",
        "Content_Length",
        "CONTENT_LENGTH",
        "transfer_encoding",
        "Transfer_Encoding",
        "TRANSFER_ENCODING",
    ],
)
def test_framing_field_with_underscore_is_400_in_requests(name: str) -> None:
    """CGI maps both spellings to one variable (RFC 3875 4.1.18)."""
    assert parse_request_head(request(f"{name}: 5", start=POST)).result == BAD
    assert parse_response_ok(response(f"{name}: 5")).body == "until-close"


def test_request_without_framing_fields_has_no_body() -> None:
    for method in ("GET", "POST", "PUT", "X"):
        assert parse_ok(request(start=f"{method} / HTTP/1.1")).body == "none"


def test_response_without_framing_fields_lasts_until_close() -> None:
    for version in ("1.0", "1.1"):
        head = parse_response_ok(response("Connection: keep-alive", start=f"HTTP/{version} 200 OK"))

        assert (head.body, head.content_length) == ("until-close", -1)
        assert "close" in head.flags


@pytest.mark.parametrize("status", [100, 102, 103, 199, 204])
@pytest.mark.parametrize("line", ["Content-Length: 5", "Content-Length: 0", "Transfer-Encoding: chunked"])
def test_response_that_must_not_have_framing_loses_it(status: int, line: str) -> None:
    """RFC 9110 8.6, RFC 9112 6.1."""
    head = parse_response_ok(response(line, "A: b", start=f"HTTP/1.1 {status} x"))

    assert (head.body, head.content_length, kept(head)) == ("none", 0, [b"a"])


@pytest.mark.parametrize(
    ("status", "method"), [(304, "GET"), (304, "HEAD"), (200, "HEAD"), (404, "HEAD"), (206, "HEAD")]
)
@pytest.mark.parametrize(
    ("line", "length"),
    [("Content-Length: 5", 5), ("Content-Length: 0", 0), ("Transfer-Encoding: chunked", -1), ("A: b", -1)],
)
def test_response_without_body_keeps_the_framing_of_its_representation(
    status: int, method: str, line: str, length: int
) -> None:
    """RFC 9110 8.6, 9.3.2."""
    head = parse_response_ok(response(line, start=f"HTTP/1.1 {status} x"), method)

    assert (head.body, head.content_length) == ("none", length)
    assert len(kept(head)) == 1
    assert "close" not in head.flags


def test_response_205_is_framed_as_written() -> None:
    """RFC 9112 6.3 makes no exception for it."""
    start = "HTTP/1.1 205 Reset Content"

    assert parse_response_ok(response("Content-Length: 0", start=start)).body == "none"
    assert parse_response_ok(response("Transfer-Encoding: chunked", start=start)).body == "chunked"
    assert parse_response_ok(response(start=start)).body == "until-close"


def test_framing_error_wins_over_connect() -> None:
    start = "CONNECT h:1 HTTP/1.1"

    assert parse_request_head(request("Content-Length: 5, 5", start=start)).result == BAD
    assert parse_request_head(request("Content-Length: 5", start=start)).result == NOT_IMPLEMENTED
    assert parse_request_head(request(start="GET / HTTP/1.1")).result == COMPLETE
