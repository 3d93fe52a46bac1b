from __future__ import annotations

import asyncio
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amphorad import messages, model
from amphorad.errors import ConfigError, NotSupportedYet


def members(persistence: model.SourceIp | model.AppCookie | model.HttpCookie | None = None) -> model.LoadBalancer:
    pool = model.Pool(
        id="pool",
        mode=model.Mode.HTTP,
        members=(model.Member(id="m", address="127.0.0.1", port=80, weight=3),),
        persistence=persistence,
        health_monitor=model.HealthMonitor(
            type=model.HealthMonitorType.HTTP, interval_s=5, timeout_s=3.0, rise=2, fall=3
        ),
        tls=model.MemberTls(versions=frozenset({"TLSv1.3"}), alpn=("h2", "http/1.1")),
    )
    rule = model.L7Rule(id="r", type=model.L7RuleType.PATH, compare=model.L7Compare.REGEX, value="^/", invert=True)
    listener = model.Listener(
        id="listener",
        mode=model.Mode.HTTP,
        binds=(model.Bind(address="::1", port=80),),
        pools=(pool,),
        default_pool="pool",
        policies=(model.L7Policy(action=model.L7Action.REJECT, rules=(rule,)),),
    )
    return model.LoadBalancer(id="lb", listeners=(listener,), threads=2)


@pytest.mark.parametrize(
    "persistence",
    [None, model.SourceIp(size=5), model.AppCookie(name="sid", value_limit=3), model.HttpCookie()],
    ids=["none", "source", "app-cookie", "http-cookie"],
)
def test_load_balancer_through_codec_comes_back_equal(
    persistence: model.SourceIp | model.AppCookie | model.HttpCookie | None,
) -> None:
    given_ = members(persistence)

    result = messages.decode_load_balancer(messages.encode_load_balancer(given_))

    assert result == given_
    assert type(result.listeners[0].pools[0].health_monitor.interval_s) is float  # type: ignore[union-attr]


names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)


@given(
    ids=st.lists(names, min_size=1, max_size=4, unique=True),
    weight=st.integers(0, 256),
    timeout_s=st.floats(0.001, 1e6),
    hsts=st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
    mode=st.sampled_from(model.Mode),
    reuse=st.sampled_from(model.ReusePolicy),
)
def test_load_balancer_of_any_content_comes_back_equal(
    ids: list[str],
    weight: int,
    timeout_s: float,
    hsts: str | None,
    mode: model.Mode,
    reuse: model.ReusePolicy,
) -> None:
    nodes = tuple(model.Member(id=name, address="10.0.0.1", port=1, weight=weight, backup=True) for name in ids)
    pools = tuple(
        model.Pool(id=name, mode=mode, members=nodes, timeout_connect_s=timeout_s, reuse=reuse) for name in ids
    )
    listener = model.Listener(id="l", mode=mode, binds=(), pools=pools, hsts=hsts, default_pool=ids[0])
    given_ = model.LoadBalancer(id="lb", listeners=(listener,))

    assert messages.decode_load_balancer(messages.encode_load_balancer(given_)) == given_


@pytest.mark.parametrize(
    "raw", [b"[]", b"{", b'{"id": 1}', b'{"id":"x","unknown":1}', b'{"id":"x","listeners":[{"mode":"udp"}]}', b"{}"]
)
def test_load_balancer_malformed_is_refused(raw: bytes) -> None:
    with pytest.raises(messages.MessageError):
        messages.decode_load_balancer(raw)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"type":"unknown"}', b"\xff\xfe", b'{"type":"stop","grace_s":"x"}'])
def test_decode_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(messages.MessageError):
        messages.decode(body)


@pytest.mark.parametrize("kind", [ConfigError, NotSupportedYet])
def test_refusal_of_error_gives_it_back(kind: type[ConfigError]) -> None:
    error = kind("no", file="f", line=3, word="w")

    result = messages.Refusal.of(error).error()

    assert type(result) is kind
    assert str(result) == str(error)


async def _pair() -> tuple[messages.Channel, messages.Channel]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return messages.Channel(left), messages.Channel(right)


@pytest.mark.asyncio
async def test_channel_message_longer_than_socket_buffer_arrives_whole() -> None:
    left, right = await _pair()
    alarm = messages.Alarm("x" * 3_000_000)

    _sent, received = await asyncio.gather(left.send(alarm), right.receive())

    assert received == alarm
    left.close()
    right.close()


@pytest.mark.asyncio
async def test_channel_many_descriptors_arrive_in_order_and_close_on_exec() -> None:
    left, right = await _pair()
    reading, writing = os.pipe()
    sent = (reading, writing) * 150  # two chunks
    try:
        await left.send(messages.Alarm("a"), sent)
        await left.send(messages.Alarm("b"))
        assert await right.receive() == messages.Alarm("a")
        assert await right.receive() == messages.Alarm("b")
        taken = right.take_descriptors(300)
    finally:
        os.close(reading)
        os.close(writing)

    assert [os.read(d, 0) if i % 2 == 0 else os.write(d, b"") for i, d in enumerate(taken)] == [b"", 0] * 150
    assert not any(os.get_inheritable(d) for d in taken)
    for descriptor in taken:
        os.close(descriptor)
    left.close()
    right.close()


@pytest.mark.asyncio
async def test_channel_descriptors_nobody_took_are_closed() -> None:
    left, right = await _pair()
    reading, writing = os.pipe()
    await left.send(messages.Alarm("a"), (reading, writing))
    os.close(reading)
    os.close(writing)
    await right.receive()

    with pytest.raises(messages.MessageError):
        right.take_descriptors(3)
    left.close()
    right.close()  # the leak fixture sees the rest


@pytest.mark.asyncio
async def test_channel_other_end_gone_is_closed_both_ways() -> None:
    left, right = await _pair()
    right.close()

    with pytest.raises(messages.Closed):
        await left.receive()
    with pytest.raises(messages.Closed):
        await left.send(messages.Stop(0))
    left.close()


@pytest.mark.asyncio
async def test_channel_frame_length_beyond_limit_is_refused() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    left.send(b"\xff\xff\xff\xff")
    channel = messages.Channel(right)

    with pytest.raises(messages.MessageError):
        await channel.receive()
    channel.close()
    left.close()


@pytest.mark.asyncio
async def test_channel_bytes_one_at_a_time_make_the_message() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    channel = messages.Channel(right)
    receiving = asyncio.ensure_future(channel.receive())

    for byte in messages.encode(messages.Pulse(3, 1)):
        left.send(bytes([byte]))
        await asyncio.sleep(0)

    assert await receiving == messages.Pulse(3, 1)
    channel.close()
    left.close()
