"""Nanoseconds per parsed and per parsed-and-written HTTP/1 head.

    python bench/micro/bench_http1.py

The first run warms up and is not counted. Runs are short, so that the best of many is free of other processes; the
median stands beside it.
"""

from __future__ import annotations

import argparse

from amphorad.proxy.wire.http1 import time_head

BROWSER = (
    b"GET /static/articles/2024/05/index.html?utm_source=newsletter&page=2 HTTP/1.1\r\n"
    b"Host: www.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: https://www.example.com/articles/2024/05/overview.html\r\n"
    b"Connection: keep-alive\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; lang=en\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"Sec-Fetch-Dest: document\r\n"
    b"Sec-Fetch-Mode: navigate\r\n"
    b"Sec-Fetch-Site: same-origin\r\n"
    b"Priority: u=0, i\r\n"
    b"Cache-Control: max-age=0\r\n\r\n"
)
SMALL = (
    b"GET / HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nX-Request-Id: 1234\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 05 Nov 2024 10:00:00 GMT\r\nContent-Type: text/html\r\n"
    b"Content-Length: 612\r\nLast-Modified: Mon, 04 Nov 2024 10:00:00 GMT\r\nConnection: keep-alive\r\n"
    b'ETag: "6728a0c0-264"\r\nAccept-Ranges: bytes\r\n\r\n'
)
RUNS = 301


def main() -> None:
    parser = argparse.ArgumentParser(description="time the HTTP/1 head parser")
    parser.add_argument("--rounds", type=int, default=2_000)
    rounds = parser.parse_args().rounds
    for name, data, is_request in (("browser", BROWSER, True), ("small", SMALL, True), ("response", RESPONSE, False)):
        for what, write in (("parse", False), ("parse+write", True)):
            time_head(data, rounds, is_request, write)
            runs = sorted(time_head(data, rounds, is_request, write) for _ in range(RUNS))
            print(f"{name:9} {len(data):4} B  {what:12} {runs[0]:7.1f} ns  (median of {RUNS}: {runs[RUNS // 2]:.1f})")


if __name__ == "__main__":
    main()
