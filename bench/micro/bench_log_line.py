"""Nanoseconds per traffic-log line: Octavia's default format, HTTP over IPv4 and TLS over IPv6.

    python bench/micro/bench_log_line.py

The time stamp moves on by a millisecond per line, as at 1000 requests per second. Best of ten runs.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from amphorad.proxy.log_format import Formatter

OCTAVIA = (
    "5f3b1a9ec0de4b6f9d1a2b3c4d5e6f70 11111111-2222-3333-4444-555555555555 %f %ci %cp %t %{+Q}r %ST %B %U"
    " %[ssl_c_verify] %{+Q}[ssl_c_s_dn] %b %s %Tt %tsc"
)
UUID = b"0f0e0d0c-1111-2222-3333-444455556666"
PLAIN = {
    "listener": UUID,
    "pool": UUID,
    "member": UUID,
    "client": (socket.inet_aton("203.0.113.200"), 51234),
    "accept_wall_us": 1_795_218_941_876_000,
    "total_ms": 12,
    "request_line": b"GET /some/path/of/length?query=string HTTP/1.1",
    "status": 200,
    "bytes_out": 12345,
    "bytes_in": 456,
}
TLS = PLAIN | {
    "client": (socket.inet_pton(socket.AF_INET6, "2001:db8:1234::abcd:1"), 51234),
    "tls": 1,
    "tls_dn": b"/O=Example/OU=Clients/CN=client-1.example.org",
}
LINES = 200_000


def main() -> None:
    program = Formatter(OCTAVIA, pid=1234).program
    for name, values in (("plain, IPv4", PLAIN), ("TLS, IPv6, client certificate", TLS)):
        best = float("inf")
        for _ in range(10):
            begin = time.perf_counter()
            length = program.repeat(LINES, **values)  # type: ignore[arg-type]
            best = min(best, time.perf_counter() - begin)
        print(f"{name}: {best / LINES * 1e9:.0f} ns per line of {length} bytes")


if __name__ == "__main__":
    main()
