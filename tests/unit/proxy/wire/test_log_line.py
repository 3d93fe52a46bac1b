"""Values, limits and safety of traffic-log lines."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amphorad.proxy.log_format import Formatter
from amphorad.proxy.wire.log_line import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

OCTAVIA = "p b %f %ci %cp %t %{+Q}r %ST %B %U %[ssl_c_verify] %{+Q}[ssl_c_s_dn] %b %s %Tt %tsc"
MOMENT = 1795194788  # 20 Nov 2026 17:13:08 UTC
V4 = b"\xc0\x00\x02\x01"
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1")


@pytest.fixture
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


def show(text: str, **values: Any) -> str:
    line = Formatter(text, pid=7, host="amphora-1").line(**values)
    assert line.endswith(b"\n")
    return line.partition(b"]: ")[2][:-1].decode()


FULL: dict[str, Any] = {
    "listener": b"listener",
    "pool": b"pool",
    "member": b"member",
    "client": (V4, 51234),
    "bind": (V6, 443),
    "source": (V4, 40000),
    "target": (b"\x0a\x00\x00\x09", 8080),
    "accept_wall_us": MOMENT * 1_000_000 + 12_999,
    "total_ms": 100,
    "handshake_ms": 1,
    "idle_ms": 2,
    "request_ms": 4,
    "queue_ms": 8,
    "connect_ms": 16,
    "response_ms": 32,
    "request_line": b"GET http://h/a/b?c=d&e HTTP/1.1",
    "status": 200,
    "bytes_out": 2**64 - 1,
    "bytes_in": 1234567,
    "termination": b"cDVN",
    "unique_id": b"id-1",
    "tls": 1,
    "tls_verify": 10,
    "tls_dn": b'/CN=a "b"',
    "tls_used": 1,
    "tls_named": 1,
    "tls_resumed": 0,
    "tls_common_name": b"a",
    "tls_issuer": b"/CN=root",
    "tls_sha1": b"0AFF",
    "tls_not_before": b"240101000000Z",
    "tls_not_after": b"250101000000Z",
    "tls_sni": b"a.example",
    "tls_alpn": b"http/1.1",
    "tls_version": b"TLSv1.3",
    "tls_cipher": b"TLS_AES_256_GCM_SHA384",
    "process_connections": 11,
    "listener_connections": 12,
    "pool_connections": 13,
    "member_connections": 14,
    "retries": 3,
    "redispatched": 1,
    "member_queue": 15,
    "pool_queue": 16,
    "line_number": 17,
    "request_number": 18,
}

# variable -> text with no flag, with +Q and with +X; one entry stands for all three
VALUES: dict[str, tuple[str, ...]] = {
    "B": ("18446744073709551615",),
    "U": ("1234567",),
    "ST": ("200",),
    "ID": ("id-1", '"id-1"', "id-1"),
    "H": ("amphora-1", '"amphora-1"', "amphora-1"),
    "pid": ("7", "7", "0007"),
    "f": ("listener", '"listener"', "listener"),
    "ft": ("listener~", '"listener~"', "listener~"),
    "b": ("pool:listener", '"pool:listener"', "pool:listener"),
    "s": ("member", '"member"', "member"),
    "ci": ("192.0.2.1", '"192.0.2.1"', "C0000201"),
    "cp": ("51234", "51234", "C822"),
    "fi": ("2001:db8::1", '"2001:db8::1"', "20010DB8000000000000000000000001"),
    "fp": ("443", "443", "01BB"),
    "bi": ("192.0.2.1", '"192.0.2.1"', "C0000201"),
    "bp": ("40000", "40000", "9C40"),
    "si": ("10.0.0.9", '"10.0.0.9"', "0A000009"),
    "sp": ("8080", "8080", "1F90"),
    "r": ("GET http://h/a/b?c=d&e HTTP/1.1", '"GET http://h/a/b?c=d&e HTTP/1.1"', "GET http://h/a/b?c=d&e HTTP/1.1"),
    "HM": ("GET", '"GET"', "GET"),
    "HU": ("http://h/a/b?c=d&e", '"http://h/a/b?c=d&e"', "http://h/a/b?c=d&e"),
    "HP": ("http://h/a/b", '"http://h/a/b"', "http://h/a/b"),
    "HPO": ("/a/b", '"/a/b"', "/a/b"),
    "HQ": ("?c=d&e", '"?c=d&e"', "?c=d&e"),
    "HV": ("HTTP/1.1", '"HTTP/1.1"', "HTTP/1.1"),
    "t": ("20/Nov/2026:22:58:08.012",),
    "T": ("20/Nov/2026:17:13:08 +0000",),
    "Tl": ("20/Nov/2026:22:58:08 +0545",),
    "tr": ("20/Nov/2026:22:58:08.015",),
    "trg": ("20/Nov/2026:17:13:08 +0000",),
    "trl": ("20/Nov/2026:22:58:08 +0545",),
    "Ts": ("1795194788", "1795194788", "6B007FA4"),
    "ms": ("012", "012", "0C"),
    "Tt": ("100",),
    "Tu": ("98",),
    "Ta": ("97",),
    "Th": ("1",),
    "Ti": ("2",),
    "TR": ("4",),
    "Tq": ("7",),
    "Tw": ("8",),
    "Tc": ("16",),
    "Tr": ("32",),
    "Td": ("37",),
    "ts": ("cD",),
    "tsc": ("cDVN",),
    "ac": ("11",),
    "fc": ("12",),
    "bc": ("13",),
    "sc": ("14",),
    "rc": ("+3",),
    "sq": ("15",),
    "bq": ("16",),
    "lc": ("17", "17", "0011"),
    "rt": ("18", "18", "0012"),
    "sslv": ("TLSv1.3", '"TLSv1.3"', "TLSv1.3"),
    "sslc": ("TLS_AES_256_GCM_SHA384", '"TLS_AES_256_GCM_SHA384"', "TLS_AES_256_GCM_SHA384"),
    "CC": ("-", '""', "-"),
    "CS": ("-", '""', "-"),
    "[ssl_c_verify]": ("10", '"10"', "10"),
    "[ssl_c_s_dn]": ('/CN=a "b"', '"/CN=a "b""', '/CN=a "b"'),
    "[ssl_c_used]": ("1", '"1"', "1"),
    "[ssl_fc_has_sni]": ("1", '"1"', "1"),
    "[ssl_fc_is_resumed]": ("0", '"0"', "0"),
    "[ssl_c_s_dn(cn)]": ("a", '"a"', "a"),
    "[ssl_c_s_dn(CN)]": ("a", '"a"', "a"),
    "[ssl_c_i_dn]": ("/CN=root", '"/CN=root"', "/CN=root"),
    "[ssl_c_sha1,hex]": ("0AFF", '"0AFF"', "0AFF"),
    "[ssl_c_notbefore]": ("240101000000Z", '"240101000000Z"', "240101000000Z"),
    "[ssl_c_notafter]": ("250101000000Z", '"250101000000Z"', "250101000000Z"),
    "[ssl_fc_sni]": ("a.example", '"a.example"', "a.example"),
    "[ssl_fc_alpn]": ("http/1.1", '"http/1.1"', "http/1.1"),
    "[ssl_fc]": ("1", '"1"', "1"),
    "[ssl_fc_protocol]": ("TLSv1.3", '"TLSv1.3"', "TLSv1.3"),
    "[ssl_fc_cipher]": ("TLS_AES_256_GCM_SHA384", '"TLS_AES_256_GCM_SHA384"', "TLS_AES_256_GCM_SHA384"),
    "[src]": ("192.0.2.1", '"192.0.2.1"', "192.0.2.1"),
    "[src_port]": ("51234", '"51234"', "51234"),
    "[dst]": ("2001:db8::1", '"2001:db8::1"', "2001:db8::1"),
    "[dst_port]": ("443", '"443"', "443"),
}


@pytest.mark.parametrize("zone", ["Asia/Kathmandu"], indirect=True)
@pytest.mark.parametrize("name", sorted(VALUES))
def test_variable_with_a_value_is_written(zone: str, name: str) -> None:
    plain, quoted, hexadecimal = VALUES[name] * (3 if len(VALUES[name]) == 1 else 1)

    assert show(f"%{name}", **FULL) == plain
    assert show(f"%{{+Q}}{name}", **FULL) == quoted
    assert show(f"%{{+X}}{name}", **FULL) == hexadecimal


def test_every_known_variable_has_a_row_here() -> None:
    assert set(VALUES) == VARIABLES


@pytest.mark.parametrize(
    "name",
    [
        "ID",
        "ci",
        "cp",
        "fi",
        "fp",
        "bi",
        "bp",
        "si",
        "sp",
        "f",
        "b",
        "sslv",
        "sslc",
        "[ssl_c_verify]",
        "[ssl_c_s_dn]",
        "[src]",
        "[dst_port]",
    ],
)
def test_variable_without_a_value_is_a_dash_or_empty_quotes(name: str) -> None:
    assert show(f"%{name}") == "-"
    assert show(f"%{{+Q}}{name}") == '""'


def test_variables_of_an_empty_record() -> None:
    assert (
        show("%s %ST %tsc %Tw/%Tc/%Tr/%Td %{+Q}r %HM %HQ") == '<NOSRV> -1 ---- -1/-1/-1/-1 "<BADREQ>" <BADREQ> <BADREQ>'
    )


def test_octavia_line_of_a_plain_exchange() -> None:
    values = FULL | {"tls": 0, "termination": b"----", "bytes_out": 99, "request_line": b"GET / HTTP/1.1"}

    words = show(OCTAVIA, **values).split()

    assert words[2:5] == ["listener", "192.0.2.1", "51234"]
    assert words[6:] == [
        '"GET',
        "/",
        'HTTP/1.1"',
        "200",
        "99",
        "1234567",
        "-",
        '""',
        "pool:listener",
        "member",
        "100",
        "----",
    ]


def test_names_without_a_pool_show_the_listener_twice() -> None:
    assert show("%f %b %s", listener=b"L") == "L L <NOSRV>"


@pytest.mark.parametrize(
    ("raw", "plain", "escaped"),
    [
        (b'GET /"#\x00\x7f\x80\xff HTTP/1.1', "GET /#22#23#00#7F#80#FF HTTP/1.1", "GET /#22#23#00#7F#80#FF HTTP/1.1"),
        (b"GET /[\\]%20{}| HTTP/1.1", "GET /[\\]%20{}| HTTP/1.1", "GET /[\\\\\\]%20{}| HTTP/1.1"),
    ],
)
def test_request_line_encodes_what_haproxy_encodes(raw: bytes, plain: str, escaped: str) -> None:
    assert show("%r", request_line=raw) == plain
    assert show("%{+E}r", request_line=raw) == escaped


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"GET", "GET|||||HTTP/0.9"),
        (b"GET /", "GET|/|/|/||HTTP/0.9"),
        (b"", "|||||HTTP/0.9"),
        (b"OPTIONS * HTTP/1.1", "OPTIONS|*|*|*||HTTP/1.1"),
        (b"GET https://h?q HTTP/2.0", "GET|https://h?q|https://h||?q|HTTP/2.0"),
        (b"GET /a://b/c HTTP/1.1", "GET|/a://b/c|/a://b/c|/a://b/c||HTTP/1.1"),
        (b"CONNECT h:1 HTTP/1.1", "CONNECT|h:1|h:1|h:1||HTTP/1.1"),
    ],
)
def test_request_line_is_split_at_blanks(line: bytes, parts: str) -> None:
    assert show("%HM|%HU|%HP|%HPO|%HQ|%HV", request_line=line) == parts


def test_request_line_counts_1023_bytes() -> None:
    line = Formatter("%r", pid=1).line(request_line=b"A" * 5000, room=9000)

    assert line.count(b"A") == 1023


def test_distinguished_name_keeps_quotes_and_utf8_but_no_control_characters() -> None:
    dn = "/CN=\u00e9\n<134>forged".encode() + b"\x7f"

    assert show("%{+Q}[ssl_c_s_dn]", tls=1, tls_dn=dn) == '"/CN=\u00e9#0A<134>forged#7F"'
    assert show("%{+Q,+E}[ssl_c_s_dn]", tls=1, tls_dn=b'a"]\\') == '"a\\"\\]\\\\"'


@pytest.mark.parametrize(
    "zone", ["UTC", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe", "ODD-1:07:13"], indirect=True
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # one zone for all examples is meant
@given(seconds=st.lists(st.integers(0, 4_000_000_000), min_size=1, max_size=20), step=st.integers(0, 3600))
def test_dates_are_those_of_the_system(zone: str, seconds: list[int], step: int) -> None:
    formatter = Formatter("%Tl|%t", pid=1)
    for second in [moment + offset for moment in seconds for offset in (0, step)]:
        local = time.localtime(second)

        line = formatter.line(now_s=second, accept_wall_us=second * 1_000_000 + 999_999)

        stamp = time.strftime("%b %e %H:%M:%S", local)
        date = time.strftime("%d/%b/%Y:%H:%M:%S", local)
        assert line.decode() == f"<134>{stamp} haproxy[1]: {date} {time.strftime('%z', local)}|{date}.999\n"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Australia/Lord_Howe"], indirect=True)
def test_dates_follow_a_change_of_the_offset(zone: str) -> None:
    formatter = Formatter("%Tl", pid=1)
    begin = 1774742400 - 86400 * 2  # the last days of March 2026
    for second in range(begin, begin + 86400 * 12, 899):
        expected = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(second))
        assert expected.encode() in formatter.line(accept_wall_us=second * 1_000_000)


def test_dates_out_of_range_do_no_harm() -> None:
    for moment in (-(2**63), -1, 2**63 - 1):
        assert len(show("%t %T %Tl %Ts %ms", accept_wall_us=moment, now_s=moment)) > 70


@given(address=st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16))
def test_addresses_are_written_as_inet_ntop_does(address: bytes) -> None:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6

    assert show("%ci", client=(address, 1)) == socket.inet_ntop(family, address)


@given(groups=st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF, 0xABC, 0x10]), min_size=8, max_size=8))
def test_addresses_with_runs_of_zeros_are_shortened_as_inet_ntop_does(groups: list[int]) -> None:
    address = b"".join(group.to_bytes(2, "big") for group in groups)

    shown = show("%ci", client=(address, 1))

    assert shown == socket.inet_ntop(socket.AF_INET6, address)
    assert ipaddress.ip_address(shown).packed == address


EVERYTHING = " ".join(
    f"%{{{flags}}}{name}" for name in sorted(VARIABLES) for flags in ("-Q", "+Q", "+X", "+E", "+Q,+E")
)

records = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: st.binary(max_size=60)
            for name in ("listener", "pool", "member", "unique_id", "tls_dn", "tls_version", "tls_cipher")
        },
        "request_line": st.binary(max_size=200) | st.binary(min_size=1000, max_size=1100),
        **{
            name: st.tuples(st.sampled_from([V4, V6, bytes(16)]), st.integers(0, 65535))
            for name in ("client", "bind", "source", "target")
        },
        "termination": st.binary(min_size=4, max_size=4),
        "status": st.integers(-(2**15), 2**15 - 1),
        "tls": st.integers(0, 1),
        "redispatched": st.integers(0, 1),
        "accept_wall_us": st.integers(-(2**63), 2**63 - 1),
        "total_ms": st.integers(-(2**63) + 2**33, 2**63 - 1),
        "bytes_out": st.integers(0, 2**64 - 1),
        "response_ms": st.integers(-1, 2**31 - 1),
        "idle_ms": st.integers(-1, 2**31 - 1),
        "retries": st.integers(0, 2**32 - 1),
    },
)


@given(values=records, room=st.integers(0, 3000), now=st.integers(-(2**63), 2**63 - 1))
def test_line_stays_in_its_room_and_has_no_control_characters(values: dict[str, Any], room: int, now: int) -> None:
    line = Formatter(EVERYTHING, pid=1).line(room=room, now_s=now, **values)  # asserts that nothing follows the line

    assert len(line) <= room
    assert line[-1:] == b"\n" * bool(room)
    assert not any(byte < 32 or byte == 127 for byte in line[:-1])


@given(values=records, room=st.integers(1, 2500))
def test_short_room_gives_the_begin_of_the_whole_line(values: dict[str, Any], room: int) -> None:
    formatter = Formatter(OCTAVIA, pid=1)
    whole = formatter.line(room=20000, **values)

    line = formatter.line(room=room, **values)

    assert whole.startswith(line[:-1])
    assert line == whole or len(line) > room - 27  # only a number, a date, an address or #XX may be left out whole


def test_numbers_are_never_cut() -> None:
    formatter = Formatter("%B", pid=1)
    whole = formatter.line(bytes_out=123456)

    for room in range(len(whole) - 6, len(whole)):
        assert formatter.line(bytes_out=123456, room=room).endswith(b"]: \n")


def test_value_of_the_wrong_shape_is_refused() -> None:
    formatter = Formatter("x", pid=os.getpid())

    with pytest.raises(TypeError, match="unknown fields"):
        formatter.line(nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="4 or 16 bytes"):
        formatter.line(client=(b"123", 1))
    with pytest.raises(ValueError, match="four letters"):
        formatter.line(termination=b"---")
