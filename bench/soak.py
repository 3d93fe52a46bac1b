"""Long churn: `python -m bench.soak --minutes M [--seed S]`.

Members, the load balancer and many clients run together: kept and short connections, aborts, slow readers, big bodies,
upgrades, TLS and TCP streams. Every few seconds the configuration changes (members come, go and get other weights, the
certificate is another one, which each connection made after that must show) through `amphorad apply`, sometimes a broken one is offered and must be refused, and members are killed and started again.

At the end: no failure without an excuse (see soak_traffic), every apply accepted, the same processes as at the start, and,
once traffic is over and kept member connections are gone, descriptors and memory (PSS) back near the level after warm-up.
The last line sums up; exit status 0 when all holds, 1 when not, 2 when the run could not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import ssl
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import candidates, config
from bench.soak_traffic import ACTIVITIES, Ledger, client_loop
from bench.tools import OUT, REPOSITORY, Backend, free_ports, raise_fd_limit

if TYPE_CHECKING:
    from bench.candidates import Running

__all__ = ["main"]

KINDS = ("http", "echo", "bulk")
LISTENERS = {"http": "http", "https": "http", "echo": "echo", "bulk": "bulk"}
"""Kinds of listeners, and of their members."""
MEMBERS = 5
WARM_UP_S = 10.0
SETTLE_S = 20.0
FILE_TOLERANCE = 8
"""Health checks under way, the admin socket: descriptors that may come and go."""
MEMORY_TOLERANCE_BYTES = 8 << 20
MEMORY_TOLERANCE_PART = 0.10
REPORT_S = 30.0
APPLY_TIMEOUT_S = 30.0
SHOWN = 20


@dataclass(slots=True)
class Slot:
    """One member: a backend process on fixed ports that can be killed and started again."""

    ports: dict[str, int]
    backend: Backend | None = None

    def start(self) -> None:
        """Start it on its ports."""
        self.backend = Backend.start(dict.fromkeys(KINDS, 1), fixed=self.ports)

    def kill(self) -> None:
        """End it without a word to anyone."""
        if self.backend is not None:
            self.backend.stop(kill=True)
            self.backend = None


@dataclass(slots=True)
class Soak:
    """One run: members, load balancer, ledger, and the tasks that disturb."""

    options: argparse.Namespace
    directory: Path
    ledger: Ledger
    slots: list[Slot] = field(default_factory=list)
    listen: dict[str, int] = field(default_factory=dict)
    weights: dict[int, int] = field(default_factory=dict)
    proxy: Running | None = None
    applies: int = 0
    refused: int = 0
    kills: int = 0
    apply_s: list[float] = field(default_factory=list)
    applying: asyncio.Lock = field(default_factory=asyncio.Lock)
    problems: list[str] = field(default_factory=list)
    events: list[dict[str, object]] = field(default_factory=list)

    def note(self, what: str, **more: object) -> None:
        """Remember what happened when, for the event file."""
        self.events.append({"at": round(time.monotonic() - self.ledger.began, 3), "what": what, **more})

    def text(self, weights: dict[int, int]) -> str:
        """Configuration with these members: slot number to weight."""
        endpoints = []
        for kind, of_members in LISTENERS.items():
            members = tuple(
                config.member(kind, self.slots[slot].ports[of_members], weights[slot]) for slot in sorted(weights)
            )
            endpoints.append(
                config.Endpoint(
                    kind=kind,
                    port=self.listen[kind],
                    members=members,
                    monitored=self.options.monitor,
                    crt_list=self.directory / "list.pem" if kind == "https" else None,
                )
            )
        return config.shape(endpoints, self.directory)

    @property
    def running(self) -> Running:
        """The load balancer."""
        assert self.proxy is not None
        return self.proxy

    def start(self) -> None:
        """Start members and load balancer."""
        for _ in range(MEMBERS):
            self.slots.append(Slot(dict(zip(KINDS, free_ports(len(KINDS)), strict=True))))
        for slot in self.slots:
            slot.start()
        self.listen = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
        (self.directory / "list.pem").write_text(f"{self.directory / 'certificate.pem'}\n")
        self.new_certificate()
        self.weights = dict.fromkeys(range(MEMBERS), 1)
        setup = candidates.Setup(name=self.options.proxy, threads=self.options.threads)
        self.proxy = candidates.serve_text(
            setup, self.text(self.weights), self.listen, self.directory / "proxy", raise_fd_limit()
        )

    def new_certificate(self) -> None:
        """Put another certificate where the https listener's is; the next apply puts it in force."""
        pem = self.directory / "certificate.pem"
        config.make_certificate(pem)
        self.ledger.certificates.append(ssl.PEM_cert_to_DER_cert(pem.read_text().partition("-----BEGIN PRIVATE")[0]))

    def stop(self) -> None:
        """Stop everything that was started."""
        if self.proxy is not None:
            self.proxy.stop()
        for slot in self.slots:
            slot.kill()

    def restart_members(self) -> None:
        """End every kept member connection: all members die and come back."""
        for slot in self.slots:
            slot.kill()
        for slot in self.slots:
            slot.start()

    def _living(self, weights: dict[int, int]) -> list[int]:
        return [slot for slot, weight in weights.items() if weight and self.slots[slot].backend is not None]

    async def change_configuration(self, stop: asyncio.Event) -> None:
        """Apply another random set of members and weights every few seconds."""
        while not await _stopped(stop, random.uniform(1.0, 4.0)):
            if random.random() < 0.1:
                await self._offer_broken()
                continue
            async with self.applying:
                await self._reshuffle()

    async def _reshuffle(self) -> None:
        """Apply a random set; at least two of its members live, so that killing one leaves another."""
        weights = {
            slot: random.choice((0, 1, 1, 2, 5, 10, 256))
            for slot in random.sample(range(MEMBERS), random.randint(2, MEMBERS))
        }
        if len(self._living(weights)) < 2:
            return
        if random.random() < 0.5:
            await asyncio.to_thread(self.new_certificate)
        newest = len(self.ledger.certificates) - 1
        if await self._apply(self.text(weights), wanted=0):
            self.weights = weights
            self.ledger.in_force = newest
        self.applies += 1

    async def _offer_broken(self) -> None:
        text = self.text(self.weights).replace("    balance roundrobin\n", "    balance sideways\n", 1)
        await self._apply(text, wanted=1)
        self.refused += 1

    async def _apply(self, text: str, *, wanted: int) -> bool:
        path = self.directory / "next.cfg"
        path.write_text(text)
        state = self.running.directory / "state"
        command = [sys.executable, "-m", "amphorad", "apply", "-f", str(path), "--state-dir", str(state)]
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *command, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(APPLY_TIMEOUT_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            output = b"no answer in time"
        took = time.monotonic() - began
        self.apply_s.append(took)
        self.note("apply", wanted=wanted, status=process.returncode, seconds=round(took, 3))
        if process.returncode != wanted:
            self.problems.append(
                f"apply gave {process.returncode}, not {wanted}: {output.decode(errors='replace')[-300:]}"
            )
        return process.returncode == wanted

    async def kill_members(self, stop: asyncio.Event) -> None:
        """Kill one member at a time, as long as another one can take the traffic; start it again after a moment."""
        while not await _stopped(stop, random.uniform(2.0, 8.0)):
            slot = random.randrange(MEMBERS)
            async with self.applying:  # else the set that is served and the one looked at may differ
                if not [other for other in self._living(self.weights) if other != slot]:
                    continue
                self.ledger.kills.append(time.monotonic())
                self.slots[slot].kill()
                self.kills += 1
            self.note("kill", slot=slot)
            await _stopped(stop, random.uniform(0.2, 4.0))
            self.slots[slot].start()
            self.note("start", slot=slot)

    async def traffic(self, seconds: float, *, disturb: bool) -> None:
        """Clients, and with `disturb` also applies and kills, for so long; then wait until all clients are done."""
        stop, quiet = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.options.clients):
                group.create_task(client_loop(self.listen, self.ledger, stop), name="client")
            if disturb:
                if self.options.proxy == "amphorad":
                    group.create_task(self.change_configuration(quiet), name="apply")
                group.create_task(self.kill_members(quiet), name="kill")
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                await asyncio.sleep(min(left, REPORT_S))
                print(self.line(), flush=True)
                if self.running.process.poll() is not None:
                    self.problems.append(f"the load balancer ended with status {self.running.process.returncode}")
                    break
            quiet.set()
            stop.set()

    def line(self) -> str:
        """One line of progress."""
        tree = self.running.tree
        return (
            f"{time.monotonic() - self.ledger.began:7.1f} s: {self.ledger.done.total()} done, {self.ledger.failed} failed, "
            f"{self.ledger.excused.total()} excused, {self.applies} applies, {self.kills} kills, "
            f"{len(self.ledger.certificates)} certificates, {tree.open_files()} files, {tree.pss_bytes() / (1 << 20):.1f} MiB"
        )

    async def rest(self, files: int | None = None) -> tuple[int, int]:
        """Let things settle with fresh members; descriptors and PSS then.

        Args:
            files: stop waiting when descriptors are back at this number (plus tolerance).
        """
        self.ledger.kills.append(time.monotonic())
        self.restart_members()
        deadline = time.monotonic() + SETTLE_S
        await asyncio.sleep(5.0)
        while time.monotonic() < deadline:
            if files is not None and self.running.tree.open_files() <= files + FILE_TOLERANCE:
                break
            await asyncio.sleep(1.0)
        return self.running.tree.open_files(), self.running.tree.pss_bytes()

    async def run(self) -> None:
        """The whole run; findings are in `problems` and the ledger."""
        await self.traffic(min(WARM_UP_S, self.options.seconds / 4), disturb=False)
        files, memory = await self.rest()
        pids = self.running.tree.pids()
        print(f"after warm-up, at rest: {files} files, {memory / (1 << 20):.1f} MiB", flush=True)
        await self.traffic(self.options.seconds, disturb=True)
        files_end, memory_end = await self.rest(files)
        print(f"after the run, at rest: {files_end} files, {memory_end / (1 << 20):.1f} MiB", flush=True)
        if files_end > files + FILE_TOLERANCE:
            self.problems.append(f"descriptors: {files} before, {files_end} after")
        if memory_end > memory + max(MEMORY_TOLERANCE_BYTES, memory * MEMORY_TOLERANCE_PART):
            self.problems.append(f"memory (PSS): {memory} bytes before, {memory_end} after")
        if self.running.tree.pids() != pids:
            self.problems.append(f"processes: {pids} before, {self.running.tree.pids()} after")
        missing = [each.name for each in ACTIVITIES if not self.ledger.done[each.name]]
        if missing:
            self.problems.append(f"never done: {', '.join(missing)}")


