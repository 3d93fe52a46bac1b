"""The grammar of the command line."""

from __future__ import annotations

import argparse
import os
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import amphorad
from amphorad import algorithms
from amphorad.dialects.haproxy import Escaping
from amphorad.extras import FIELDS, Extra, Extras
from amphorad.model import ReusePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ExitCode", "build_parser", "default_state_dir", "extras_of"]


class ExitCode(IntEnum):
    """What the shell sees."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    CANNOT_LISTEN = 3
    NOT_RUNNING = 4
    ALREADY_RUNNING = 5
    FAILED = 6
    INTERRUPTED = 130


EXIT_CODES = """\
exit codes:
  0  done
  1  the configuration is refused or cannot be read; errors are printed as file:line: reason
  2  wrong usage
  3  a listener's address and port cannot be bound
  4  no running amphorad answers on the admin socket
  5  another amphorad already serves with this state directory or admin socket
  6  the data plane does not start, or another internal failure
  130  agent: ended by SIGINT, with everything that it ran (a service manager must not start it again)
"""


def default_state_dir() -> Path:
    """A directory of this user: $XDG_RUNTIME_DIR/amphorad, for root /run/amphorad, else /tmp/amphorad-UID."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "amphorad"
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return Path("/run/amphorad")
    return Path(f"/tmp/amphorad-{os.geteuid()}")


def _positive(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise argparse.ArgumentTypeError("must be 1 to 64")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError("must be 0 to 86400 seconds")
    return value


def _algorithm(text: str) -> tuple[str | None, str]:
    old, separator, new = text.rpartition("=")
    known = algorithms.names()
    for name in (old, new) if separator else (new,):
        if name not in known:
            raise argparse.ArgumentTypeError(f"no algorithm {name!r}; there are {', '.join(sorted(known))}")
    return old or None, new


def _rate(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 2**31 - 1:
        raise argparse.ArgumentTypeError("must be 0 to 2147483647 bytes per second")
    return value


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="amphorad",
        description="A userspace load balancer that serves what an OpenStack Octavia controller renders.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"amphorad {amphorad.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_agent(commands)
    _add_check(commands)
    _add_apply(commands)
    _add_status(commands)
    _add_top(commands)
    _add_why(commands)
    _add_vrrp(commands)
    _add_demo(commands)
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=text, description=text, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--file",
        type=Path,
        required=True,
        metavar="FILE",
        help="configuration in the controller's HAProxy dialect",
    )


def _add_escaping(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--escaping",
        choices=[choice.value for choice in Escaping],
        default=Escaping.INTENT.value,
        help="intent: undo the controller's HTML escaping of values; strict: read them as HAProxy does (default: intent)",
    )


def _add_socket(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state-dir", type=Path, default=None, metavar="DIR", help=f"runtime files (default: {default_state_dir()})"
    )
    parser.add_argument(
        "--admin-socket", type=Path, default=None, metavar="PATH", help="admin socket (default: STATE_DIR/admin.sock)"
    )


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands,
        "serve",
        "Serve a file in the foreground until SIGTERM or SIGINT (a second one ends at once). SIGHUP applies the file again.",
    )
    _add_file(parser)
    parser.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="engine threads, 1 to 64 (default: nbthread of the file, else the CPUs)",
    )
    _add_socket(parser)
    parser.add_argument(
        "--log-target",
        default="stderr",
        metavar="TARGET",
        help="stderr, syslog, or the path of a file (default: stderr)",
    )
    parser.add_argument(
        "--log-level",
        default="info",
        choices=["debug", "info", "warning", "error"],
        help="least severity (default: info)",
    )
    parser.add_argument(
        "--http-reuse",
        type=ReusePolicy,
        choices=[ReusePolicy.RETRY, ReusePolicy.SAFE, ReusePolicy.NEVER],
        default=ReusePolicy.RETRY,
        help="when an idle member connection may serve another client. safe: not for the first request of a client connection,"
        " as HAProxy; retry: also for a first request that can be repeated without harm, and it is repeated on a fresh"
        " connection if the idle one turns out dead; never (default: retry)",
    )
    _add_escaping(parser)
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="time for open sessions after a stop (default: 10)",
    )
    parser.add_argument(
        "--algorithm",
        type=_algorithm,
        action="append",
        default=[],
        metavar="[OLD=]NEW",
        help="balance with NEW where the file asks for OLD, or everywhere without OLD; NEW may be an algorithm of an"
        " installed package. Example: source_ip_hash=maglev. May be given several times",
    )
    parser.add_argument(
        "--minimum-body-rate",
        type=_rate,
        metavar="BYTES",
        help="bytes per second that a request body must reach on average; 0: no minimum (default: 256)",
    )
    parser.add_argument(
        "--traffic-log",
        metavar="PATH",
        help='datagram socket for the traffic log, "" for none (default: the one that the file names)',
    )
    parser.add_argument(
        "--free-bind",
        action="store_true",
        help="also listen on addresses that this machine does not have at the moment",
    )
    parser.add_argument(
        "--vrrp",
        action="store_true",
        help="tell a keepalived configured by `amphorad vrrp render` whether this node can serve, in STATE_DIR/vrrp",
    )
    parser.add_argument(
        "--local-peer",
        metavar="NAME",
        help="this machine's name in a peers section, as -L of haproxy (default: the peer whose address it has)",
    )
    parser.add_argument(
        "--survive",
        action="store_true",
        help="the data plane goes on serving when this process dies, also by an error or kill -9, and the next `serve` with the"
        " same state directory takes it over without losing a connection; SIGTERM and SIGINT still end both. Without it the"
        " data plane ends with this process",
    )
    _add_extras(parser)


