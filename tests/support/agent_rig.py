"""An amphora in network namespaces of its own: a real `amphorad agent`, its interfaces, and a network with clients and members.

    with AmphoraRig() as rig:            three namespaces are made, nothing runs
        rig.start()                      `amphorad agent`, until it tells its service manager READY
        rig.call("GET", "/1.0/info")     as the controller, over mutual TLS
        rig.plug_vip()                   the interface of the VIP is there, and POST plug/vip has been answered

The management namespace stands for the default namespace of the amphora; the agent makes the tenant's namespace itself. In the
outer namespace are a bridge, the clients and the members. Needs root (marker `netns`).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import http.client
import json
import os
import secrets
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pyroute2 import netns

from amphorad.admin import Client
from amphorad.agent.status import AgentStatus
from tests.support.api_certificates import Identities, make_identities

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

__all__ = ["AmphoraRig", "Answer", "LoopIn", "Namespace", "in_namespace"]

T = TypeVar("T")

AMPHORA_ID = "33333333-39b2-4a36-8f0a-0e6c3c1a1a11"
LB_ID = "5f8e4a53-39b2-4a36-8f0a-0e6c3c1a1a11"
VIP = "203.0.113.7"
OWN_IP = "203.0.113.20"
OUTSIDE_IP = "203.0.113.1"
SUBNET = "203.0.113.0/24"
WAIT_S = 15.0


class LoopIn:
    """An event loop in a thread that lives in a network namespace, until the block is left."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._entered = contextlib.AsyncExitStack()
        self._thread = threading.Thread(target=self._run, name=f"loop in {name}")

    def _run(self) -> None:
        netns.setns(self._name)
        self._loop.run_forever()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(2 * WAIT_S)

    def enter(self, context: contextlib.AbstractAsyncContextManager[T]) -> T:
        """Enters something that is left, in the loop, with the block."""
        return self.run(self._entered.enter_async_context(context))

    def __enter__(self) -> LoopIn:
        self._thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        try:
            self.run(self._entered.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def in_namespace(name: str, function: Callable[[], T]) -> T:
    """Calls a function in a thread that lives in a network namespace; sockets that it makes stay there."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            netns.setns(name)
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name=f"in {name}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


class Namespace:
    """A network namespace with its loopback up; `with` deletes it."""

    def __init__(self, name: str) -> None:
        self.name = name
        _run("ip", "netns", "add", name)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str) -> str:
        """A command in it; gives what it prints."""
        return _run("ip", "netns", "exec", self.name, *command)

    def call(self, function: Callable[[], T]) -> T:
        return in_namespace(self.name, function)

    def delete(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "netns", "delete", self.name)


@functools.cache
def _identities() -> Identities:
    """Made once per run, because keys take a second."""
    directory = Path(tempfile.mkdtemp(prefix="pki"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return make_identities(directory, AMPHORA_ID)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=WAIT_S).stdout


@dataclass(frozen=True)
class Answer:
    """What the agent answered, and after how many seconds."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    elapsed_s: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class AmphoraRig:
    """One amphora. Everything is gone after `with`, whatever has happened in between."""

    def __init__(self, topology: str = "SINGLE", *, options: str = "") -> None:
        token = secrets.token_hex(3)
        # Short, because unix sockets are below it, and readable, because data planes are no root.
        self.directory = Path(tempfile.mkdtemp(prefix=f"am{token}"))
        self.directory.chmod(0o755)
        self.tenant = f"tn{token}"
        self._token = token
        self._topology = topology
        self._options = options
        self._interfaces = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._cleanup = contextlib.ExitStack()
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> AmphoraRig:
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            stack.callback(self._delete_tenant)
            self.management = Namespace(f"mg{self._token}")
            stack.callback(self.management.delete)
            self.outside = Namespace(f"ou{self._token}")
            stack.callback(self.outside.delete)
            stack.callback(self._end_processes)
            self.outside.run("ip", "link", "add", "br0", "type", "bridge")
            self.outside.run("ip", "link", "set", "br0", "up")
            self.outside.run("ip", "address", "add", f"{OUTSIDE_IP}/24", "dev", "br0")
            self.identities = _identities()
            self._write_settings()
            self._notify = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            self._notify.bind(str(self.directory / "notify"))
            self._notify.settimeout(WAIT_S)
            self._log = stack.enter_context((self.directory / "log").open("ab"))
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_unused: object) -> None:
        self._cleanup.close()

    def _write_settings(self) -> None:
        directory = self.directory
        shutil.copy(self.identities.server, directory / "server.pem")
        self.file = directory / "agent.conf"
        self.file.write_text(
            f"[DEFAULT]\nuse_syslog = False\n"
            f"[haproxy_amphora]\nbase_path = {directory}/lib\nbase_cert_dir = {directory}/lib/certs\n"
            f"bind_host = ::\nbind_port = 9443\n"
            f"[health_manager]\ncontroller_ip_port_list = 127.0.0.1:5555\nheartbeat_interval = 1\nheartbeat_key = insecure\n"
            f"[amphora_agent]\nagent_server_ca = {self.identities.client_ca}\nagent_server_cert = {directory}/server.pem\n"
            f"agent_server_network_dir = {directory}/interfaces\namphora_id = {AMPHORA_ID}\n"
            f"[controller_worker]\nloadbalancer_topology = {self._topology}\n"
            f"[amphorad]\nnamespace = {self.tenant}\nstate_dir = {directory}/run\nuser = nobody\nthreads = 2\n"
            f"traffic_log = none\ngrace = 1\n{self._options}"
        )

    # --- the agent's process ---

    def start(self, **environment: str) -> None:
        """Starts the agent and waits for READY."""
        command = ["nsenter", f"--net=/run/netns/{self.management.name}", sys.executable, "-m", "amphorad", "agent"]
        self.process = subprocess.Popen(
            [*command, "--config-file", str(self.file)],
            stdout=self._log,
            stderr=self._log,
            env=os.environ | {"NOTIFY_SOCKET": str(self.directory / "notify")} | environment,
        )
        self._processes.append(self.process)
        try:
            self.wait_told("READY=1")
        except TimeoutError:
            raise AssertionError(f"the agent did not start:\n{self.log}") from None

    def reboot(self) -> None:
        """Everything dies at once, interfaces are where and what they were before, and what is no disk is empty. Starts nothing."""
        self._end_processes()
        for line in _run("ip", "-netns", self.tenant, "-brief", "link").splitlines():
            name = line.split()[0].partition("@")[0]
            if name != "lo":
                _run("ip", "-netns", self.tenant, "link", "set", name, "down")
                _run(
                    "ip",
                    "-netns",
                    self.tenant,
                    "link",
                    "set",
                    name,
                    "netns",
                    self.management.name,
                    "name",
                    f"ens{name}",
                )
        self._delete_tenant()
        shutil.rmtree(self.directory / "run")

    def wait_told(self, wanted: str) -> str:
        """Until the service manager is told that; gives the whole text."""
        while wanted not in (text := self._notify.recv(4096).decode()):
            pass
        return text

    def end(self, number: signal.Signals, within_s: float = WAIT_S) -> int:
        """Sends a signal and waits for the end; gives the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(within_s)

    @contextlib.contextmanager
    def killing(self, after_s: float) -> Iterator[None]:
        """SIGKILL for the agent that long after the beginning of the block, and its end with it."""
        process = self.process
        assert process is not None
        timer = threading.Timer(after_s, process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.join()
            process.wait(WAIT_S)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def status(self) -> AgentStatus:
        with Client(self.directory / "run" / "admin.sock") as client:
            found = client.any_status()
        assert isinstance(found, AgentStatus)
        return found

    def tenant_processes(self) -> dict[int, str]:
        """Processes that live in the tenant's namespace: pid -> command line."""
        try:
            listed = _run("ip", "netns", "pids", self.tenant).split()
        except subprocess.CalledProcessError:
            return {}
        found = {}
        for pid in map(int, listed):
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def tenant_addresses(self) -> str:
        """As `ip address` prints them."""
        return _run("ip", "-netns", self.tenant, "-brief", "address")

    # --- the controller ---

    def call(self, method: str, target: str, body: bytes | str | None = None, *, value: object = None) -> Answer:
        """One request over a new connection. `value` is sent as JSON."""
        data = json.dumps(value).encode() if value is not None else body.encode() if isinstance(body, str) else body
        context = ssl.create_default_context(cafile=str(self.identities.server_ca))
        context.load_cert_chain(self.identities.client)
        plain = self.management.call(lambda: socket.create_connection(("127.0.0.1", 9443), WAIT_S))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = http.client.HTTPSConnection("amphora", timeout=WAIT_S)
        with contextlib.closing(plain), contextlib.closing(connection):
            connection.sock = context.wrap_socket(plain, server_hostname=AMPHORA_ID)
            headers = {"Content-Type": "application/json"} if value is not None else {}
            began = time.perf_counter()
            connection.request(method, target, data, headers)
            response = connection.getresponse()
            content = response.read()
            return Answer(response.status, content, dict(response.getheaders()), time.perf_counter() - began)

    def plug_interface(self) -> str:
        """Hot-plugs an interface that leads to the outer network; gives its MAC address."""
        self._interfaces += 1
        inner, outer = f"i{self._token}{self._interfaces}", f"o{self._token}{self._interfaces}"
        mac = f"02:00:{self._token[:2]}:{self._token[2:4]}:{self._token[4:]}:{self._interfaces:02x}"
        self.outside.run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "address", mac)
        self.outside.run("ip", "link", "set", outer, "master", "br0", "up")
        self.outside.run("ip", "link", "set", inner, "netns", self.management.name)
        return mac

    def plug_vip(self) -> Answer:
        body = {"subnet_cidr": SUBNET, "gateway": OUTSIDE_IP, "mac_address": self.plug_interface(), "vrrp_ip": OWN_IP}
        return self.call("POST", f"/1.0/plug/vip/{VIP}", value=body)

    def upload(self, text: str, lb_id: str = LB_ID) -> Answer:
        return self.call("PUT", f"/1.0/loadbalancer/{AMPHORA_ID}/{lb_id}/haproxy", text)

    def act(self, action: str, lb_id: str = LB_ID) -> Answer:
        return self.call("PUT", f"/1.0/loadbalancer/{lb_id}/{action}")

    # --- the end ---

    def _end_processes(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for pid in self.tenant_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + WAIT_S
        while self.tenant_processes() and time.monotonic() < deadline:
            select.select([], [], [], 0.02)

    def _delete_tenant(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "netns", "delete", self.tenant)
