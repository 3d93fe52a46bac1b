"""Requests that two recipients may read in two ways, by family, and a judge of what a member was given.

Each payload is the whole of what a client sends on a connection. Where a second request hides inside, its target is
`/smuggled`. Every one of them is malformed or ambiguous by RFC 9112 (or RFC 9110 5.5, 5.6.2), so that a recipient may
refuse it; none is a form that a correct client would send.

Sources: RFC 9112 sections 2.2, 5.1, 5.2, 6.1, 6.3, 7.1 and 11.2; the published families of request smuggling (CL.TE, TE.CL,
TE.TE, CL.CL, bare line ends, chunk extensions and sizes, trailers, header names that gateways normalise).
"""

from __future__ import annotations

import ipaddress
import re

__all__ = ["PAYLOADS", "ambiguities"]

_END = b"\r\n\r\n"
_HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"
_CHUNKED_HIDDEN = b"0\r\n\r\n" + _HIDDEN


def _request(fields: bytes, body: bytes = b"", line: bytes = b"POST / HTTP/1.1") -> bytes:
    return line + b"\r\nHost: test\r\n" + fields + _END + body


def _chunks(body: bytes) -> bytes:
    return _request(b"Transfer-Encoding: chunked", body)


_TE = b"Transfer-Encoding: chunked"
_CL = b"Content-Length: 5"
_LENGTH_WITH_CODING = {
    "CL.TE": _request(b"Content-Length: %d\r\n" % len(_CHUNKED_HIDDEN) + _TE, _CHUNKED_HIDDEN),
    "CL.TE short": _request(
        b"Content-Length: 4\r\n" + _TE, b"5c\r\nGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n0\r\n\r\n"
    ),
    "TE.CL": _request(_TE + b"\r\nContent-Length: 4", b"5c\r\n" + _HIDDEN + b"\r\n0\r\n\r\n"),
    "TE.CL equal": _request(_TE + b"\r\nContent-Length: 5", b"0\r\n\r\n"),
    "TE and CL of zero": _request(_TE + b"\r\nContent-Length: 0", _CHUNKED_HIDDEN),
    "CL of zero and TE": _request(b"Content-Length: 0\r\n" + _TE, _CHUNKED_HIDDEN),
    "TE in HTTP/1.0": _request(_TE, _CHUNKED_HIDDEN, b"POST / HTTP/1.0"),
    "TE in HTTP/1.0 with keep-alive": _request(
        _TE + b"\r\nConnection: keep-alive", _CHUNKED_HIDDEN, b"POST / HTTP/1.0"
    ),
    "TE and CL with GET": _request(_TE + b"\r\n" + _CL, _CHUNKED_HIDDEN, b"GET / HTTP/1.1"),
}
# Next to a Content-Length, so that who misses the coding reads on at another place.
_CODINGS = {
    name: _request(line + b"\r\nContent-Length: %d" % len(_CHUNKED_HIDDEN), _CHUNKED_HIDDEN)
    for name, line in {
        "x in front": b"Transfer-Encoding: xchunked",
        "x behind": b"Transfer-Encoding: chunkedx",
        "blank before colon": b"Transfer-Encoding : chunked",
        "tab before colon": b"Transfer-Encoding\t: chunked",
        "vertical tab before value": b"Transfer-Encoding:\x0bchunked",
        "form feed behind value": b"Transfer-Encoding: chunked\x0c",
        "NUL behind value": b"Transfer-Encoding: chunked\0",
        "NUL in value": b"Transfer-Encoding: chu\0nked",
        "quoted": b'Transfer-Encoding: "chunked"',
        "single quoted": b"Transfer-Encoding: 'chunked'",
        "parameter": b"Transfer-Encoding: chunked;q=1",
        "identity behind": b"Transfer-Encoding: chunked, identity",
        "identity before": b"Transfer-Encoding: identity, chunked",
        "identity": b"Transfer-Encoding: identity",
        "twice in one field": b"Transfer-Encoding: chunked, chunked",
        "comma behind": b"Transfer-Encoding: chunked,",
        "comma before": b"Transfer-Encoding: ,chunked",
        "empty": b"Transfer-Encoding:",
        "two fields": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "two fields, second unknown": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
        "two fields, first unknown": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
        "two fields, second identity": b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity",
        "folded": b"Transfer-Encoding:\r\n chunked",
        "folded with a tab": b"Transfer-Encoding:\r\n\tchunked",
        "folded into another field": b"X: y\r\n Transfer-Encoding: chunked",
        "line of blank first": b"X: y\r\n \r\nTransfer-Encoding: chunked",
        "behind a bare LF": b"X: y\nTransfer-Encoding: chunked",
        "behind a bare CR": b"X: y\rTransfer-Encoding: chunked",
        "behind CR CR LF": b"X: y\r\r\nTransfer-Encoding: chunked",
        "name broken by CRLF": b"Transfer-Encoding\r\n: chunked",
        "name with NUL": b"Transfer-Encoding\0: chunked",
        "NUL before name": b"\0Transfer-Encoding: chunked",
        "vertical tab before name": b"\x0bTransfer-Encoding: chunked",
        "underscore": b"Transfer_Encoding: chunked",
        "high octet in name": b"Transfer-\xffEncoding: chunked",
        "soft hyphen": b"Transfer\xc2\xadEncoding: chunked",
        "no-break space before value": b"Transfer-Encoding:\xa0chunked",
        "backspace": b"Transfer-Encoding: chunkedd\x08",
    }.items()
}
_LENGTHS = {
    name: _request(line, b"hello" + _HIDDEN)
    for name, line in {
        "two different": b"Content-Length: 5\r\nContent-Length: 0",
        "two different, zero first": b"Content-Length: 0\r\nContent-Length: 5",
        "list of two": b"Content-Length: 5, 0",
        "plus": b"Content-Length: +5",
        "minus": b"Content-Length: -5",
        "hexadecimal": b"Content-Length: 0x5",
        "blank inside": b"Content-Length: 5 0",
        "blank inside, tab": b"Content-Length: 5\t0",
        "decimal point": b"Content-Length: 5.0",
        "exponent": b"Content-Length: 5e0",
        "semicolon": b"Content-Length: 5;",
        "comma": b"Content-Length: 5,",
        "quoted": b'Content-Length: "5"',
        "empty": b"Content-Length:",
        "empty and another": b"Content-Length:\r\nContent-Length: 5",
        "underscore digits": b"Content-Length: 0_5",
        "over 64 bits": b"Content-Length: 18446744073709551621",
        "over 63 bits": b"Content-Length: 9223372036854775813",
        "NUL behind": b"Content-Length: 5\0",
        "vertical tab behind": b"Content-Length: 5\x0b",
        "no-break space": b"Content-Length: \xa05",
        "Arabic digit": b"Content-Length: \xd9\xa5",
        "blank before colon": b"Content-Length : 5",
        "tab before colon": b"Content-Length\t: 5",
        "underscore name": b"Content_Length: 5",
        "underscore name and another": b"Content_Length: 0\r\nContent-Length: 5",
        "folded": b"Content-Length:\r\n 5",
        "folded digits": b"Content-Length: \r\n 5\r\n 0",
        "behind a bare LF": b"X: y\nContent-Length: 5",
        "behind a bare CR": b"X: y\rContent-Length: 5",
        "name with NUL": b"Content-Length\0: 5",
        "nominated by Connection": b"Content-Length: 5\r\nConnection: Content-Length",
        "nominated by Connection, with TE": b"Transfer-Encoding: chunked\r\nConnection: close, transfer-encoding",
    }.items()
}
_LINE_ENDS = {
    "LF only": b"GET / HTTP/1.1\nHost: test\n\n",
    "LF after the request line": b"GET / HTTP/1.1\nHost: test\r\n\r\n",
    "LF after a field": b"GET / HTTP/1.1\r\nHost: test\nX: y\r\n\r\n",
    "LF LF at the end": b"GET / HTTP/1.1\r\nHost: test\n\n" + _HIDDEN,
    "CRLF LF at the end": b"GET / HTTP/1.1\r\nHost: test\r\n\n" + _HIDDEN,
    "LF CRLF at the end": b"GET / HTTP/1.1\r\nHost: test\n\r\n" + _HIDDEN,
    "CR only": b"GET / HTTP/1.1\rHost: test\r\r",
    "CR CR LF": b"GET / HTTP/1.1\r\r\nHost: test\r\r\n\r\r\n",
    "CR in a value": b"GET / HTTP/1.1\r\nHost: test\r\nX: a\rb\r\n\r\n",
    "CR in the target": b"GET /\r HTTP/1.1\r\nHost: test\r\n\r\n",
    "LF in the target": b"GET /\n HTTP/1.1\r\nHost: test\r\n\r\n",
    "LF CR": b"GET / HTTP/1.1\n\rHost: test\n\r\n\r",
    "NEL in place of a line end": b"GET / HTTP/1.1\x85Host: test\r\n\r\n",
}
_FIELDS = {
    "NUL in a value": _request(b"X: a\0b", line=b"GET / HTTP/1.1"),
    "control character in a value": _request(b"X: a\x01b", line=b"GET / HTTP/1.1"),
    "DEL in a value": _request(b"X: a\x7fb", line=b"GET / HTTP/1.1"),
    "NUL in a name": _request(b"X\0Y: a", line=b"GET / HTTP/1.1"),
    "blank in a name": _request(b"X Y: a", line=b"GET / HTTP/1.1"),
    "blank before colon": _request(b"X : a", line=b"GET / HTTP/1.1"),
    "high octet in a name": _request(b"X\xe9: a", line=b"GET / HTTP/1.1"),
    "bracket in a name": _request(b"X[0]: a", line=b"GET / HTTP/1.1"),
    "quote in a name": _request(b'"X": a', line=b"GET / HTTP/1.1"),
    "empty name": _request(b": a", line=b"GET / HTTP/1.1"),
    "no colon": _request(b"GET /smuggled HTTP/1.1", line=b"GET / HTTP/1.1"),
    "folded": _request(b"X: a\r\n b", line=b"GET / HTTP/1.1"),
    "folded with a tab": _request(b"X: a\r\n\tb", line=b"GET / HTTP/1.1"),
    "folded Host": b"GET / HTTP/1.1\r\nHost:\r\n test\r\n\r\n",
    "blank before the first field": b"GET / HTTP/1.1\r\n Host: test\r\nHost: other\r\n\r\n",
}
_REQUEST_LINES = {
    name: line + b"\r\nHost: test\r\n\r\n"
    for name, line in {
        "two blanks after the method": b"GET  / HTTP/1.1",
        "two blanks before the version": b"GET /  HTTP/1.1",
        "tab": b"GET\t/\tHTTP/1.1",
        "blank at the end": b"GET / HTTP/1.1 ",
        "blank at the begin": b" GET / HTTP/1.1",
        "blank in the target": b"GET /a b HTTP/1.1",
        "NUL in the target": b"GET /a\0b HTTP/1.1",
        "control character in the target": b"GET /a\x01b HTTP/1.1",
        "high octet in the target": b"GET /\xff HTTP/1.1",
        "NUL in the method": b"GE\0T / HTTP/1.1",
        "no target": b"GET HTTP/1.1",
        "no version": b"GET /",
        "lower-case version": b"GET / http/1.1",
        "version 1.10": b"GET / HTTP/1.10",
        "version 01.1": b"GET / HTTP/01.1",
        "version 1.2": b"GET / HTTP/1.2",
        "version 3.7": b"GET / HTTP/3.7",
        "version without a dot": b"GET / HTTP/11",
        "two versions": b"GET / HTTP/1.1 HTTP/1.1",
        "relative target": b"GET test HTTP/1.1",
        "asterisk with GET": b"GET * HTTP/1.1",
        "slash in the method": b"GE/T / HTTP/1.1",
    }.items()
}
_HOSTS = {
    name: b"GET " + target + b" HTTP/1.1\r\n" + fields + b"\r\n"
    for name, (target, fields) in {
        "missing": (b"/", b""),
        "twice": (b"/", b"Host: test\r\nHost: test\r\n"),
        "twice, different": (b"/", b"Host: test\r\nHost: other\r\n"),
        "list": (b"/", b"Host: test, other\r\n"),
        "userinfo": (b"/", b"Host: test@other\r\n"),
        "path": (b"/", b"Host: test/other\r\n"),
        "blank inside": (b"/", b"Host: test other\r\n"),
        "port that is no number": (b"/", b"Host: test:8a\r\n"),
        "port too large": (b"/", b"Host: test:65536\r\n"),
        "other than the target's": (b"http://other/", b"Host: test\r\n"),
        "userinfo in the target": (b"http://test@other/", b"Host: test\r\n"),
        "missing, absolute target": (b"http://test/", b""),
        "nominated by Connection": (b"/", b"Host: test\r\nConnection: host\r\n"),
    }.items()
}
_CHUNK_BODIES = {
    name: _chunks(body)
    for name, body in {
        "0x": b"0x5\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "plus": b"+5\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "minus": b"-5\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "blank before": b" 5\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "no digits": b"\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "only an extension": b";a=b\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "over 64 bits": b"10000000000000005\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "64 bits": b"ffffffffffffffff\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "underscore": b"0_5\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "point": b"5.0\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "letter": b"5g\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "NUL": b"5\0\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "vertical tab": b"5\x0b\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "LF ends the size": b"5\nhello\r\n" + _CHUNKED_HIDDEN,
        "CR ends the size": b"5\rhello\r\n" + _CHUNKED_HIDDEN,
        "LF ends the data": b"5\r\nhello\n" + _CHUNKED_HIDDEN,
        "nothing ends the data": b"5\r\nhello" + _CHUNKED_HIDDEN,
        "data too long": b"5\r\nhello!\r\n" + _CHUNKED_HIDDEN,
        "two letters end the data": b"5\r\nhelloXX" + _CHUNKED_HIDDEN,
        "LF in an extension": b"5;a\nb\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "LF ends an extension": b"5;a=b\nhello\r\n" + _CHUNKED_HIDDEN,
        "CR in an extension": b"5;a\rb\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "NUL in an extension": b"5;a=\0\r\nhello\r\n" + _CHUNKED_HIDDEN,
        "LF in a quoted extension": b'5;a="\n"\r\nhello\r\n' + _CHUNKED_HIDDEN,
        "last chunk ends with LF": b"5\r\nhello\r\n0\n\n" + _HIDDEN,
        "LF after the last chunk": b"5\r\nhello\r\n0\r\n\n" + _HIDDEN,
        "last chunk's extension ends with LF": b"5\r\nhello\r\n0;a\n\r\n" + _HIDDEN,
        "zero with a sign": b"5\r\nhello\r\n-0\r\n\r\n" + _HIDDEN,
    }.items()
}
_TRAILERS = {
    name: _chunks(b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n" + _HIDDEN)
    for name, line in {
        "Content-Length": b"Content-Length: 50",
        "Transfer-Encoding": b"Transfer-Encoding: chunked",
        "content_length": b"content_length: 50",
        "Host": b"Host: other",
        "Connection": b"Connection: close",
        "Authorization": b"Authorization: Basic eDp5",
        "X-Forwarded-For": b"X-Forwarded-For: 10.0.0.1",
        "blank before colon": b"X : y",
        "folded": b"X: y\r\n z",
        "no colon": b"GET /smuggled HTTP/1.1",
        "NUL": b"X: \0",
        "bare LF": b"X: y\nZ: z",
        "bare CR": b"X: y\rZ: z",
        "empty name": b": y",
    }.items()
}

PAYLOADS: dict[str, bytes] = {
    f"{family}: {name}": payload
    for family, payloads in {
        "length and coding": _LENGTH_WITH_CODING,
        "coding": _CODINGS,
        "length": _LENGTHS,
        "line end": _LINE_ENDS,
        "field": _FIELDS,
        "request line": _REQUEST_LINES,
        "host": _HOSTS,
        "chunk": _CHUNK_BODIES,
        "trailer": _TRAILERS,
    }.items()
    for name, payload in payloads.items()
}

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ (?:/[!-~]*|https?://[^/?@]+(?:[/?][!-~]*)?|\*) HTTP/1\.[01]")
_HOST = re.compile(rb"(?:[0-9A-Za-z._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,4}|:[1-5][0-9]{4})?")
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SIZE_LINE = re.compile(rb"0*[0-9A-Fa-f]{1,15}(?:;%b(?:=(?:%b|\"[\t\x20-\x7e\x80-\xff]*\"))?)*" % (_NAME, _NAME))
_BAD_OCTET = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TRAILER_FORBIDDEN = re.compile(
    rb"(content|transfer)[-_](length|encoding)|host|connection|authorization|x-forwarded-.*", re.I
)


def ambiguities(received: bytes) -> list[str]:
    """What a member may misread in the bytes that it got on one connection; an incomplete message at the end is fine."""
    found: list[str] = []
    while received:
        head, end, rest = received.partition(_END)
        lines = head.split(b"\r\n")
        if not _LINE.fullmatch(lines[0]) and end:
            return [*found, f"request line {lines[0]!r}"]
        fields = [_judge_field(line, found) for line in lines[1 : len(lines) if end else -1]]
        if not end:
            return [*found, "bare line end"] if _BAD_OCTET.search(re.sub(rb"\r\n|\r\n?$", b"", head)) else found
        names = [name for name, _ in fields]
        lengths = [value for name, value in fields if name == b"content-length"]
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        if len(lengths) + len(codings) > 1:
            found.append("framed twice")
        if any(not re.fullmatch(rb"0|[1-9][0-9]{0,17}", value) for value in lengths):
            found.append(f"length {lengths!r}")
        if any(value.lower() != b"chunked" for value in codings):
            found.append(f"coding {codings!r}")
        if b"content_length" in names or b"transfer_encoding" in names:
            found.append("look-alike name")
        if codings and lines[0].endswith(b"1.0"):
            found.append("coding in HTTP/1.0")
        found += _judge_routing(lines[0], fields)
        if found:
            return found
        if codings:
            rest = _judge_chunks(rest, found)
        received = rest[int(lengths[0]) :] if lengths else rest
        if found:
            return found
    return found


def _judge_routing(line: bytes, fields: list[tuple[bytes, bytes]]) -> list[str]:
    hosts = [value for name, value in fields if name == b"host"]
    target = line.split(b" ")[1]
    if len(hosts) != 1 and (hosts or line.endswith(b"1.1")):
        return ["host missing or repeated"]
    if any(not _HOST.fullmatch(host) for host in hosts):
        return [f"host {hosts!r}"]
    if any(host.startswith(b"[") and not _is_address(host[1 : host.index(b"]")]) for host in hosts):
        return [f"host {hosts!r}"]
    if target.startswith(b"http") and hosts and target.split(b"/")[2].lower() != hosts[0].lower():
        return ["host differs from the target"]
    if target == b"*" and not line.startswith(b"OPTIONS "):
        return ["asterisk"]
    options = b",".join(value.lower() for name, value in fields if name == b"connection")
    if re.search(rb"\b(host|content-length|transfer-encoding)\b", options):
        return ["Connection nominates a framing field"]
    return []


def _is_address(text: bytes) -> bool:
    try:
        ipaddress.IPv6Address(text.decode("ascii"))
    except ValueError:
        return False
    return True


def _judge_field(line: bytes, found: list[str]) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name) or _BAD_OCTET.search(value):
        found.append(f"field {line!r}")
    return name.lower(), value.strip(b" \t")


def _judge_chunks(body: bytes, found: list[str]) -> bytes:
    """Returns what follows the body, b"" when that is incomplete."""
    while True:
        line, end, body = body.partition(b"\r\n")
        if not end:
            if _BAD_OCTET.search(line[:-1] if line.endswith(b"\r") else line):
                found.append(f"chunk line {line!r}")
            return b""
        if not _SIZE_LINE.fullmatch(line) or len(line) > 4096:
            found.append(f"chunk line {line!r}")
            return b""
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        if not b"\r\n".startswith(body[size : size + 2]):
            found.append(f"chunk end {body[size : size + 2]!r}")
            return b""
        if len(body) < size + 2:
            return b""
        body = body[size + 2 :]
    while True:
        line, end, body = body.partition(b"\r\n")
        if not end and _BAD_OCTET.search(line[:-1] if line.endswith(b"\r") else line):
            found.append(f"trailer {line!r}")
        if not end or not line:
            return body
        name, _ = _judge_field(line, found)
        if _TRAILER_FORBIDDEN.fullmatch(name):
            found.append(f"trailer {name!r}")
        if found:
            return b""
