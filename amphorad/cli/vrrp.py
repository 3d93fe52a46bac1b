"""`amphorad vrrp render` and `amphorad vrrp state`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from amphorad.cli.arguments import ExitCode
from amphorad.errors import ConfigError
from amphorad.files import write_atomically
from amphorad.status import duration
from amphorad.vrrp.check_script import script_text
from amphorad.vrrp.pair import configuration, read_pair
from amphorad.vrrp.paths import Paths
from amphorad.vrrp.states import History, State
from amphorad.vrrp.writer import WriterMissing, write_text

if TYPE_CHECKING:
    import argparse

__all__ = ["vrrp"]


def vrrp(options: argparse.Namespace) -> ExitCode:
    return render(options.file, options.output) if options.vrrp_command == "render" else state(options)


def render(file: Path, output: Path) -> ExitCode:
    """Writes keepalived-NAME.conf for both nodes, and the check script."""
    try:
        settings = read_pair(file.read_text(), file=str(file))
        texts = {f"keepalived-{node.name}.conf": write_text(configuration(settings, node)) for node in settings.nodes}
        script = script_text(Paths(settings.state_dir, settings.state_dir).processes)
        output.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(output / name, text.encode(), 0o644)
        write_atomically(output / settings.check_script.name, script.encode(), 0o755)
    except (ConfigError, UnicodeDecodeError, OSError) as error:
        print(f"amphorad: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    except WriterMissing as error:
        print(f"amphorad: {error}", file=sys.stderr)
        return ExitCode.FAILED
    for node in settings.nodes:
        print(f"node {node.name}: {output / f'keepalived-{node.name}.conf'} -> /etc/keepalived/keepalived.conf")
    print(f"both nodes: {output / settings.check_script.name} -> {settings.check_script} (mode 0755)")
    print(f"both nodes: amphorad serve --vrrp --free-bind --state-dir {settings.state_dir} -f FILE")
    return ExitCode.OK


def state(options: argparse.Namespace) -> ExitCode:
    """Shows what keepalived last said of itself, and what was before; works with and without an agent."""
    state_dir = options.state_dir or Path("/run/amphorad")
    history = History(Paths(state_dir, state_dir).history)
    history.load()
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(history.changes), indent=2).decode())
        return ExitCode.OK
    if history.state is State.NOT_CONFIGURED or history.since_s is None:
        print(f"no VRRP state in {state_dir}: nothing has been uploaded since the boot, or no agent has run")
        return ExitCode.NOT_RUNNING
    print(f"{history.state} for {duration(history.since_s)}")
    for change in reversed(history.changes):
        print(f"  {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(change.wall))}  {change.state}")
    return ExitCode.OK