async def _stopped(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long or until `stop`; whether it was `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def _report(soak: Soak) -> int:
    ledger = soak.ledger
    for name in sorted(ledger.done | ledger.excused):
        print(f"  {name:16} {ledger.done[name]:8} done {ledger.excused[name]:6} excused")
    for each in (*ledger.failures[:SHOWN], *soak.problems):
        print(f"  PROBLEM: {each}")
    OUT.mkdir(exist_ok=True)
    (OUT / "soak-events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in soak.events))
    good = not ledger.failed and not soak.problems
    slowest = f", slowest apply {max(soak.apply_s):.2f} s" if soak.apply_s else ""
    print(
        f"soak {'ok' if good else 'FAILED'}: seed {soak.options.seed}, {ledger.done.total()} done, {ledger.failed} failed, "
        f"{ledger.excused.total()} excused, {soak.applies} applies ({soak.refused} refused on purpose{slowest}), "
        f"{soak.kills} kills, {len(ledger.certificates)} certificates, {len(soak.problems)} other problems"
    )
    return 0 if good else 1


def main(words: list[str] | None = None) -> int:
    """Command line; see the module's docstring for the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="length of the disturbed part")
    length.add_argument("--seconds", type=float, help="the same in seconds; default 1800")
    parser.add_argument(
        "--seed", type=int, default=None, help="seed of all random choices; default: a new one, printed"
    )
    parser.add_argument("--clients", type=int, default=24, help="clients at a time, default %(default)s")
    parser.add_argument(
        "--monitor", action="store_true", help="TCP health monitors; without them only retries get around a dead member"
    )
    parser.add_argument("--threads", type=int, default=2, help="traffic threads, default %(default)s")
    parser.add_argument(
        "--proxy",
        default="amphorad",
        choices=("amphorad", "haproxy"),
        help="haproxy checks this program itself; its configuration is not changed (default %(default)s)",
    )
    options = parser.parse_args(words)
    options.seconds = options.minutes * 60 if options.minutes else options.seconds or 1800.0
    options.seed = random.randrange(1 << 32) if options.seed is None else options.seed
    random.seed(options.seed)
    raise_fd_limit()
    print(f"soak of {options.seconds:g} s with seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="amphorad-soak-") as folder:
        soak = Soak(options, Path(folder), Ledger())
        try:
            soak.start()
            asyncio.run(soak.run())
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            soak.problems.append("interrupted")
        finally:
            if soak.proxy is not None and soak.problems:
                print(soak.proxy.log_tail(), file=sys.stderr)
            soak.stop()
        return _report(soak)


if __name__ == "__main__":
    sys.exit(main())
