"""Generated requests and responses through amphorad and the real HAProxy 2.6: the same bytes, the same outcome.

Where the outcome differs on purpose:

- HTTP/1.0 requests go on as HTTP/1.1, with a Host; HAProxy passes the version on. Responses are HTTP/1.1 to the client.
- Keep-Alive, Proxy-Connection, TE and what Connection nominates are dropped (RFC 9110 section 7.6.1); HAProxy 2.6 drops
  Connection only.
- A request that `ambiguities` has something against is refused (400, 431, 501), whatever HAProxy does. This holds bare
  LF and folded lines, controls in values, blanks in the request line, Content-Length with Transfer-Encoding, unknown
  codings, missing or malformed Host, framing fields in trailers, and look-alike names.
- Not an ambiguity, and refused nevertheless: a fragment in the target; a Connection value that is no list of tokens.
- A malformed response is answered 502 or cut off, whatever HAProxy does.

The other direction has one exception: HAProxy answers 413 to a GET, HEAD or DELETE of HTTP/1.0 with a body, which is
harmless here, for it goes on as HTTP/1.1. What else HAProxy refuses, amphorad refuses.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import select
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h11
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.support.http_peers import Peer, chunked, get
from tests.support.smuggling_payloads import ambiguities

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.support.http_rig import Rig

pytestmark = pytest.mark.haproxy

# The fixtures keep nothing from one example to the next: `converse` hangs up after each.
EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Always the same examples: what an oracle and a list of exceptions do not agree on yet is for the one who looks for it
# (take `derandomize` out and raise the number), not for whoever runs the tests.
MANY = settings(EXAMPLES, max_examples=150, derandomize=True)

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"x-nominated"}
# Fields with a meaning of their own are generated deliberately, or not at all.
SPECIAL = {
    "connection",
    "content-length",
    "transfer-encoding",
    "host",
    "upgrade",
    "expect",
    "te",
    "keep-alive",
    "trailer",
}
LIST = rb"[ \t,]*([!#$%&'*+.^_`|~0-9a-z-]+([ \t]*,[ \t,]*|$))*"
REFUSALS = (400, 431, 501)
NASTY = [
    b"\0",
    b"\r",
    b"\n",
    b" ",
    b"\t",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b",",
    b":",
    b";",
    b"0",
    b"\r\n",
    b"\r\n ",
    b"#",
    b"x",
]

names = st.text(TOKEN, min_size=1, max_size=20).filter(lambda name: name.lower() not in SPECIAL and "_" not in name)
values = st.text([chr(code) for code in (*range(0x20, 0x7F), *range(0x80, 0x100), 9)], max_size=40).map(
    lambda text: text.encode("latin-1").strip(b" \t")
)
common = st.sampled_from(
    [("Accept", b"*/*"), ("Cookie", b"a=b; c=d"), ("Connection", b"keep-alive"), ("Connection", b"x-nominated"),
     ("X-Nominated", b"1"), ("TE", b"trailers"), ("Keep-Alive", b"timeout=5"), ("X-Forwarded-For", b"10.1.2.3"),
     ("Content-Type", b"text/plain"), ("Cache-Control", b"no-cache"), ("Set-Cookie", b"a=b"), ("ETag", b'"x"')]
)  # fmt: skip
field_lists = st.lists(st.one_of(common, st.tuples(names, values)), max_size=6)
bodies = st.binary(max_size=300)
chunk_lists = st.lists(st.binary(min_size=1, max_size=60), max_size=4)


def _head(start: str, fields: list[tuple[str, bytes]]) -> bytes:
    return (
        start.encode() + b"\r\n" + b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in fields) + b"\r\n"
    )


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "REPORT"]))
    target = "/" + draw(st.text("abc/.;?=&%25~!$'()*+,:@-_[]{}|^`\"<>\\", max_size=20))
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0"]))
    fields = draw(field_lists)
    fields.insert(
        draw(st.integers(0, len(fields))), ("Host", draw(st.sampled_from([b"test", b"test:80", b"[::1]:8080", b"a.b"])))
    )
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    body = b""
    if framing == "length" and (version == "1.1" or method not in ("GET", "HEAD", "DELETE")):
        body = draw(bodies)
        fields.append(("Content-Length", b"%d" % len(body)))
    elif framing == "chunked" and version == "1.1":
        body = chunked(*draw(chunk_lists), trailers=draw(st.sampled_from([(), ("X-Trailer: 1",)])))
        fields.append((draw(st.sampled_from(["Transfer-Encoding", "transfer-encoding"])), b"chunked"))
    return _head(f"{method} {target} HTTP/{version}", fields) + body


@dataclass
class Answer:
    """What the member does."""

    data: bytes
    closes: bool


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    status = draw(
        st.sampled_from(["200 OK", "200 OK", "204 No Content", "304 Not Modified", "404 ", "503 No", "299 \xe9"])
    )
    fields = [(name, value) for name, value in draw(field_lists) if value != b"x-nominated"]
    framing = draw(st.sampled_from(["length", "length", "chunked", "close"]))
    body = b""
    if status.startswith(("204", "304")):
        framing = "none"
    elif framing == "length":
        body = draw(bodies)
        fields.append(("Content-Length", b"%d" % len(body)))
    elif framing == "chunked":
        body = chunked(*draw(chunk_lists), trailers=draw(st.sampled_from([(), ("X-Trailer: 1",)])))
        fields.append(("Transfer-Encoding", b"chunked"))
    else:
        body = draw(bodies)
    return Answer(_head(f"HTTP/1.1 {status}", fields).replace("é".encode(), b"\xe9") + body, framing == "close")


@dataclass
class Outcome:
    """One conversation, as each end saw it."""

    at_member: bytes = b""
    at_client: bytes = b""
    requests: list[tuple[object, ...]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """0 when the client got nothing."""
        return int(self.at_client[9:12]) if self.at_client.startswith(b"HTTP/1.") else 0


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)] or [data]


def converse(rig: Rig, request: bytes, cuts: list[int], answer: Answer) -> Outcome:
    """Sends, ends the client's direction, answers the first complete request, and reads both ends out."""
    outcome = Outcome()
    with rig.client() as client:
        with contextlib.suppress(OSError):  # it may be refused before it is complete
            client.send(*split(request, cuts))
            client.finish()
        while True:
            ready, _, _ = select.select([client.socket.fileno(), rig.member.fileno()], [], [], 5)
            assert ready, "neither an answer nor a request"
            if rig.member.fileno() not in ready:
                break
            member = rig.accept()
            outcome.at_member = _read_request(member)
            outcome.requests = parsed_requests(outcome.at_member) or []
            if not outcome.requests:
                member.close()
                break
            with contextlib.suppress(ConnectionError):
                member.send(*split(answer.data, cuts))
                if answer.closes:
                    member.close()
            break
        with contextlib.suppress(ConnectionError):
            outcome.at_client = client.read_to_end()
    rig.member.hang_up()
    return outcome


