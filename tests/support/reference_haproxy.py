"""The real HAProxy on a file of ours: the living reference of differential tests (mark them `haproxy`)."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ReferenceHAProxy", "haproxy_program"]

_WAIT_S = 10.0


def haproxy_program() -> str | None:
    return shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class ReferenceHAProxy:
    """`with ReferenceHAProxy(directory, text):` listens when it returns. What needs root or fixed paths is left out."""

    def __init__(self, directory: Path, text: str) -> None:
        program = haproxy_program()
        assert program is not None
        text = re.sub(r"(?m)^ +(daemon|user|group|log /|stats socket|server-state-file)\b.*\n", "", text)
        self.file = directory / "haproxy.cfg"
        self.file.write_text(text)
        self._log = (directory / "haproxy.log").open("w+b")
        self.process = subprocess.Popen(
            [program, "-db", "-f", str(self.file)], stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )
        ports = [int(port) for port in re.findall(r"(?m)^ +bind 127\.0\.0\.1:(\d+)", text)]
        try:
            self._wait_listening(ports)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> ReferenceHAProxy:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.stop()

    def _wait_listening(self, ports: list[int]) -> None:
        deadline = time.monotonic() + _WAIT_S
        for port in ports:
            while True:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert self.process.poll() is None, self.log
                assert time.monotonic() < deadline, "haproxy does not listen"
                time.sleep(0.01)  # another program's socket: there is no event to wait for

    @property
    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_WAIT_S)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()
