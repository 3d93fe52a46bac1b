"""One configuration for all candidates: what Octavia renders for a load balancer with one HTTP and three TCP listeners.

The text is rendered by the installed `octavia` package (its own templates) when there is one, else by `shape()`, which has
the same lines in the same order (Octavia contract sections 4.2 to 4.10). amphorad reads it as it is. HAProxy gets it without
what belongs to an amphora's file system and process manager (see `for_haproxy`). nginx gets the closest equivalent.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import uuid
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "KINDS",
    "VARIANTS",
    "Endpoint",
    "MemberPort",
    "for_haproxy",
    "for_nginx",
    "make_certificate",
    "make_endpoints",
    "member",
    "render",
    "shape",
]

KINDS = ("http", "echo", "answer", "bulk")
_LOAD_BALANCER = uuid.UUID("8a0d3ae2-42a7-4f4e-9c3c-0c1d2e3f4a5b")
_LIMITS = {"http": 5500, "https": 500, "echo": 500, "answer": 500, "bulk": 500}
VARIANTS = ("plain", "log", "rules", "cookie", "source", "tls", "tls-rsa")
"""What the HTTP listener has beyond the plain one: the traffic log, five L7 rules that do not match, SRV cookies, `stick on src`,
TLS with a P-256 or an RSA-2048 certificate."""
LOG_SOCKET = "/run/rsyslog/octavia/log"  # as the controller renders it
"""Connection limits: HAProxy needs twice the sum plus pipes as file descriptors, and must start with 20000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPort:
    """One member on 127.0.0.1."""

    name: str
    port: int
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One listener with its pool.

    Attributes:
        kind: http, https, echo, answer or bulk; all but http and https are TCP listeners.
        port: listening port on 127.0.0.1.
        members: pool members.
        monitored: the pool has a TCP monitor (every second, down after 2 failures, up after 1 success).
        crt_list: list of certificates of an https listener.
    """

    kind: str
    port: int
    members: tuple[MemberPort, ...]
    monitored: bool = False
    crt_list: Path | None = None

    @property
    def mode(self) -> str:
        """HAProxy mode of listener and pool."""
        return "http" if self.kind in ("http", "https") else "tcp"

    @property
    def listener_id(self) -> str:
        """Stable listener UUID."""
        return str(uuid.uuid5(_LOAD_BALANCER, f"listener {self.kind}"))

    @property
    def pool_id(self) -> str:
        """Stable pool UUID."""
        return str(uuid.uuid5(_LOAD_BALANCER, f"pool {self.kind}"))

    @property
    def limit(self) -> int:
        """Connection limit of the listener."""
        return _LIMITS[self.kind]


def member(kind: str, port: int, weight: int = 1) -> MemberPort:
    """A member with a UUID made from its kind and port."""
    return MemberPort(name=str(uuid.uuid5(_LOAD_BALANCER, f"member {kind} {port}")), port=port, weight=weight)


def make_endpoints(listen: dict[str, int], members: dict[str, list[int]]) -> tuple[Endpoint, ...]:
    """Endpoints for the kinds of `listen`, with listening port and member ports by kind."""
    return tuple(
        Endpoint(kind=kind, port=listen[kind], members=tuple(member(kind, port) for port in members[kind]))
        for kind in KINDS
        if kind in listen
    )


def shape(endpoints: Sequence[Endpoint], directory: Path, threads: int = 1) -> str:
    """The text Octavia 19 renders for such a load balancer, with connection logging off."""
    base = f"{directory}/{_LOAD_BALANCER}"
    lines = [
        f"# Configuration for loadbalancer {_LOAD_BALANCER}",
        "global",
        "    daemon",
        "    user nobody",
        "    log /run/rsyslog/octavia/log local0",
        "    log /run/rsyslog/octavia/log local1 notice",
        f"    stats socket {base}.sock mode 0666 level user",
        f"    server-state-file {base}/servers-state",
        f"    maxconn {sum(each.limit for each in endpoints)}",
    ]
    if threads > 1:
        # Octavia leaves CPU 0 to the system: N CPUs give N - 1 threads
        lines += [f"    nbthread {threads}", f"    cpu-map auto:1/1-{threads} 1-{threads}"]
    lines += [
        "",
        "defaults",
        "    no log",
        "    retries 3",
        "    option redispatch",
        "    option splice-request",
        "    option splice-response",
        "    option http-keep-alive",
        "",
    ]
    for each in endpoints:
        lines += _frontend(each)
        lines += _backend(each)
    return "\n".join(lines) + "\n"


def _frontend(endpoint: Endpoint) -> list[str]:
    return [
        "",
        f"frontend {endpoint.listener_id}",
        f"    maxconn {endpoint.limit}",
        *(
            [f"    bind 127.0.0.1:{endpoint.port}"]
            if endpoint.crt_list is None
            else _tls_bind(endpoint, endpoint.crt_list)
        ),
        f"    mode {endpoint.mode}",
        f"    default_backend {endpoint.pool_id}:{endpoint.listener_id}",
        "    timeout client 50000",
    ]


def _tls_bind(endpoint: Endpoint, crt_list: Path) -> list[str]:
    """What Octavia renders for TERMINATED_HTTPS."""
    options = f"ssl crt-list {crt_list} no-sslv3 no-tlsv10 no-tlsv11 alpn h2,http/1.1"
    return ["    redirect scheme https if !{ ssl_fc }", f"    bind 127.0.0.1:{endpoint.port} {options}"]


def make_certificate(pem: Path, *, rsa: bool = False) -> None:
    """A self-signed certificate and its key, in place of what was there."""
    key = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    new = pem.with_suffix(".new")
    command = ["openssl", "req", "-x509", "-newkey", *key, "-nodes", "-subj", "/CN=bench.local", "-days", "30"]
    done = subprocess.run([*command, "-keyout", str(new)], capture_output=True, check=True)
    new.write_bytes(done.stdout + new.read_bytes())
    new.replace(pem)


def _backend(endpoint: Endpoint) -> list[str]:
    http = endpoint.mode == "http"
    check = " check inter 1s fall 2 rise 1" if endpoint.monitored else ""
    return [
        "",
        f"backend {endpoint.pool_id}:{endpoint.listener_id}",
        f"    mode {endpoint.mode}",
        *(["    http-reuse safe"] if http else []),
        "    balance roundrobin",
        *(["    load-server-state-from-file global", "    timeout check 1s"] if endpoint.monitored else []),
        *(["    option forwardfor"] if http else []),
        f"    fullconn {endpoint.limit}",
        "    option allbackups",
        "    timeout connect 5000",
        "    timeout server 50000",
        *(f"    server {each.name} 127.0.0.1:{each.port} weight {each.weight}{check}" for each in endpoint.members),
    ]


def render(endpoints: Sequence[Endpoint], directory: Path, variant: str = "plain") -> tuple[str, str]:
    """The configuration text and where it comes from: Octavia's own templates, or `shape` without that package.

    Raises:
        RuntimeError: another variant than the plain one needs the package.
    """
    try:
        version = importlib.metadata.version("octavia")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # octavia's dependencies announce their own future
            octavia = importlib.import_module("tests.support.octavia_render")
            listeners = [_octavia_listener(octavia, each, variant) for each in endpoints]
            text: str = octavia.render_load_balancer(
                listeners, lb_id=str(_LOAD_BALANCER), vip="127.0.0.1", connection_logging=variant == "log"
            )
    except ImportError as error:  # PackageNotFoundError is one
        if variant != "plain":
            msg = f"variant {variant} needs the octavia package"
            raise RuntimeError(msg) from error
        return shape(endpoints, directory), "checked-in text with the lines of Octavia 19"
    # nothing outside the run's own folder may be touched
    if variant.startswith("tls"):
        text = _over_tls(text, endpoints, directory, variant)
    text = text.replace("/var/lib/octavia", str(directory)).replace(LOG_SOCKET, str(directory.parent / "log.sock"))
    return text, f"rendered by octavia {version}"


_PERSISTENCE = {"cookie": "HTTP_COOKIE", "source": "SOURCE_IP"}


def _over_tls(text: str, endpoints: Sequence[Endpoint], directory: Path, variant: str) -> str:
    """The HTTP listener with what Octavia renders for TERMINATED_HTTPS, and a certificate made here."""
    pem, crt_list = directory / "certificate.pem", directory / "list.pem"
    make_certificate(pem, rsa=variant == "tls-rsa")
    crt_list.write_text(f"{pem}\n")
    for each in endpoints:
        if each.mode == "http":
            text = text.replace(f"    bind 127.0.0.1:{each.port}\n", "\n".join((*_tls_bind(each, crt_list), "")))
    return text


def _five_rules(octavia: Any) -> list[Any]:
    """Five policies of one rule each that no request of the load matches."""
    rules = [
        octavia.make_rule("HOST_NAME", "EQUAL_TO", "other.local"),
        octavia.make_rule("PATH", "STARTS_WITH", "/private"),
        octavia.make_rule("HEADER", "CONTAINS", "robot", key="User-Agent"),
        octavia.make_rule("COOKIE", "EQUAL_TO", "yes", key="blocked"),
        octavia.make_rule("PATH", "REGEX", "^/(admin|setup)/[0-9]+"),
    ]
    return [octavia.make_policy("REJECT", [rule]) for rule in rules]


def _octavia_listener(octavia: Any, endpoint: Endpoint, variant: str) -> Any:
    protocol = endpoint.mode.upper()
    variant = variant if protocol == "HTTP" else "plain"
    members = [
        octavia.make_member("127.0.0.1", each.port, weight=each.weight, id=each.name) for each in endpoint.members
    ]
    return octavia.make_listener(
        protocol,
        endpoint.port,
        default_pool=octavia.make_pool(
            protocol, members=members, id=endpoint.pool_id, persistence=_PERSISTENCE.get(variant)
        ),
        policies=_five_rules(octavia) if variant == "rules" else [],
        id=endpoint.listener_id,
        connection_limit=endpoint.limit,
        insert_headers={"X-Forwarded-For": "true"} if protocol == "HTTP" else {},
        timeout_client_data=50000,
        timeout_member_connect=5000,
        timeout_member_data=50000,
        timeout_tcp_inspect=0,
    )


_AMPHORA_ONLY = ("daemon", "user ", "log ", "stats socket ", "server-state-file ", "nbthread ", "cpu-map ")


def for_haproxy(text: str, threads: int) -> str:
    """The same text for a HAProxy that runs in the foreground on this machine.

    Left out of `global`: daemon, user, log targets, stats socket, state file, CPU map (pinning is done from outside); put
    in: the wanted number of threads. From `defaults` on, only the state file's use goes.
    """
    head, mark, rest = text.partition("\ndefaults\n")
    logs = "no log" not in rest
    kept = [
        line
        for line in head.splitlines()
        if not line.strip().startswith(_AMPHORA_ONLY) or (logs and line.strip().startswith("log "))
    ]
    rest = rest.replace("    load-server-state-from-file global\n", "")
    return "\n".join([*kept, f"    nbthread {threads}", "", ""]) + mark.lstrip("\n") + rest


_NGINX = """\
{modules}user {user};
daemon off;
master_process on;
worker_processes {threads};
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log warn;
events {{
    worker_connections 16000;
}}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    server_tokens off;
    keepalive_timeout 50s;
    keepalive_requests 100000000;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
{http}}}
{stream}"""


def for_nginx(
    endpoints: Sequence[Endpoint], directory: Path, *, threads: int, files: int, module: str | None, user: str = "root"
) -> str:
    """The closest nginx configuration.

    Same members, round robin, timeouts and X-Forwarded-For; 128 kept member connections per worker; no request limit per
    connection; no response bodies on disk (a load balancer holds the member back instead, as HAProxy does).

    Args:
        module: path of the stream module when it has to be loaded; None when nginx has no TCP proxy, then the TCP
            endpoints are left out.
        user: worker identity.
    """
    http = "".join(_nginx_http(each) for each in endpoints if each.mode == "http")
    tcp = [each for each in endpoints if each.mode == "tcp"] if module is not None else []
    stream = "stream {\n" + "".join(_nginx_stream(each) for each in tcp) + "}\n" if tcp else ""
    modules = f"load_module {module};\n" if module else ""
    return _NGINX.format(
        modules=modules, user=user, threads=threads, files=files, directory=directory, http=http, stream=stream
    )


def _nginx_members(endpoint: Endpoint) -> str:
    return "".join(f"        server 127.0.0.1:{each.port} weight={each.weight};\n" for each in endpoint.members)


def _nginx_http(endpoint: Endpoint) -> str:
    return f"""\
    upstream members {{
{_nginx_members(endpoint)}        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{endpoint.port} backlog=4096;
        location / {{
            proxy_pass http://members;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_connect_timeout 5s;
            proxy_read_timeout 50s;
            proxy_send_timeout 50s;
            proxy_max_temp_file_size 0;
            client_max_body_size 0;
        }}
    }}
"""


def _nginx_stream(endpoint: Endpoint) -> str:
    return f"""\
    upstream {endpoint.kind} {{
{_nginx_members(endpoint)}    }}
    server {{
        listen 127.0.0.1:{endpoint.port} backlog=4096;
        proxy_pass {endpoint.kind};
        proxy_connect_timeout 5s;
        proxy_timeout 50s;
        tcp_nodelay on;
    }}
"""
