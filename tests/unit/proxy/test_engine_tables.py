"""What the engine cannot carry out is refused, with the object and the reason."""

from __future__ import annotations

from typing import Any

import pytest

from amphorad.errors import ConfigError
from amphorad.model import HttpCookie, L7Action, L7Policy, Listener, Member, Mode, Pool
from amphorad.proxy.engine.engine import COOKIE_LIMIT_BYTES
from amphorad.proxy.engine_tables import require_listener_carried_out, require_pool_carried_out


def pool(mode: Mode = Mode.HTTP, **fields: Any) -> Pool:
    return Pool(id="p", mode=mode, **fields)


def listener(mode: Mode = Mode.HTTP, **fields: Any) -> Listener:
    return Listener(id="l", mode=mode, binds=(), **fields)


def member(**fields: Any) -> Member:
    return Member(id="m", address="127.0.0.1", port=80, **fields)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (listener(is_prometheus=True), "needs an exporter"),
        (listener(Mode.TCP, policies=(L7Policy(action=L7Action.REJECT, rules=()),)), "need an HTTP listener"),
        (listener(Mode.TCP, redirect_plain_to_https=True), "need an HTTP listener"),
        (listener(Mode.TCP, hsts="max-age=1"), "need an HTTP listener"),
    ],
)
def test_listener_that_cannot_be_carried_out_is_refused(given: Listener, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"listener l: .*{reason}"):
        require_listener_carried_out(given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (pool(Mode.TCP), "an HTTP listener needs HTTP pools"),
        (pool(persistence=HttpCookie(name="c" * (COOKIE_LIMIT_BYTES + 1))), "name and value have at most"),
        (
            pool(persistence=HttpCookie(name="c"), members=(member(cookie="v" * COOKIE_LIMIT_BYTES),)),
            "name and value have at most",
        ),
    ],
)
def test_pool_that_cannot_be_carried_out_is_refused(given: Pool, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"pool p.*: .*{reason}"):
        require_pool_carried_out(listener(), given)


def test_cookie_of_the_longest_name_and_value_is_carried_out() -> None:
    given = pool(persistence=HttpCookie(name="c"), members=(member(cookie="v" * (COOKIE_LIMIT_BYTES - 1)),))

    require_listener_carried_out(listener())
    require_pool_carried_out(listener(), given)


def test_cookies_are_refused_for_tcp_pools() -> None:
    with pytest.raises(ConfigError, match="cookies are for HTTP pools"):
        require_pool_carried_out(listener(Mode.TCP), pool(Mode.TCP, persistence=HttpCookie(name="c")))
