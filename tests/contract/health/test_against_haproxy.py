"""The same members checked by HAProxy and by us at once: same bytes, same verdicts, same transitions (contract 4.11)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from pyroute2 import netns

from amphorad.dialects import haproxy
from amphorad.dialects.haproxy.features import ALL_FEATURES
from amphorad.health.monitor import MonitorSet
from tests.support.health_members import BEHAVIOURS, HealthMembers, free_port, make_certificate, member_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from amphorad.health.verdict import Verdict
    from amphorad.model import LoadBalancer
    from amphorad.plan import MemberKey

pytestmark = [pytest.mark.haproxy, pytest.mark.asyncio, pytest.mark.timeout(60)]

_FRONT = """\
global
    log stdout format raw local0
    maxconn 500

defaults
    log global
    retries 3
    option redispatch

frontend l
    mode {mode}
    bind {bind}
    default_backend p:l
    timeout client 50000
    maxconn 500

backend p:l
    mode {mode}
    balance roundrobin
    timeout check {timeout}
    {lines}
    fullconn 500
    option allbackups
    timeout connect {connect}
    timeout server 50000
"""
_PING_COMMAND = "/var/lib/octavia/ping-wrapper.sh"
_EVENT = re.compile(r"Server p:l/(\S+) is (UP|DOWN), reason: (.*?), check duration: (\d+)ms\. (.*)")


def text_of(members: dict[str, int], lines: str, options: str, mode: str, timing: dict[str, int], bind: str) -> str:
    """One configuration that both read; times in milliseconds."""
    text = _FRONT.format(
        mode=mode, bind=bind, lines=lines, timeout=timing.get("timeout", 300), connect=timing.get("connect", 300)
    )
    checks = f"inter {timing.get('inter', 500)} fall {timing.get('fall', 2)} rise {timing.get('rise', 2)}"
    for name, port in members.items():
        text += f"    server {name} 127.0.0.1:{port} weight 1 check {options.format(checks=checks)}\n"
    return text


def _parse(text: str) -> LoadBalancer:
    load_balancer, errors = haproxy.check(text, features=ALL_FEATURES)
    assert load_balancer is not None, errors
    return load_balancer


async def until(fact: Callable[[], Any]) -> None:
    """Looks until it is true; another process has no event to wait on."""
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Both:
    """HAProxy and a MonitorSet on the same text; events of both, by member: (up, reason, what is left, when)."""

    def __init__(self, text: str, directory: Path, *, command: str = _PING_COMMAND) -> None:
        """`command`: that HAProxy calls for PING monitors."""
        self.ours: dict[str, list[tuple[str, str, str, float]]] = {}
        self.theirs: dict[str, list[tuple[str, str, str, float]]] = {}
        self._text = text
        self._directory = directory
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._monitors: MonitorSet | None = None

    async def __aenter__(self) -> Both:
        program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        assert program is not None
        file = self._directory / "haproxy.cfg"
        file.write_text(self._text.replace(_PING_COMMAND, self._command))
        self._monitors = MonitorSet(self._on_ours)
        self._process = subprocess.Popen(  # noqa: ASYNC220
            [program, "-db", "-f", str(file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        asyncio.get_running_loop().add_reader(self._process.stdout, self._on_theirs)
        self._monitors.apply(_parse(self._text.replace("log stdout format raw local0", "log /dev/log local0")))
        return self

    async def __aexit__(self, *_unused: object) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._monitors is not None
        await self._monitors.close()
        asyncio.get_running_loop().remove_reader(self._process.stdout)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _on_ours(self, key: MemberKey, verdict: Verdict) -> None:
        self._take(self.ours, verdict.log_line)

    def _on_theirs(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 65536)
        if not data:
            asyncio.get_running_loop().remove_reader(self._process.stdout)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._take(self.theirs, line.decode())

    @staticmethod
    def _take(events: dict[str, list[tuple[str, str, str, float]]], line: str) -> None:
        found = _EVENT.search(line)
        if found is not None:
            name, state, reason, _duration, left = found.groups()
            events.setdefault(name, []).append((state, reason, left.rstrip(), time.monotonic()))

    async def wait(self, count: int) -> None:
        """Until both have seen that many events of each member that has any."""
        await until(
            lambda: (
                self.ours
                and self.theirs
                and all(len(events) >= count for side in (self.ours, self.theirs) for events in side.values())
            )
        )

    def changes(self, side: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
        return {name: [(state, reason) for state, reason, _left, _at in events] for name, events in side.items()}


# Where a race decides which end of the same failure is seen first, or where wording is a detail of HAProxy's parser.
_SAME_FAILURE = {
    "close_at_accept": {"Layer7 invalid response", 'Socket error, info: "Connection reset by peer"'},
    "reset_at_accept": {'Socket error, info: "Connection reset by peer"', 'Socket error, info: "Broken pipe"'},
}


async def test_http_checks_of_members_of_every_kind_have_the_same_verdict(tmp_path: Path) -> None:
    async with HealthMembers() as members:
        ports = {name: await members.start(name) for name in BEHAVIOURS}
        ports["refused"] = free_port()
        text = text_of(
            ports,
            "option httpchk GET /health\n    http-check expect rstatus 200|204",
            "{checks}",
            "http",
            {"inter": 1000},
            f"127.0.0.1:{free_port()}",
        )
        async with Both(text, tmp_path) as both:
            await asyncio.sleep(3.0)
            ours, theirs = both.changes(both.ours), both.changes(both.theirs)

    good = {"good", "slow_good", "lf_only", "without_reason", "folded", "reset_after_answer"}
    assert set(ours) == set(theirs) == set(ports) - good
    for name in ours:
        allowed = _SAME_FAILURE.get(name)
        if allowed is None:
            assert ours[name] == theirs[name], name
        else:
            assert {ours[name][0][1], theirs[name][0][1]} <= allowed, name


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "CONNECT"])
async def test_request_bytes_are_the_same(method: str, tmp_path: Path) -> None:
    variants = [("", False), (" HTTP/1.0", False), (" HTTP/1.1", False), (" HTTP/1.0", True), (" HTTP/1.1", True)]
    async with HealthMembers() as members:
        await asyncio.gather(
            *(
                _compare_requests(
                    members, f"option httpchk {method} /a/b?c=%20d{version}", host, _made(tmp_path / str(number))
                )
                for number, (version, host) in enumerate(variants)
            )
        )


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


async def _compare_requests(members: HealthMembers, option: str, host: bool, directory: Path) -> None:
    port = await members.start("good")
    lines = option + ("\n    http-check send hdr Host ex.example" if host else "")
    lines += "\n    http-check expect rstatus 200"
    text = text_of({"m": port}, lines, "{checks}", "http", {}, f"127.0.0.1:{free_port()}")
    async with Both(text, directory):
        await until(lambda: len(members.requests.get(port, ())) >= 5)
    assert len(set(members.requests[port])) == 1, members.requests[port]


@pytest.mark.parametrize(
    ("option", "lines"),
    [
        ("send-proxy-v2", "option httpchk GET /\n    http-check expect rstatus 200"),
        ("send-proxy-v2-ssl-cn", "option httpchk GET /\n    http-check expect rstatus 200"),
        ("send-proxy-v2", ""),
        ("send-proxy", ""),
    ],
)
async def test_proxy_headers_are_the_same(option: str, lines: str, tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        data = b""
        try:
            async with asyncio.timeout(0.2):
                while more := await reader.read(1000):
                    data += more
        except (TimeoutError, ConnectionError):
            pass
        seen.append(re.sub(rb"(TCP4 127.0.0.1 127.0.0.1) \d+", rb"\1 PORT", data))

    async with HealthMembers() as members:
        port = await members.start(keep)
        text = text_of({"m": port}, lines, "{checks} " + option, "http", {"inter": 400}, f"127.0.0.1:{free_port()}")
        async with Both(text, tmp_path):
            await until(lambda: len(seen) >= 8)

    whole = {data for data in seen if data}  # a reset may overtake the bytes of a TCP check
    assert len(whole) == 1


@pytest.mark.parametrize(("rise", "fall"), [(1, 1), (2, 3), (3, 2)])
async def test_transitions_come_within_one_interval_of_each_other(rise: int, fall: int, tmp_path: Path) -> None:
    interval_s = 0.4
    async with HealthMembers() as members:
        ports = {name: await members.start("good") for name in ("a", "b")}
        lines = "option httpchk GET /\n    http-check expect rstatus 200"
        timing = {"inter": round(interval_s * 1000), "rise": rise, "fall": fall}
        text = text_of(ports, lines, "{checks}", "http", timing, f"127.0.0.1:{free_port()}")
        async with Both(text, tmp_path) as both:
            await asyncio.sleep(1.0)
            for number, behaviour in enumerate(("error_500", "good", "reset_after_request", "good"), 1):
                members.become(ports["a"], behaviour)
                await both.wait(number)
            events = [(side["a"]) for side in (both.ours, both.theirs)]
            assert set(both.ours) == set(both.theirs) == {"a"}

    for ours, theirs in zip(*events, strict=True):
        assert ours[:2] == theirs[:2]
        assert ours[2] == theirs[2]  # the rest of the line: how many are left, sessions, queue
        assert abs(ours[3] - theirs[3]) < interval_s + 0.15


@pytest.mark.parametrize("options", ["{checks} ssl verify none", "check-ssl verify none {checks}"])
async def test_tls_checks_have_the_same_verdict(options: str, tmp_path: Path) -> None:
    is_https = options.startswith("check-ssl")
    lines = "option httpchk GET /\n    http-check expect rstatus 200" if is_https else ""
    async with HealthMembers() as members:
        context = member_context(make_certificate(tmp_path))
        ports = {
            "tls_good": await members.start("good", tls=context),
            "tls_500": await members.start("error_500", tls=context),
            "plain_silent": await members.start("silent"),
            "plain_garbage": await members.start("garbage"),
            "refused": free_port(),
        }
        text = text_of(ports, lines, options, "http", {"inter": 1000}, f"127.0.0.1:{free_port()}")
        async with Both(text, tmp_path) as both:
            await asyncio.sleep(3.0)
            ours, theirs = both.changes(both.ours), both.changes(both.theirs)

    assert ours == theirs
    assert set(ours) == {"plain_silent", "plain_garbage", "refused"} | ({"tls_500"} if is_https else set())


async def test_up_line_is_the_same(tmp_path: Path) -> None:
    async with HealthMembers() as members:
        port = await members.start("good")
        await members.stop(port)
        text = text_of({"m": port}, "", "{checks}", "tcp", {"inter": 300}, f"127.0.0.1:{free_port()}")
        async with Both(text, tmp_path) as both:
            await both.wait(1)
            await members.start("good", port)
            await both.wait(2)

    assert [event[:3] for event in both.ours["m"]] == [event[:3] for event in both.theirs["m"]]


_TYPES = {
    "tcp": ("", "{checks}", False),
    "http": ("option httpchk GET /\n    http-check expect rstatus 200", "{checks}", False),
    "https": ("option httpchk GET /\n    http-check expect rstatus 200", "check-ssl verify none {checks}", True),
    "tls_hello": ("", "{checks} ssl verify none", True),
}


@pytest.mark.parametrize("kind", _TYPES)
async def test_member_that_goes_and_comes_back_changes_alike_under_every_monitor(kind: str, tmp_path: Path) -> None:
    interval_s = 0.4
    lines, options, is_tls = _TYPES[kind]
    context = member_context(make_certificate(tmp_path)) if is_tls else None
    async with HealthMembers() as members:
        ports = {name: await members.start("good", tls=context) for name in ("a", "b")}
        timing = {"inter": round(interval_s * 1000), "rise": 2, "fall": 2}
        text = text_of(ports, lines, options, "http", timing, f"127.0.0.1:{free_port()}")
        async with Both(text, tmp_path) as both:
            await asyncio.sleep(1.0)  # beyond the first checks, which follow a rule of their own
            await members.stop(ports["a"])
            await both.wait(1)
            await members.start("good", ports["a"], tls=context)
            await both.wait(2)
            events = [side["a"] for side in (both.ours, both.theirs)]
            assert set(both.ours) == set(both.theirs) == {"a"}

    for ours, theirs in zip(*events, strict=True):
        assert ours[0] == theirs[0]
        assert ours[2] == theirs[2]
        assert abs(ours[3] - theirs[3]) < interval_s + 0.6  # and what a busy machine adds
    assert (
        events[0][1][1] == events[1][1][1]
    )  # the reason of the UP; that of the DOWN is the end of a check that may be under way


# --- PING, where HAProxy runs a program ---

_PINGED = "10.9.8.7"


@pytest.fixture
def own_network() -> Iterator[str]:
    """This thread, and what it starts, in a network namespace of its own that has the address of a member."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a network namespace")
    name = f"amphorad-ping-{os.getpid()}"
    netns.create(name)
    try:
        netns.pushns(name)
        try:
            _ip("link", "set", "lo", "up")
            _ip("addr", "add", f"{_PINGED}/32", "dev", "lo")
            yield name
        finally:
            netns.popns()
    finally:
        netns.remove(name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)