def _read_request(member: Peer) -> bytes:
    """Up to the end of the first request that h11 finds complete, or malformed, or of the connection."""
    received = b""
    while parsed_requests(received) == []:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = member.receive()
        if not data:
            break
        received += data
    return received


def parsed_requests(received: bytes) -> list[tuple[object, ...]] | None:
    """The first complete request as h11 reads it: method, target, fields that end to end matter, body, trailers.

    None when h11 finds it malformed, which it does where HAProxy lets too much pass.
    """
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)
    reader.receive_data(received)
    return _messages(reader)


def parsed_responses(received: bytes, request: bytes) -> list[tuple[object, ...]] | None:
    """The final response as h11 reads it, [] when it is incomplete, None when it is malformed."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=65536)
    method = request.split(b" ")[0]
    reader.send(
        h11.Request(method=method if method in (b"HEAD", b"GET") else b"POST", target="/", headers=[("host", "test")])
    )
    reader.receive_data(received)
    reader.receive_data(b"")
    return _messages(reader)


def _messages(reader: h11.Connection) -> list[tuple[object, ...]] | None:
    found: list[object] = []
    body = b""
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Request):
            found = [event.method, event.target, _end_to_end(event.headers)]
        elif isinstance(event, h11.Response):
            found = [event.status_code, event.reason.strip(), _end_to_end(event.headers)]
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return [(*found, body, sorted(event.headers))] if found else []
        elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            return []


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in headers if name not in HOP_BY_HOP]


def framing_of(received: bytes) -> str:
    head = received.partition(b"\r\n\r\n")[0].lower()
    return "chunked" if b"\r\ntransfer-encoding:" in head else "length" if b"\r\ncontent-length:" in head else "none"


cuts = st.lists(st.integers(0, 700), max_size=4)
GET = get("/")
HELLO = Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", False)


@EXAMPLES
@given(request=requests(), cuts=cuts)
def test_valid_request_is_the_same_at_the_member(
    amphorad_rig: Rig, haproxy_rig: Rig, request: bytes, cuts: list[int]
) -> None:
    ours, theirs = converse(amphorad_rig, request, cuts, HELLO), converse(haproxy_rig, request, cuts, HELLO)

    assert ours.status == theirs.status == 200
    assert ours.requests == theirs.requests != []
    assert framing_of(ours.at_member) == framing_of(theirs.at_member)
    assert ambiguities(ours.at_member) == []


@EXAMPLES
@given(answer=answers(), cuts=cuts, method=st.sampled_from(["GET", "HEAD", "POST"]))
def test_valid_response_is_the_same_at_the_client(
    amphorad_rig: Rig, haproxy_rig: Rig, answer: Answer, cuts: list[int], method: str
) -> None:
    request = get("/", *(["Content-Length: 0"] if method == "POST" else []), method=method)
    if method == "HEAD":
        answer = Answer(answer.data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", answer.closes)

    ours, theirs = converse(amphorad_rig, request, cuts, answer), converse(haproxy_rig, request, cuts, answer)

    assert ours.status == theirs.status
    assert parsed_responses(ours.at_client, request) == parsed_responses(theirs.at_client, request) != []
    assert framing_of(ours.at_client) == framing_of(theirs.at_client)


@st.composite
def damaged(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """One or two small mistakes, mostly in the head."""
    message = draw(messages)
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(0, len(message)))
        kind = draw(st.sampled_from(["insert", "delete", "replace", "line", "end"]))
        if kind == "insert":
            message = message[:place] + draw(st.sampled_from(NASTY)) + message[place:]
        elif kind == "delete":
            message = message[:place] + message[place + 1 :]
        elif kind == "replace":
            message = message[:place] + draw(st.sampled_from(NASTY)) + message[place + 1 :]
        else:
            lines = message.split(b"\r\n")
            which = draw(st.integers(0, len(lines) - 1))
            if kind == "line":
                lines.insert(which, lines[draw(st.integers(0, len(lines) - 1))])
                message = b"\r\n".join(lines)
            else:
                message = b"\r\n".join(lines[: which + 1]) + b"\n" + b"\r\n".join(lines[which + 1 :])
    return message


@MANY
@given(request=damaged(requests()), cuts=cuts)
def test_damaged_request_passes_only_where_haproxy_lets_it_pass(
    amphorad_rig: Rig, haproxy_rig: Rig, request: bytes, cuts: list[int]
) -> None:
    ours, theirs = converse(amphorad_rig, request, cuts, HELLO), converse(haproxy_rig, request, cuts, HELLO)
    note(f"amphorad: {ours}\nhaproxy: {theirs}")

    assert ambiguities(ours.at_member) == []
    if ours.requests and theirs.status == 413:
        assert b" HTTP/1.0\r\n" in request
    elif ours.requests:
        assert ours.requests == [_with_host(ours, found) for found in theirs.requests]
        assert ours.status == theirs.status == 200
    elif theirs.requests or (theirs.at_member and parsed_requests(theirs.at_member) is None):
        assert ours.status in REFUSALS
        assert ambiguities(request) or _is_refused_by_choice(request)


def _with_host(ours: Outcome, request: tuple[object, ...]) -> tuple[object, ...]:
    """HAProxy's request with the Host that amphorad adds to one of HTTP/1.0 without."""
    method, target, fields, *rest = request
    assert isinstance(fields, list)
    if b"host" not in dict(fields):
        added = re.findall(rb"\r\nhost: (127\.0\.0\.1:[0-9]+)\r\n", ours.at_member)
        fields = [*fields, (b"host", added[0])]
    return (method, target, fields, *rest)


def _is_refused_by_choice(request: bytes) -> bool:
    """Of the module's docstring."""
    head = request.lower().partition(b"\r\n\r\n")[0]
    options = re.findall(rb"\r\nconnection:([^\r]*)", head)
    return b"#" in head.partition(b"\r\n")[0] or any(not re.fullmatch(LIST, value.strip()) for value in options)


@MANY
@given(answer=damaged(answers().map(lambda answer: answer.data)), cuts=cuts)
def test_damaged_response_passes_only_where_haproxy_lets_it_pass(
    amphorad_rig: Rig, haproxy_rig: Rig, answer: bytes, cuts: list[int]
) -> None:
    damaged_answer = Answer(answer, True)
    ours, theirs = converse(amphorad_rig, GET, cuts, damaged_answer), converse(haproxy_rig, GET, cuts, damaged_answer)
    note(f"amphorad: {ours}\nhaproxy: {theirs}")

    got, expected = parsed_responses(ours.at_client, GET), parsed_responses(theirs.at_client, GET)
    if ours.status != 502 and got:  # else it was refused, or broke off, which the client can see
        assert got == expected
