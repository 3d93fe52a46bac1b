"""The check script that keepalived runs, and the file that tells it what to look for.

While the agent lives, it knows better than any script: it sees a data plane die at once, knows whether another one has
taken over, and tells keepalived by the track file (see `effective`). The script is for the time without an agent: the node is good
as long as every data plane that served when the agent died is alive, and bad when one of them is gone.

It is a shell text without any other program: each question is one read of /proc/PID/stat. A process is known by its id together with its start
time, so an id that was given away again proves nothing; a zombie does not live.

    agent PID START        exit 0 if it lives
    data_plane PID START   else exit 1 if one of them does not, or if there is none
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amphorad.files import make_directory, write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["script_text", "start_time", "write_processes", "write_script"]

_SCRIPT = """\
#!/bin/sh
# Made by amphorad. Exit 0: this node can serve. See amphorad/vrrp/check_script.py.
lives() {
    # $1 process id, $2 start time. In /proc/PID/stat the name, which may hold anything, ends at the last parenthesis;
    # after it comes the state as first and the start time as 20th word (proc(5)).
    { read -r stat < "/proc/$1/stat"; } 2> /dev/null || return 1
    wanted=$2
    set -f
    set -- ${stat##*) }
    [ "${20}" = "$wanted" ] && [ "$1" != Z ] && [ "$1" != X ]
}
found=1
{ while read -r kind pid start; do
    case $kind in
        agent) lives "$pid" "$start" && exit 0 ;;
        data_plane) lives "$pid" "$start" || exit 1; found=0 ;;
    esac
done < "@PROCESSES@"; } 2> /dev/null
exit "$found"
"""


def script_text(processes: Path) -> str:
    """The script for that file.

    Raises:
        ValueError: the path holds characters that mean something to the shell.
    """
    if set(str(processes)) & set('"$`\\\n'):
        raise ValueError(f"not a path for a shell script: {processes}")
    return _SCRIPT.replace("@PROCESSES@", str(processes))


def write_script(path: Path, processes: Path) -> None:
    """Puts the script where the controller's file says that it is.

    Raises:
        OSError, ValueError.
    """
    make_directory(path.parent)
    write_atomically(path, script_text(processes).encode(), 0o755)


def write_processes(path: Path, agent: int, data_planes: Sequence[int]) -> None:
    """Tells the script whom to look for; a process that is gone already counts as one that does not live.

    Raises:
        OSError.
    """
    lines = [f"agent {agent} {start_time(agent) or 0}"]
    lines += [f"data_plane {pid} {start_time(pid) or 0}" for pid in data_planes]
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode(), 0o644)


def start_time(pid: int) -> int | None:
    """Of a process, in clock ticks after the boot (proc(5), field 22 of stat); None when there is none, or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