def _add_extras(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("beyond the controller's configuration, all off by default")
    for extra in FIELDS:
        if extra.kind is bool:
            group.add_argument(extra.flag, action="store_true", help=extra.help)
            continue
        default = f"{extra.default:g}" if isinstance(extra.default, float) else str(extra.default or "none of these")
        if extra.kind is int:
            default = str(extra.default)
        group.add_argument(
            extra.flag,
            type=_extra_value(extra),
            default=extra.default,
            metavar=extra.metavar,
            help=f"{extra.help} (default: {default})".replace("%", "%%"),
        )


def _extra_value(extra: Extra) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return extra.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is {error}") from None

    return parse


def extras_of(arguments: argparse.Namespace) -> Extras:
    return Extras(**{extra.name: getattr(arguments, extra.name) for extra in FIELDS})


def _add_agent(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands,
        "agent",
        "Be an Octavia amphora: API for the controller, heartbeats, interfaces, VRRP and data planes. Needs root. SIGTERM"
        " ends the agent and leaves traffic and VRRP running for the next one; SIGINT ends everything; SIGHUP reads the"
        " settings again.",
    )
    parser.add_argument(
        "--config-file",
        type=Path,
        action="append",
        metavar="FILE",
        help="settings in the controller's INI dialect; may be given several times, later files win (default:"
        " /etc/octavia/amphora-agent.conf)",
    )


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "check", "Check a configuration; print every error as file:line: reason.")
    _add_file(parser)
    _add_escaping(parser)


def _add_apply(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "apply", "Make a running amphorad serve this file, in place, and print what that changed.")
    _add_file(parser)
    _add_socket(parser)


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "status", "Show listeners, pools and members of a running amphorad with their counters.")
    _add_socket(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _add_top(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "top", "Show live rates and latencies per listener, pool and member.")
    _add_socket(parser)
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between frames (default: 1)")
    parser.add_argument("--once", action="store_true", help="one frame, measured over one interval, then exit")


def _add_why(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands,
        "why",
        "Say in plain words why a member, pool or listener gets traffic or not: state, since when, what the last check said,"
        " weight and share, and what keeps clients away.",
    )
    parser.add_argument("object", choices=("member", "pool", "listener"), help="what to explain")
    parser.add_argument("id", metavar="ID", help="its id, as in the configuration and in `amphorad status`")
    _add_socket(parser)


def _add_vrrp(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "vrrp", "VRRP: make the configuration of a pair without a controller, show the state.")
    actions = parser.add_subparsers(dest="vrrp_command", required=True, metavar="ACTION")
    render = _add(actions, "render", "Write keepalived's configuration for both nodes of a pair, and the check script.")
    render.add_argument("file", type=Path, metavar="FILE", help="settings of the pair, TOML (see amphorad.vrrp.pair)")
    render.add_argument(
        "--output", type=Path, default=Path(), metavar="DIR", help="where to write (default: the current directory)"
    )
    state = _add(actions, "state", "Show MASTER, BACKUP or FAULT, since when, and what was before.")
    state.add_argument(
        "--state-dir", type=Path, default=None, metavar="DIR", help="of the agent (default: /run/amphorad)"
    )
    state.add_argument("--json", action="store_true", help="a JSON array, oldest state first")


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(
        commands, "demo", "Start three members and a load balancer on loopback, with traffic and a live view."
    )
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="plain lines instead of a live view, and end after N"
    )
    parser.add_argument(
        "--rate", type=float, default=300.0, metavar="N", help="requests per second to make (default: 300)"
    )
    parser.add_argument("--port", type=int, default=0, help="port of the HTTP listener (default: a free one)")
