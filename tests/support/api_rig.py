"""A running agent API with stand-in services, and a client that says exactly what a test wants it to say on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11
import uvloop

from amphorad.agent.load_balancers import LoadBalancers
from amphorad.agent.settings import parse_settings
from amphorad.agent_api.server import AgentServer
from tests.support.api_services import Recorder, fake_services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from amphorad.agent_api.services import Services
    from tests.support.api_certificates import Identities

__all__ = ["ApiRig", "Reply", "served_api", "settings_text"]

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"].partition(";")[0] == "application/json", self.headers
        return json.loads(self.body)


@dataclass
class ApiRig:
    """A served API; `recorder` and `services` belong to the server's thread, look at them between calls."""

    directory: Path
    identities: Identities
    recorder: Recorder
    services: Services
    port: int
    loop: asyncio.AbstractEventLoop
    server: AgentServer

    @property
    def certificate_dir(self) -> Path:
        return self.directory / "certs"

    @property
    def config_file(self) -> Path:
        return self.directory / "agent.conf"

    @property
    def server_certificate(self) -> Path:
        return self.directory / "server.pem"

    def on_loop(self, function: Callable[[], Any]) -> Any:
        """Runs something in the server's thread."""

        async def run() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(TIMEOUT_S)

    def client_context(self, certificate: Path | None = None, **limits: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.identities.server_ca)
        if certificate is not None:
            context.load_cert_chain(certificate)
        for name, value in limits.items():
            setattr(context, name, value)
        return context

    @contextlib.contextmanager
    def connected(
        self, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", receive_buffer: int | None = None
    ) -> Iterator[ssl.SSLSocket]:
        """A TLS connection of the controller, unless another context is given."""
        context = context or self.client_context(self.identities.client)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as plain:
            plain.settimeout(TIMEOUT_S)
            if receive_buffer is not None:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            plain.connect((host, self.port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the controller's HTTP library does
            with context.wrap_socket(plain, server_hostname=self.identities.amphora_id) as connection:
                yield connection

    def call(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
        """One request; the target goes out as it is. A header `a_b` is sent as `a-b`."""
        head = [f"{method} {target} HTTP/1.1", "Host: amphora"]
        head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body is not None:
            head.append(f"Content-Length: {len(body)}")
        return self.say("\r\n".join([*head, "", ""]).encode() + (body or b""), method=method)

    def call_json(self, method: str, target: str, value: Any) -> Reply:
        return self.call(method, target, json.dumps(value).encode(), Content_Type="application/json")

    def say(self, raw: bytes, *, method: str = "GET") -> Reply:
        """Sends bytes and reads one answer."""
        with self.connected() as connection:
            with contextlib.suppress(OSError):
                connection.sendall(raw)
            return read_reply(connection, method)

    def say_once(self, raw: bytes) -> Reply | None:
        """Sends bytes that may be no whole request; one answer, or None when none comes soon."""
        with self.connected() as connection:
            connection.sendall(raw)
            connection.settimeout(0.05)
            try:
                return read_reply(connection)
            except (TimeoutError, h11.RemoteProtocolError):
                return None


def read_reply(connection: ssl.SSLSocket, method: str = "GET") -> Reply:
    """One answer, and the end of the connection after it."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    response: h11.Response | None = None
    body = bytearray()
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(connection.recv(65536))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
    assert response is not None
    headers = {name.decode().lower(): value.decode() for name, value in response.headers}
    return Reply(response.status_code, headers, bytes(body))


def settings_text(directory: Path, identities: Identities, **changes: str) -> str:
    """The controller's file for an agent of which everything lies in one directory."""
    values = {
        "bind_host": "::",
        "bind_port": "0",
        "agent_request_read_timeout": "2",
        "heartbeat_key": "insecure",
    } | changes
    return f"""[DEFAULT]
debug = False
[haproxy_amphora]
base_path = {directory}
base_cert_dir = {directory}/certs
bind_host = {values["bind_host"]}
bind_port = {values["bind_port"]}
[health_manager]
heartbeat_key = {values["heartbeat_key"]}
[amphora_agent]
agent_server_ca = {identities.client_ca}
agent_server_cert = {directory}/server.pem
agent_server_network_dir = {directory}/interfaces
agent_request_read_timeout = {values["agent_request_read_timeout"]}
amphora_id = {identities.amphora_id}
[amphorad]
state_dir = {directory}/run
user = nobody
threads = 1
traffic_log = none
"""


@contextlib.contextmanager
def served_api(
    directory: Path, identities: Identities, *, with_load_balancers: bool = False, **changes: str
) -> Iterator[ApiRig]:
    """Serves the API in a thread of its own, on uvloop as the agent does.

    Args:
        with_load_balancers: the real ones, with their data planes, outside of any namespace; the other parts are stand-ins.
        changes: options of the settings file.
    """
    (directory / "agent.conf").write_text(settings_text(directory, identities, **changes))
    (directory / "server.pem").write_bytes(identities.server.read_bytes())
    settings = parse_settings([(directory / "agent.conf", (directory / "agent.conf").read_text())])
    recorder = Recorder()
    services = fake_services(recorder)
    load_balancers = LoadBalancers(settings, isolated=False) if with_load_balancers else None
    if load_balancers is not None:
        services = dataclasses.replace(services, load_balancers=load_balancers)
    started: dict[str, Any] = {}
    ready = threading.Event()

    async def main() -> None:
        stop = asyncio.Event()
        server = AgentServer(settings, services)
        try:
            if load_balancers is not None:
                await load_balancers.restore()
            await server.start()
            started.update(server=server, loop=asyncio.get_running_loop(), stop=stop, port=server.address[1])
        finally:
            ready.set()
        await stop.wait()
        await server.close()
        if load_balancers is not None:
            await load_balancers.stop_all(0)

    thread = threading.Thread(target=lambda: uvloop.run(main()), name="agent-api")
    thread.start()
    try:
        assert ready.wait(TIMEOUT_S)
        assert started, "the API did not start"
        yield ApiRig(directory, identities, recorder, services, started["port"], started["loop"], started["server"])
    finally:
        if started:
            started["loop"].call_soon_threadsafe(started["stop"].set)
        thread.join(TIMEOUT_S * 3)
