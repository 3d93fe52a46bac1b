"""A demo member: answers every HTTP request with its own name after a short delay. It ends when its standard input does."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from amphorad.environment import child_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MemberProcess", "main"]

HEAD_LIMIT = 65536


class MemberProcess:
    """Starts, kills and restarts one demo member; it keeps its port.

    Args:
        name: in its answers.
        delay_s: mean time to answer.
    """

    def __init__(self, name: str, delay_s: float) -> None:
        self.name = name
        self._delay_s = delay_s
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when it listens.

        Raises:
            OSError: it does not start.
        """
        command = [sys.executable, "-m", "amphorad.demo.member", self.name, str(self.port), str(self._delay_s)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(), start_new_session=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.kill()
            raise OSError(f"demo member {self.name} does not start")
        self.port = int(line)

    def kill(self) -> None:
        """As the power cord does it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None


class _Server:
    def __init__(self, name: str, delay_s: float) -> None:
        self._name = name
        self._delay_s = delay_s
        self._served = 0

    async def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await self._skip_body(head, reader)
                if self._delay_s:
                    await asyncio.sleep(random.expovariate(1 / self._delay_s))
                writer.write(self._answer(head))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            writer.close()

    async def _skip_body(self, head: bytes, reader: asyncio.StreamReader) -> None:
        for line in head.split(b"\r\n"):
            name, _colon, value = line.partition(b":")
            if name.lower() == b"content-length":
                await reader.readexactly(int(value))

    def _answer(self, head: bytes) -> bytes:
        self._served += 1
        fields = [line for line in head.split(b"\r\n") if line.lower().startswith(b"x-forwarded")]
        body = f"member {self._name}, process {os.getpid()}, answer {self._served}\n".encode()
        body += b"".join(field + b"\n" for field in fields)
        start = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-member: {self._name}\r\ncontent-length: {len(body)}"
        is_head = head.startswith(b"HEAD ")
        return start.encode() + b"\r\n\r\n" + (b"" if is_head else body)


async def _serve(name: str, port: int, delay_s: float) -> None:
    server = await asyncio.start_server(_Server(name, delay_s).on_connection, "127.0.0.1", port, limit=HEAD_LIMIT)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(sys.stdin.fileno(), 1) else ended.set())
    await ended.wait()
    server.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Started by `amphorad demo`.")
    parser.add_argument("name")
    parser.add_argument("port", type=int)
    parser.add_argument("delay", type=float)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_serve(options.name, options.port, options.delay))
    return 0


if __name__ == "__main__":
    sys.exit(main())
