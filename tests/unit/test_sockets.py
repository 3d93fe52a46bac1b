from __future__ import annotations

import socket

import pytest

from amphorad.errors import ListenError
from amphorad.model import Bind, Listener, LoadBalancer, Mode
from amphorad.sockets import ListeningSockets, open_listening_socket


def free_port(family: int = socket.AF_INET, address: str = "127.0.0.1") -> int:
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def listener(*ports: int, name: str = "web", mode: Mode = Mode.HTTP, address: str = "127.0.0.1") -> Listener:
    return Listener(id=name, mode=mode, binds=tuple(Bind(address=address, port=port) for port in ports))


def balancer(*listeners: Listener) -> LoadBalancer:
    return LoadBalancer(id="lb", listeners=listeners)


def test_open_http_listener_has_its_options() -> None:
    with open_listening_socket(listener(), Bind(address="127.0.0.1", port=0)) as listening:
        option = listening.getsockopt
        assert not listening.getblocking()
        assert not listening.get_inheritable()
        assert option(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert option(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        assert option(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert option(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) >= 1


def test_open_tcp_listener_does_not_wait_for_data() -> None:
    with open_listening_socket(listener(mode=Mode.TCP), Bind(address="127.0.0.1", port=0)) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) == 0


def test_open_ipv6_leaves_the_port_of_ipv4_free() -> None:
    port = free_port(socket.AF_INET6, "::1")
    with (
        open_listening_socket(listener(), Bind(address="::", port=port)) as six,
        open_listening_socket(listener(), Bind(address="0.0.0.0", port=port)) as four,
    ):
        assert six.getsockname()[1] == four.getsockname()[1]


def test_open_taken_port_names_listener_address_port_and_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError) as error:
            open_listening_socket(listener(), Bind(address="127.0.0.1", port=port))

    text = str(error.value)
    assert "web" in text
    assert f"127.0.0.1 port {port}" in text
    assert "Address already in use" in text


def test_open_absent_address_needs_free_bind() -> None:
    bind = Bind(address="203.0.113.7", port=0)

    with pytest.raises(ListenError, match="Cannot assign requested address"):
        open_listening_socket(listener(), bind)
    with open_listening_socket(listener(), bind, free_bind=True) as listening:
        assert listening.getsockname()[0] == "203.0.113.7"


def test_open_name_for_an_address_is_refused() -> None:
    with pytest.raises(ListenError, match="listener web"):
        open_listening_socket(listener(), Bind(address="localhost", port=0))


def test_prepare_one_taken_opens_none() -> None:
    sockets = ListeningSockets()
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ListenError):
        sockets.prepare(balancer(listener(free, taken.getsockname()[1])))

    assert len(sockets) == 0
    with socket.create_server(("127.0.0.1", free)):
        pass


def test_commit_keeps_unchanged_and_closes_removed() -> None:
    sockets = ListeningSockets()
    kept, removed, added = free_port(), free_port(), free_port()
    first = balancer(listener(kept, removed))
    second = balancer(listener(kept, added))
    assert sockets.prepare(first) == 2
    sockets.commit(first)
    before = dict(sockets.of(first))

    assert sockets.prepare(second) == 1
    assert sockets.commit(second) == 1

    after = dict(sockets.of(second))
    key = ("web", Bind(address="127.0.0.1", port=kept))
    assert after[key] == before[key]
    assert len(sockets) == 2
    sockets.close()


def test_port_that_changes_its_listener_keeps_its_socket() -> None:
    sockets = ListeningSockets()
    port = free_port()
    first, second = balancer(listener(port)), balancer(listener(port, name="other", mode=Mode.TCP))
    sockets.prepare(first)
    sockets.commit(first)
    before = list(dict(sockets.of(first)).values())

    assert sockets.prepare(second) == 0
    sockets.commit(second)

    assert list(dict(sockets.of(second)).values()) == before
    duplicate = socket.socket(fileno=socket.dup(before[0]))
    with duplicate:
        assert duplicate.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) == 0
    sockets.close()


def test_refuse_holds_for_copies_in_other_processes_too() -> None:
    sockets = ListeningSockets()
    port = free_port()
    first = balancer(listener(port))
    sockets.prepare(first)
    sockets.commit(first)
    copy = socket.socket(fileno=socket.dup(next(iter(dict(sockets.of(first)).values()))))

    sockets.refuse()
    sockets.close()

    with copy, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_roll_back_closes_only_what_was_new() -> None:
    sockets = ListeningSockets()
    port, added = free_port(), free_port()
    first = balancer(listener(port))
    sockets.prepare(first)
    sockets.commit(first)

    sockets.prepare(balancer(listener(port, added)))
    sockets.roll_back()

    assert [bind.port for (_id, bind), _fd in sockets.of(first)] == [port]
    with socket.create_server(("127.0.0.1", added)):
        pass
    sockets.close()
