"""Chunked bodies: sizes, extensions, data, trailers, their limits, and any split of the bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad.proxy.wire.chunks import FORBIDDEN_TRAILERS, ChunkBody
from amphorad.proxy.wire.http1 import FIELDS_LIMIT


def feed_all(data: bytes) -> tuple[int, bool]:
    body = ChunkBody()
    return body.feed(data), body.done


def feed_split(data: bytes, cuts: list[int]) -> tuple[int, bool]:
    """Outcome of feeding in pieces: bytes used until the end or the error, and whether the body is done."""
    body = ChunkBody()
    total = 0
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(bounds):
        used = body.feed(data[start:end])
        if used < 0:
            return -1, False
        total += used
        if body.done:
            break
        assert used == end - start
    return total, body.done


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n1\r\n \r\n0\r\n\r\n",
        b"A\r\n0123456789\r\n0\r\n\r\n",
        b"a\r\n0123456789\r\n0\r\n\r\n",
        b"0000000000000005\r\nhello\r\n0\r\n\r\n",
        b"0000000000000000\r\n\r\n",
        b"2\r\n\r\n\r\n0\r\n\r\n",
        b"5;a\r\nhello\r\n0\r\n\r\n",
        b"5;a=b;c=d\r\nhello\r\n0;x\r\n\r\n",
        b'5;a="q d\t\\"\\\\\x80;\x21"\r\nhello\r\n0\r\n\r\n',
        b'5;a="";b\r\nhello\r\n0\r\n\r\n',
        b"0\r\nX-Sum: 1\r\n\r\n",
        b'0\r\nX-Sum:\r\nEtag: "\xe9"\t\r\n\r\n',
    ],
)
def test_feed_valid_body_is_done_at_its_last_byte(data: bytes) -> None:
    assert feed_all(data) == (len(data), True)
    assert feed_all(data + b"GET / HTTP/1.1\r\n") == (len(data), True)
    assert feed_split(data, list(range(len(data)))) == (len(data), True)
    assert [feed_all(data[:n]) for n in range(len(data))] == [(n, False) for n in range(len(data))]


@pytest.mark.parametrize(
    "size",
    [
        b"", b" ", b" 5", b"5 ", b"5\t", b"\t5", b"0x5", b"0X5", b"x5", b"+5", b"-5", b"-0", b"5h", b"g", b"5.", b"5,", b"5_0", b"#5",
        b"'5'", b'"5"', b"\xb2", b"5\x00", b"\x005", b"5\x0b", b"5\xa0", b"00000000000000005", b"1000000000000000",
        b"ffffffffffffffff", b"10000000000000005", b"5 ;a", b"5;", b"5; a", b"5;a ", b"5;a =b", b"5;a= b", b"5;a=", b"5;=b", b"5;a=b=c",
        b"5;;a", b"5;a;", b"5;a=b;", b"5;a b", b"5;a\x00", b"5;\x0b", b'5;"a"', b'5;a="b', b'5;a="b"c', b'5;a="b\x00"', b'5;a="\x7f"',
        b'5;a="b\\\x00"', b'5;a="b\\', b'5;a=b"', b"5;a=\x80", b"5;\x80", b"5:a", b"5=a", b"5;a@b", b"5;a/b",
    ],
)  # fmt: skip
def test_feed_malformed_size_or_extension_is_refused(size: bytes) -> None:
    """RFC 9112 7.1, 7.1.1; stricter about blanks."""
    assert feed_all(size + b"\r\nhello\r\n0\r\n\r\n")[0] == -1
    assert feed_all(b"1\r\na\r\n" + size + b"\r\nhello\r\n0\r\n\r\n")[0] == -1


@pytest.mark.parametrize(
    "data",
    [
        b"5\nhello\r\n0\r\n\r\n", b"5\rhello\r\n0\r\n\r\n", b"5\r\r\nhello\r\n", b"5\n\r\nhello\r\n", b"5\r\x00\nhello\r\n",
        b"5;\nhello\r\n0\r\n\r\n", b"5;a\nhello\r\n0\r\n\r\n", b"5;a\rb\r\nhello", b"5;a=b\nhello", b"5;a=\"b\n\"\r\nhello",
        b"5;a=\"b\r\n\"\r\nhello", b"5;a=\"\\\r\"\r\nhello", b"5;\r\nhello", b"5;a=\r\nhello",
        b"5\r\nhello0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n", b"5\r\nhellox\r\n", b"5\r\nhell\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n", b"5\r\nhello\r\r\n", b"5\r\nhello  \r\n", b"\r\n5\r\nhello", b"\n5", b"5\r\nhello\r\n\n",
        b"0\n\n", b"0\r\n\n", b"0\r\r\n\r\n", b"0\r\n\rx", b"0\n\r\n", b"0\r\nX\r\n\r\n", b"0\r\nX: y\n\r\n", b"0\r\nX: y\r\r\n",
        b"0\r\nX: y\r\n z\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\n: y\r\n\r\n", b"0\r\nX: \x00\r\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n", b"0\r\nX: a\x7f\r\n\r\n", b"0\r\n\x80: a\r\n\r\n", b"0\r\nX y: a\r\n\r\n", b"0\r\nGET / HTTP/1.1\r\n\r\n",
    ],
)  # fmt: skip
def test_feed_malformed_line_end_data_or_trailer_is_refused(data: bytes) -> None:
    assert feed_all(data)[0] == -1
    assert feed_split(data, list(range(len(data))))[0] == -1


def test_feed_after_an_error_stays_refused() -> None:
    body = ChunkBody()

    assert body.feed(b"x") == -1
    assert body.feed(b"0\r\n\r\n") == -1
    assert not body.done


def test_feed_after_the_end_takes_nothing() -> None:
    body = ChunkBody()
    body.feed(b"0\r\n\r\n")

    assert (body.feed(b"0\r\n\r\n"), body.done) == (0, True)


def test_feed_largest_size_is_accepted_and_counted() -> None:
    body = ChunkBody()

    assert body.feed(b"0fffffffffffffff\r\n" + b"x" * 1000) == 1018
    assert not body.done


def test_feed_extension_bytes_are_limited() -> None:
    assert feed_all(b"0;" + b"a" * 256 + b"\r\n\r\n")[1]
    assert feed_all(b"0;" + b"a" * 257 + b"\r\n\r\n")[0] == -1
    assert feed_all(b'1;a="' + b"a" * 300)[0] == -1
    assert feed_all((b"1;" + b"a" * 200 + b"\r\nx\r\n") * 3 + b"0\r\n\r\n")[1]


def test_feed_trailer_bytes_and_fields_are_limited() -> None:
    assert feed_all(chunked(trailers=b"X: " + b"a" * 8000 + b"\r\n"))[1]
    assert feed_all(chunked(trailers=b"X: " + b"a" * 8200 + b"\r\n"))[0] == -1
    assert feed_all(chunked(trailers=b"X:\r\n" * FIELDS_LIMIT))[1]
    assert feed_all(chunked(trailers=b"X:\r\n" * (FIELDS_LIMIT + 1)))[0] == -1


@pytest.mark.parametrize("name", sorted(FORBIDDEN_TRAILERS - {"x-forwarded-"}))
def test_feed_forbidden_trailer_is_refused_in_any_spelling(name: str) -> None:
    """RFC 9110 6.5.1."""
    for spelling in (name, name.upper(), name.title(), name.replace("-", "_")):
        assert feed_all(chunked(b"a", trailers=f"X: y\r\n{spelling}: x\r\n".encode()))[0] == -1


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "x_forwarded_proto", "X-Forwarded-", "X-SSL-Client-CN", "x-ssl-client"]
)
def test_feed_trailer_of_a_forbidden_family_is_refused(name: str) -> None:
    assert feed_all(chunked(trailers=f"{name}: x\r\n".encode()))[0] == -1


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded",
        "X-Forwardedfor",
        "Hosts",
        "X-Host",
        "Content-MD5",
        "Grpc-Status",
        "Server-Timing",
        "ETag",
        "Digest",
        "T",
    ],
)
def test_feed_other_trailer_is_passed(name: str) -> None:
    assert feed_all(chunked(trailers=f"{name}: x\r\n".encode()))[1]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(0, 300), max_size=12))
def test_feed_any_split_gives_the_same_outcome(chunks: list[bytes], cuts: list[int]) -> None:
    data = chunked(*chunks, trailers=b"X-Sum: 1\r\n") + b"next"

    assert feed_split(data, cuts) == (len(data) - 4, True)


@given(
    st.lists(
        st.sampled_from(
            [
                b"0",
                b"1",
                b"5",
                b"a",
                b"\r\n",
                b"\r",
                b"\n",
                b";",
                b"=",
                b'"',
                b"\\",
                b" ",
                b"X:",
                b"te",
                b"hello",
                b"\x00",
            ]
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 60), max_size=12),
)
def test_feed_any_split_of_garbage_gives_the_same_outcome(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    used, done = feed_all(data)

    assert feed_split(data, cuts) == (used, done)
