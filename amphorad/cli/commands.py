"""Commands that ask a running load balancer or check a file, and the choice among all commands."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from amphorad.admin import AdminError, Client, NotRunning
from amphorad.agent.status import AgentStatus, render_agent
from amphorad.cli.arguments import ExitCode, build_parser, default_state_dir
from amphorad.cli.files import read_file
from amphorad.dialects import haproxy
from amphorad.errors import ConfigError
from amphorad.status import render
from amphorad.top import CLEAR, draw_over, render_top
from amphorad.why import UnknownObject, why_listener, why_member, why_pool

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from amphorad.admin import ApplyReceipt
    from amphorad.status import Status

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        match options.command:
            case "serve":
                from amphorad.cli.serve import serve  # the quick commands do without the event loop

                return serve(options)
            case "agent":
                from amphorad.cli.agent import agent

                return agent(options)
            case "vrrp":
                from amphorad.cli.vrrp import vrrp

                return vrrp(options)
            case "check":
                return check(options)
            case "apply":
                return apply(options)
            case "status":
                return status(options)
            case "top":
                return top(options)
            case "why":
                return why(options)
            case _:
                from amphorad.demo.run import demo

                return ExitCode.OK if demo(options.rate, options.seconds, options.port) else ExitCode.FAILED
    except NotRunning as error:
        print(f"amphorad: {error}", file=sys.stderr)
        return ExitCode.NOT_RUNNING
    except KeyboardInterrupt:
        return ExitCode.OK
    except BrokenPipeError:  # the reader of our output, `head` for example, has seen enough
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return ExitCode.OK


def check(options: argparse.Namespace) -> ExitCode:
    try:
        text = read_file(options.file)
    except ConfigError as error:
        print(error)
        return ExitCode.REFUSED
    load_balancer, errors = haproxy.check(text, file=str(options.file), escaping=haproxy.Escaping(options.escaping))
    for found in errors:
        print(found)
    if errors or load_balancer is None:
        return ExitCode.REFUSED
    pools = sum(len(listener.pools) for listener in load_balancer.listeners)
    members = sum(len(pool.members) for listener in load_balancer.listeners for pool in listener.pools)
    print(f"{options.file}: ok, {len(load_balancer.listeners)} listeners, {pools} pools, {members} members")
    return ExitCode.OK


def apply(options: argparse.Namespace) -> ExitCode:
    try:
        text = read_file(options.file)
        with Client(_socket_path(options)) as client:
            receipt = client.apply(text, str(options.file))
    except ConfigError as error:
        print(f"amphorad: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    except AdminError as error:
        for message in error.messages:
            print(f"amphorad: {message}", file=sys.stderr)
        print("amphorad: nothing was changed", file=sys.stderr)
        return {"config": ExitCode.REFUSED, "listen": ExitCode.CANNOT_LISTEN}.get(error.code, ExitCode.FAILED)
    print(render_receipt(receipt))
    return ExitCode.OK


def render_receipt(receipt: ApplyReceipt) -> str:
    """The text that `amphorad apply` prints."""
    if not receipt.changed:
        return f"nothing to change, generation {receipt.generation} goes on"
    lines = [f"generation {receipt.generation} in effect after {receipt.elapsed_s * 1000:.1f} ms: {receipt.summary}"]
    lines += [f"  {change}" for change in receipt.changes]
    lines.append(
        f"sockets: {receipt.sockets_kept} kept, {receipt.sockets_opened} opened, {receipt.sockets_closed} closed;"
        f" sessions on older generations: {receipt.draining}"
    )
    return "\n".join(lines)


def status(options: argparse.Namespace) -> ExitCode:
    with Client(_socket_path(options)) as client:
        answer = client.any_status()
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    elif isinstance(answer, AgentStatus):
        print(render_agent(answer))
    else:
        print(render(answer))
    return ExitCode.OK


def top(options: argparse.Namespace) -> ExitCode:
    live = sys.stdout.isatty() and not options.once
    with Client(_socket_path(options)) as client:
        before, then = client.any_status(), time.monotonic()
        if live:
            print(CLEAR, end="")
        while True:
            time.sleep(max(0.1, options.interval))
            now, at = client.any_status(), time.monotonic()
            frame = _frame(before, now, at - then)
            print(draw_over(frame) if live else frame + "\n", end="", flush=True)
            if options.once:
                return ExitCode.OK
            before, then = now, at


def why(options: argparse.Namespace) -> ExitCode:
    with Client(_socket_path(options)) as client:
        found = _load_balancers(client.any_status())
    explain = {"member": why_member, "pool": why_pool, "listener": why_listener}[options.object]
    try:
        print(explain(found, options.id))
    except UnknownObject as error:
        print(f"amphorad: {error}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.OK


def _frame(before: Status | AgentStatus, now: Status | AgentStatus, elapsed_s: float) -> str:
    """One frame of `top`; of an agent, those of its load balancers below each other."""
    known = {one.load_balancer: one for one in _load_balancers(before)}
    frames = [render_top(known.get(one.load_balancer), one, elapsed_s) for one in _load_balancers(now)]
    return "\n\n".join(frames) or "no load balancer runs"


def _load_balancers(status: Status | AgentStatus) -> Sequence[Status]:
    return status.load_balancers if isinstance(status, AgentStatus) else (status,)


def _socket_path(options: argparse.Namespace) -> Path:
    path: Path = options.admin_socket or (options.state_dir or default_state_dir()) / "admin.sock"
    return path