@pytest.mark.netns
async def test_member_that_stops_to_answer_pings_changes_alike(own_network: str, tmp_path: Path) -> None:
    interval_s = 1.0
    wrapper = tmp_path / "ping-wrapper.sh"
    wrapper.write_text('#!/bin/sh\nexec /usr/bin/ping -q -n -w 1 -c 1 "$HAPROXY_SERVER_ADDR" >/dev/null 2>&1\n')
    wrapper.chmod(0o755)
    lines = f"option external-check\n    external-check command {_PING_COMMAND}"
    timing = {"inter": round(interval_s * 1000), "rise": 2, "fall": 2}
    text = text_of({"a": 80, "b": 80}, lines, "{checks}", "http", timing, f"127.0.0.1:{free_port()}")
    text = text.replace("global\n", "global\n    external-check\n", 1).replace(
        "server a 127.0.0.1", f"server a {_PINGED}"
    )
    async with Both(text, tmp_path, command=str(wrapper)) as both:
        await asyncio.sleep(1.5)
        _ip("addr", "del", f"{_PINGED}/32", "dev", "lo")
        await both.wait(1)
        _ip("addr", "add", f"{_PINGED}/32", "dev", "lo")
        await both.wait(2)
        events = [side["a"] for side in (both.ours, both.theirs)]
        assert set(both.ours) == set(both.theirs) == {"a"}

    for ours, theirs in zip(*events, strict=True):
        assert ours[0] == theirs[0]
        assert ours[1].split(",")[0] == theirs[1].split(",")[0]  # codes are those of the program
        assert ours[2] == theirs[2]
        assert abs(ours[3] - theirs[3]) < interval_s + 1.0  # the program waits for a second
